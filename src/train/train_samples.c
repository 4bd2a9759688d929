#include <inttypes.h>

#include "base/file.h"
#include "diffusion/sampler.h"
#include "train/train_log.h"

enum { MOST_CLASSES = 16, MOST_STEPS = 25 };

static int least(int a, int b) {
    return a < b ? a : b;
}

// Pictures side by side: `rows` by `columns` images (C, S, S) in [-1, 1]; of other than 1 or 3 channels the first 3 (or
// 1).
static KinditStatus build_montage(Image *out, KinditContext *ctx, const float *images, int rows, int columns,
                                  int channels, int size) {
    const int shown = channels >= 3 ? 3 : 1;
    const size_t row = (size_t)columns * (size_t)size * (size_t)shown, length = (size_t)size * (size_t)shown;
    uint8_t *pixels = NULL; // of one image, all channels
    TRY(image_alloc(out, ctx, columns * size, rows * size, shown));
    KinditStatus status = memory_alloc(ctx, (size_t)size * (size_t)size, (size_t)channels, &pixels);
    for (int i = 0; !status && i < rows * columns; i++) {
        sampler_to_pixels(images + (size_t)i * (size_t)channels * (size_t)size * (size_t)size, 1, channels, size,
                          pixels);
        for (int y = 0; y < size; y++) {
            uint8_t *to = out->pixels + (size_t)(i / columns * size + y) * row + (size_t)(i % columns) * length;
            for (int x = 0; x < size; x++)
                for (int c = 0; c < shown; c++) *to++ = pixels[(y * size + x) * channels + c];
        }
    }
    memory_free(&pixels);
    if (status) image_close(out);
    return status;
}

static KinditStatus show(TrainLog *log, const float *images, int rows, int columns, const DitConfig *config,
                         int64_t step) {
    char path[1024];
    Image grid;
    TRY(file_path(path, log->ctx, "%s/samples", log->run));
    TRY(file_make_folder(log->ctx, path));
    TRY(file_path(path, log->ctx, "%s/samples/step-%" PRId64 ".png", log->run, step));
    TRY(build_montage(&grid, log->ctx, images, rows, columns, config->channels, config->image_size));
    KinditStatus status = image_write_png(log->ctx, path, &grid);
    if (!status) status = tensorboard_add_image(log->board, log->ctx, "samples", step, &grid);
    if (!status) status = tensorboard_flush(log->board, log->ctx);
    image_close(&grid);
    return status;
}

// Images (rows * columns, C, S, S) of the averaged model.
static KinditStatus draw(TrainLog *log, const Model *model, const Optimizer *optimizer, bool latents, int rows,
                         int columns, int *labels, float *images) {
    const TrainSettings *settings = log->settings;
    const int n = rows * columns;
    SamplerSettings sampler = sampler_settings_default();
    sampler.method = SAMPLER_DDIM;
    sampler.steps = least(settings->diffusion_steps, MOST_STEPS);
    sampler.clip = !latents;
    sampler.seed = settings->seed;
    for (int i = 0; i < n; i++) labels[i] = i / columns;

    Model average = *model; // a view: the same structure, other weights
    TRY(params_alloc(&average.params, model->engine, log->ctx, optimizer->layout, model->params.n_classes));
    optimizer_read_ema(optimizer, &model->params, &average.params);
    KinditStatus status = sampler_run(&average, &sampler, 0, n, labels, images);
    params_close(&average.params);
    return status;
}

KinditStatus train_log_samples(TrainLog *log, const Model *model, const Optimizer *optimizer, bool latents) {
    const DitConfig *config = &model->dit->config;
    const int fit = IMAGE_MAX_SIDE / config->image_size; // pictures side by side
    const int rows = least(least(config->n_classes, MOST_CLASSES), fit);
    const int columns = least(log->settings->sample_per_class, fit);
    const size_t n = (size_t)rows * (size_t)columns;
    const size_t size = (size_t)config->channels * (size_t)config->image_size * (size_t)config->image_size;
    int *labels = NULL;
    float *images = NULL;
    KinditStatus status = memory_alloc(log->ctx, n, sizeof *labels, &labels);
    if (!status) status = memory_alloc(log->ctx, n, size * sizeof *images, &images);
    if (!status) status = draw(log, model, optimizer, latents, rows, columns, labels, images);
    if (!status) status = show(log, images, rows, columns, config, optimizer->step);
    memory_free(&images);
    memory_free(&labels);
    return status;
}
