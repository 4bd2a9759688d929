#include "cli/sample_check.h"

#include "diffusion/sampler.h"
#include "metrics/nearest.h"

static KinditStatus check_shape(const Model *model, const Dataset *dataset) {
    const DitConfig *config = &model->dit->config;
    if (!dataset->latents && dataset->size == config->image_size && dataset->channels == config->channels)
        return KINDIT_OK;
    return context_fail(model->ctx, KINDIT_ERROR_ARGUMENT,
                        "%s: expected images of %d x %d, %d channels, as the model draws", dataset->path,
                        config->image_size, config->image_size, config->channels);
}

static KinditStatus choose_labels(SampleCheck *check, const Model *model) {
    for (int c = 0; c < check->n_classes; c++) {
        const int found = dataset_find_class(check->dataset, model->classes[c].id);
        if (found < 0)
            return context_fail(model->ctx, KINDIT_ERROR_ARGUMENT, "%s: has no class \"%s\", which the model draws",
                                check->dataset->path, model->classes[c].id);
        for (int i = 0; i < check->n_per_class; i++) {
            check->labels[c * check->n_per_class + i] = c;
            check->dataset_labels[c * check->n_per_class + i] = found;
        }
    }
    return KINDIT_OK;
}

static KinditStatus check_alloc(SampleCheck *check, const Model *model) {
    const DitConfig *config = &model->dit->config;
    const size_t image = (size_t)config->channels * (size_t)config->image_size * (size_t)config->image_size;
    const int64_t n = (int64_t)check->n_classes * check->n_per_class;
    KinditContext *ctx = model->ctx;
    if (n < 1 || n > INT32_MAX)
        return context_fail(ctx, KINDIT_ERROR_ARGUMENT, "%lld samples of a model cannot be", (long long)n);
    check->n = (int)n;
    TRY(check_shape(model, check->dataset));
    TRY(memory_alloc(ctx, (size_t)n, sizeof *check->labels, &check->labels));
    TRY(memory_alloc(ctx, (size_t)n, sizeof *check->dataset_labels, &check->dataset_labels));
    TRY(memory_alloc(ctx, (size_t)n, image * sizeof *check->images, &check->images));
    TRY(memory_alloc(ctx, (size_t)n, image, &check->pixels));
    return choose_labels(check, model);
}

KinditStatus sample_check_open(SampleCheck *out, const Model *model, const Dataset *dataset, int n_per_class) {
    *out = (SampleCheck){.dataset = dataset, .n_classes = model->dit->config.n_classes, .n_per_class = n_per_class};
    KinditStatus status = check_alloc(out, model);
    if (status) sample_check_close(out);
    return status;
}

void sample_check_close(SampleCheck *check) {
    memory_free(&check->labels);
    memory_free(&check->dataset_labels);
    memory_free(&check->images);
    memory_free(&check->pixels);
    *check = (SampleCheck){0};
}

KinditStatus sample_check_run(SampleCheck *check, const Model *model, double *accuracy) {
    const DitConfig *config = &model->dit->config;
    SamplerSettings sampling = sampler_settings_default();
    NearestResult result = {0};
    sampling.method = SAMPLER_DDIM;
    sampling.steps = 25;
    TRY(sampler_run(model, &sampling, 0, check->n, check->labels, check->images));
    sampler_to_pixels(check->images, check->n, config->channels, config->image_size, check->pixels);
    TRY(nearest_measure(&result, model->ctx, model->engine, check->dataset, check->dataset->train, check->n,
                        check->pixels, check->dataset_labels));
    *accuracy = (double)result.correct / (double)result.n;
    nearest_close(&result);
    return KINDIT_OK;
}
