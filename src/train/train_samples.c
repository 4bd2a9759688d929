#include <inttypes.h>
#include <string.h>

#include "base/file.h"
#include "diffusion/sampler.h"
#include "formats/grid.h"
#include "train/train_log.h"

enum { MOST_CLASSES = 16, MOST_STEPS = 25 };

static int least(int a, int b) {
    return a < b ? a : b;
}

// pixels (n, shown) = the first `shown` channels of images (n, C, S, S): latents have more than a picture can hold.
static KinditStatus to_pixels(uint8_t **pixels, KinditContext *ctx, const float *images, int n, const DitConfig *config,
                              int shown) {
    const size_t plane = (size_t)config->image_size * (size_t)config->image_size, channels = (size_t)config->channels;
    TRY(memory_alloc(ctx, (size_t)n * plane, channels, pixels));
    sampler_to_pixels(images, n, config->channels, config->image_size, *pixels);
    for (size_t i = 0; i < (size_t)n * plane; i++)
        memmove(*pixels + i * (size_t)shown, *pixels + i * channels, (size_t)shown);
    return KINDIT_OK;
}

// The images as a grid, a captioned row for each class.
static KinditStatus draw_grid(Image *out, KinditContext *ctx, const Model *model, const float *images, int rows,
                              int columns) {
    const DitConfig *config = &model->dit->config;
    const char *captions[MOST_CLASSES];
    uint8_t *pixels = NULL;
    Grid grid = {.size = config->image_size,
                 .channels = config->channels >= 3 ? 3 : 1,
                 .n_rows = rows,
                 .n_columns = columns,
                 .captions = captions};
    for (int i = 0; i < rows; i++) captions[i] = model->classes[i].name;
    KinditStatus status = to_pixels(&pixels, ctx, images, rows * columns, config, grid.channels);
    grid.pixels = pixels;
    if (!status) status = grid_draw(out, ctx, &grid);
    memory_free(&pixels);
    return status;
}

static KinditStatus show(TrainLog *log, const Model *model, const float *images, int rows, int columns, int64_t step) {
    char path[1024];
    Image grid;
    TRY(file_path(path, log->ctx, "%s/samples", log->run));
    TRY(file_make_folder(log->ctx, path));
    TRY(file_path(path, log->ctx, "%s/samples/step-%" PRId64 ".png", log->run, step));
    TRY(draw_grid(&grid, log->ctx, model, images, rows, columns));
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
    const int rows = least(config->n_classes, MOST_CLASSES), columns = log->settings->sample_per_class;
    const size_t n = (size_t)rows * (size_t)columns;
    const size_t size = (size_t)config->channels * (size_t)config->image_size * (size_t)config->image_size;
    int *labels = NULL;
    float *images = NULL;
    KinditStatus status = memory_alloc(log->ctx, n, sizeof *labels, &labels);
    if (!status) status = memory_alloc(log->ctx, n, size * sizeof *images, &images);
    if (!status) status = draw(log, model, optimizer, latents, rows, columns, labels, images);
    if (!status) status = show(log, model, images, rows, columns, optimizer->step);
    memory_free(&images);
    memory_free(&labels);
    return status;
}
