#include "train/heldout.h"

#include "data/loader.h"
#include "diffusion/sampler.h"
#include "train/train_step.h"

typedef struct Heldout {
    KinditContext *ctx;
    Engine *engine;
    int n, batch;
    size_t size; // floats of a sample
    Schedule schedule;
    TrainStep step;
    Loader loader;
    float *x0, *noise; // (batch, C, S, S) engine memory
    RngKey *keys;      // [batch]
    int *t, *labels;   // [batch]
} Heldout;

static KinditStatus check_dataset(const Model *model, const Dataset *dataset) {
    const DitConfig *config = &model->dit->config;
    if (dataset->n_classes != config->n_classes || dataset->size != config->image_size ||
        dataset->channels != config->channels)
        return context_fail(model->ctx, KINDIT_ERROR_ARGUMENT,
                            "%.400s: expected %d classes of %d x %d images with %d channels, as the model has; found "
                            "%d of %d x %d with %d",
                            dataset->path, config->n_classes, config->image_size, config->image_size, config->channels,
                            dataset->n_classes, dataset->size, dataset->size, dataset->channels);
    if (dataset->heldout.count > 0) return KINDIT_OK;
    return context_fail(model->ctx, KINDIT_ERROR_ARGUMENT,
                        "%.400s: has no held-out images to measure on: make the data set again with --heldout 0.1",
                        dataset->path);
}

static KinditStatus heldout_open(Heldout *heldout, Model *model, const Dataset *dataset) {
    const DitConfig *config = &model->dit->config;
    const size_t batch = (size_t)heldout->batch;
    KinditContext *ctx = heldout->ctx;
    heldout->size = (size_t)config->channels * (size_t)config->image_size * (size_t)config->image_size;
    TRY(check_dataset(model, dataset));
    TRY(sampler_schedule(&heldout->schedule, model));
    TRY(train_step_create(&heldout->step, model, &heldout->schedule, heldout->batch, 1, (DitMode){0}));
    TRY(loader_create(&heldout->loader, ctx, dataset, dataset->heldout, 0, heldout->batch));
    TRY(engine_alloc(heldout->engine, batch * heldout->size, &heldout->x0));
    TRY(engine_alloc(heldout->engine, batch * heldout->size, &heldout->noise));
    TRY(memory_alloc(ctx, batch, sizeof *heldout->keys, &heldout->keys));
    TRY(memory_alloc(ctx, batch, sizeof *heldout->t, &heldout->t));
    return memory_alloc(ctx, batch, sizeof *heldout->labels, &heldout->labels);
}

static void heldout_close(Heldout *heldout) {
    memory_free(&heldout->labels);
    memory_free(&heldout->t);
    memory_free(&heldout->keys);
    engine_free(heldout->engine, &heldout->noise);
    engine_free(heldout->engine, &heldout->x0);
    loader_close(&heldout->loader);
    train_step_close(&heldout->step);
    schedule_close(&heldout->schedule);
}

// Samples first .. first + n - 1, added to the sums in *out.
static void measure_batch(Heldout *heldout, int first, int n, HeldoutLoss *out) {
    loader_read(&heldout->loader, heldout->engine, first, n, heldout->x0, heldout->labels);
    for (int i = 0; i < n; i++) {
        const int64_t k = first + i;
        heldout->t[i] = (int)((2 * k + 1) * heldout->schedule.n / (2 * (int64_t)heldout->n));
        heldout->keys[i] = (RngKey){.sample = (uint64_t)k, .purpose = RNG_HELDOUT};
    }
    engine_fill_normal(heldout->engine, n, heldout->size, heldout->keys, heldout->noise);
    train_step_measure(&heldout->step, heldout->x0, heldout->noise, heldout->t, heldout->labels, n);
    for (int i = 0; i < n; i++) {
        out->mse += heldout->step.mse[i] / heldout->n;
        out->vlb += heldout->step.vlb[i] / heldout->n;
    }
}

KinditStatus heldout_measure(HeldoutLoss *out, Model *model, const Dataset *dataset, int n, int batch) {
    Heldout heldout = {.ctx = model->ctx, .engine = model->engine, .n = n, .batch = batch < n ? batch : n};
    *out = (HeldoutLoss){0};
    KinditStatus status = heldout_open(&heldout, model, dataset);
    for (int first = 0; first < n && !status; first += heldout.batch) {
        const int left = n - first;
        measure_batch(&heldout, first, left < heldout.batch ? left : heldout.batch, out);
        if (context_cancelled(model->ctx))
            status = context_fail(model->ctx, KINDIT_CANCELLED, "measuring held-out images was stopped");
    }
    heldout_close(&heldout);
    return status;
}
