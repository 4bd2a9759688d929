#include <string.h>

#include "api/internal.h"
#include "formats/grid.h"

enum { CHUNK_BYTES = 1 << 28 }; // of images held between drawing and handing over

KinditSampleSettings kindit_sample_settings_default(void) {
    SamplerSettings sampler = sampler_settings_default();
    return (KinditSampleSettings){
        .n_per_class = 8,
        .sampler = sampler.method == SAMPLER_DDIM ? KINDIT_DDIM : KINDIT_DDPM,
        .steps = sampler.steps,
        .eta = sampler.eta,
        .guidance = sampler.guidance,
        .guide_first_3 = sampler.guided == GUIDANCE_FIRST_3,
        .clip = sampler.clip,
        .seed = sampler.seed,
        .batch = sampler.batch,
    };
}

// What is to be drawn: which classes, and room for a chunk of images.
typedef struct Drawing {
    const Model *model;
    SamplerSettings sampler;
    bool has_pixels;
    int *classes; // [n_classes], indices into the model's
    int n_classes, n_per_class;
    int64_t total;
    int chunk;       // images
    size_t image;    // elements of one
    int *labels;     // [chunk]
    float *values;   // (chunk, C, S, S)
    uint8_t *pixels; // (chunk, S, S, C)
} Drawing;

static void drawing_close(Drawing *drawing) {
    memory_free(&drawing->classes);
    memory_free(&drawing->labels);
    memory_free(&drawing->values);
    memory_free(&drawing->pixels);
}

// Resolves "a,b" against the model's classes.
static KinditStatus find_classes(Drawing *drawing, KinditContext *ctx, const char *text) {
    const Model *model = drawing->model;
    while (*text) {
        char wanted[MODEL_CLASS_WANTED_SIZE];
        size_t length = strcspn(text, ",");
        int found = model_classes_find_part(model->classes, model->dit->config.n_classes, text, length, wanted);
        if (found < 0)
            return context_fail(ctx, KINDIT_ERROR_ARGUMENT,
                                "the model has no class '%.64s'; see its classes with `kindit info`", wanted);
        if (drawing->n_classes >= model->dit->config.n_classes)
            return context_fail(ctx, KINDIT_ERROR_ARGUMENT, "a class is named twice in the list of classes");
        drawing->classes[drawing->n_classes++] = found;
        text += length + (text[length] == ',');
    }
    return KINDIT_OK;
}

static KinditStatus choose_classes(Drawing *drawing, KinditContext *ctx, const char *classes) {
    int n = drawing->model->dit->config.n_classes;
    if (n == 0 && (!drawing->sampler.no_tailors || drawing->sampler.keep_label_rows))
        return context_fail(ctx, KINDIT_ERROR_ARGUMENT,
                            "the model has no classes, being a learngene without tailors: draw it with no tailors");
    if (n == 0) n = 1; // a row of no class
    TRY(memory_alloc(ctx, (size_t)n, sizeof *drawing->classes, &drawing->classes));
    if (classes) return find_classes(drawing, ctx, classes);
    for (int i = 0; i < n; i++) drawing->classes[i] = i;
    drawing->n_classes = n;
    return KINDIT_OK;
}

// What is to be drawn, without room for it yet.
static KinditStatus drawing_choose(Drawing *drawing, KinditContext *ctx, const KinditSampleSettings *settings) {
    const DitConfig *config = &drawing->model->dit->config;
    if (settings->n_per_class < 1)
        return context_fail(ctx, KINDIT_ERROR_ARGUMENT, "n_per_class is %d, expected at least 1",
                            settings->n_per_class);
    drawing->has_pixels = config->channels == 1 || config->channels == 3;
    drawing->sampler = sampler_settings_from(settings);
    drawing->sampler.clip &= drawing->has_pixels;
    TRY(choose_classes(drawing, ctx, settings->classes));
    drawing->n_per_class = settings->n_per_class;
    drawing->total = (int64_t)drawing->n_classes * settings->n_per_class;
    drawing->image = (size_t)config->channels * (size_t)config->image_size * (size_t)config->image_size;
    return settings->batch < 1
               ? context_fail(ctx, KINDIT_ERROR_ARGUMENT, "batch is %d, expected at least 1", settings->batch)
               : KINDIT_OK;
}

// Under a limit of memory a chunk is a batch.
static KinditStatus drawing_alloc(Drawing *drawing, const KinditModel *model) {
    KinditContext *ctx = model->ctx;
    KinditMemoryPlan plan;
    TRY(api_plan_memory(&plan, model, &drawing->sampler, drawing->n_classes, drawing->n_per_class));
    int64_t most = plan.limit_bytes ? 0 : (int64_t)(CHUNK_BYTES / (drawing->image * sizeof(float)));
    if (most < plan.batch) most = plan.batch;
    drawing->chunk = (int)(most < drawing->total ? most : drawing->total);
    TRY(memory_alloc(ctx, (size_t)drawing->chunk, sizeof *drawing->labels, &drawing->labels));
    TRY(memory_alloc(ctx, (size_t)drawing->chunk, drawing->image * sizeof *drawing->values, &drawing->values));
    return memory_alloc(ctx, (size_t)drawing->chunk, drawing->image, &drawing->pixels);
}

// Draws images first .. first + n - 1 and hands them over one by one.
static KinditStatus draw_chunk(Drawing *drawing, int64_t first, int n, KinditImageCallback callback, void *user) {
    const DitConfig *config = &drawing->model->dit->config;
    for (int i = 0; i < n; i++) drawing->labels[i] = drawing->classes[(first + i) / drawing->n_per_class];
    TRY(sampler_run(drawing->model, &drawing->sampler, first, n, drawing->labels, drawing->values));
    if (drawing->has_pixels)
        sampler_to_pixels(drawing->values, n, config->channels, config->image_size, drawing->pixels);
    for (int i = 0; i < n; i++) {
        KinditImage image = {
            .index = first + i,
            .class_index = config->n_classes > 0 ? drawing->labels[i] : -1,
            .size = config->image_size,
            .channels = config->channels,
            .values = drawing->values + (size_t)i * drawing->image,
            .pixels = drawing->has_pixels ? drawing->pixels + (size_t)i * drawing->image : NULL,
        };
        TRY(callback(user, &image));
    }
    return KINDIT_OK;
}

KinditStatus kindit_sample(KinditModel *model, const KinditSampleSettings *settings, KinditImageCallback callback,
                           void *user) {
    Drawing drawing = {.model = model->model};
    KinditStatus status = drawing_choose(&drawing, model->ctx, settings);
    if (!status) status = drawing_alloc(&drawing, model);
    for (int64_t first = 0; !status && first < drawing.total; first += drawing.chunk) {
        int64_t left = drawing.total - first;
        status = draw_chunk(&drawing, first, left < drawing.chunk ? (int)left : drawing.chunk, callback, user);
    }
    drawing_close(&drawing);
    return status;
}

KinditStatus kindit_sample_plan(KinditModel *model, const KinditSampleSettings *settings, KinditMemoryPlan *out) {
    Drawing drawing = {.model = model->model};
    KinditStatus status = drawing_choose(&drawing, model->ctx, settings);
    if (!status) status = api_plan_memory(out, model, &drawing.sampler, drawing.n_classes, drawing.n_per_class);
    drawing_close(&drawing);
    return status;
}

// Gathers a captioned row for each class as images arrive class after class.
typedef struct Gathering {
    const KinditModel *model;
    int n_rows, n_per_class;
    const char **captions; // [the model's classes]
    uint8_t *pixels;
    size_t n_pixels;
} Gathering;

static KinditStatus gather_image(void *user, const KinditImage *image) {
    Gathering *gathering = user;
    size_t n = (size_t)image->channels * (size_t)image->size * (size_t)image->size;
    if (!image->pixels)
        return context_fail(gathering->model->ctx, KINDIT_ERROR_ARGUMENT,
                            "the model draws latents of %d channels, which are no picture", image->channels);
    if (image->index % gathering->n_per_class == 0)
        gathering->captions[gathering->n_rows++] = kindit_model_class_name(gathering->model, image->class_index);
    memcpy(gathering->pixels + gathering->n_pixels, image->pixels, n);
    gathering->n_pixels += n;
    return KINDIT_OK;
}

KinditStatus kindit_sample_to_png(KinditModel *model, const KinditSampleSettings *settings, const char *path) {
    const DitConfig *config = &model->model->dit->config;
    KinditContext *ctx = model->ctx;
    Gathering gathering = {.model = model, .n_per_class = settings->n_per_class};
    size_t n_classes = config->n_classes > 0 ? (size_t)config->n_classes : 1,
           image = (size_t)config->image_size * (size_t)config->image_size;
    size_t n_images, n_pixels;
    Image page = {0};
    KinditStatus status = KINDIT_OK;
    if (settings->n_per_class < 1 || !memory_multiply(n_classes, (size_t)settings->n_per_class, &n_images) ||
        !memory_multiply(n_images, image * (size_t)config->channels, &n_pixels))
        return context_fail(ctx, KINDIT_ERROR_ARGUMENT, "%d images per class cannot be", settings->n_per_class);
    status = memory_alloc(ctx, n_classes, sizeof *gathering.captions, &gathering.captions);
    if (!status) status = memory_alloc(ctx, n_pixels, 1, &gathering.pixels);
    if (!status) status = kindit_sample(model, settings, gather_image, &gathering);
    Grid grid = {config->image_size,    config->channels,   gathering.n_rows,
                 settings->n_per_class, gathering.captions, gathering.pixels};
    if (!status) status = grid_draw(&page, ctx, &grid);
    if (!status) status = image_write_png(ctx, path, &page);
    image_close(&page);
    memory_free(&gathering.captions);
    memory_free(&gathering.pixels);
    return status;
}
