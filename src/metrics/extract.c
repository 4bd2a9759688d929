#include "metrics/extract.h"

#include <string.h>

#include "base/clock.h"

KinditStatus extractor_open(Extractor *out, KinditContext *ctx, Engine *engine, VisionNetwork *network,
                            VisionProfile profile, const int widths[FEATURE_KINDS]) {
    const VisionInfo *info = vision_info(network);
    *out = (Extractor){.ctx = ctx, .engine = engine, .network = network, .profile = profile};
    const size_t image = (size_t)info->channels * (size_t)info->input_size * (size_t)info->input_size;
    float **const rooms[FEATURE_KINDS] = {&out->output.features, &out->output.spatial, &out->output.logits};
    KinditStatus status = memory_alloc(ctx, EXTRACT_BATCH, image * sizeof(float), &out->images);
    for (int k = 0; k < FEATURE_KINDS && !status; k++)
        if (widths[k]) status = memory_alloc(ctx, EXTRACT_BATCH, (size_t)widths[k] * sizeof(float), rooms[k]);
    if (status) extractor_close(out);
    return status;
}

void extractor_close(Extractor *extractor) {
    memory_free(&extractor->images);
    memory_free(&extractor->output.features);
    memory_free(&extractor->output.spatial);
    memory_free(&extractor->output.logits);
    *extractor = (Extractor){0};
}

static KinditStatus prepare(const Extractor *extractor, KinditContext *ctx, const Image *image, int at) {
    const VisionInfo *info = vision_info(extractor->network);
    const size_t size = (size_t)info->channels * (size_t)info->input_size * (size_t)info->input_size;
    return profile_apply(extractor->profile, ctx, image->pixels, image->height, image->width, image->channels,
                         info->input_size, info->channels, extractor->images + (size_t)at * size);
}

// What long work does between two batches.
static KinditStatus report(FeatureSet *set, KinditContext *ctx, const char *task, int64_t total, double start) {
    KinditProgress progress = {
        .task = task, .done = feature_set_count(set), .total = total, .seconds = clock_seconds() - start, .text = ""};
    context_progress(ctx, &progress);
    if (!context_cancelled(ctx) || progress.done == total) return KINDIT_OK;
    TRY(feature_set_save(set));
    return context_fail(ctx, KINDIT_CANCELLED, "interrupted after %lld of %lld images", (long long)progress.done,
                        (long long)total);
}

// ---- images that exist ---------------------------------------------------------------------------------------------

static KinditStatus prepare_from(const Extractor *extractor, KinditContext *ctx, const ImageSource *source, int64_t i,
                                 int at) {
    char name[IMAGE_SOURCE_NAME_SIZE];
    Image image;
    TRY(image_source_read(source, ctx, i, &image));
    KinditStatus status = prepare(extractor, ctx, &image, at);
    image_close(&image);
    if (!status) return KINDIT_OK;
    image_source_name(source, i, name);
    return context_prefix(ctx, status, name);
}

// A context is one thread's: each image keeps its own message.
static KinditStatus prepare_batch(const Extractor *extractor, const ImageSource *source, int64_t first, int n) {
    KinditContext contexts[EXTRACT_BATCH];
    KinditStatus statuses[EXTRACT_BATCH];
#pragma omp parallel for num_threads(engine_threads(extractor->engine)) schedule(dynamic)
    for (int i = 0; i < n; i++) {
        contexts[i] = (KinditContext){0};
        statuses[i] = prepare_from(extractor, &contexts[i], source, first + i, i);
    }
    for (int i = 0; i < n; i++)
        if (statuses[i]) return context_fail(extractor->ctx, statuses[i], "%s", kindit_context_message(&contexts[i]));
    return KINDIT_OK;
}

KinditStatus extract_source(FeatureSet *set, Extractor *extractor, const ImageSource *source, const char *task) {
    const double start = clock_seconds();
    const int64_t n = image_source_count(source);
    int labels[EXTRACT_BATCH];
    while (feature_set_count(set) < n) {
        const int64_t first = feature_set_count(set);
        const int batch = n - first < EXTRACT_BATCH ? (int)(n - first) : EXTRACT_BATCH;
        TRY(prepare_batch(extractor, source, first, batch));
        for (int i = 0; i < batch; i++) labels[i] = image_source_label(source, first + i);
        TRY(vision_run(extractor->network, extractor->images, batch, &extractor->output));
        TRY(feature_set_add(set, batch, &extractor->output, labels));
        TRY(report(set, extractor->ctx, task, n, start));
    }
    return feature_set_save(set);
}

// ---- images drawn for it -------------------------------------------------------------------------------------------

enum { TURN = 8 }; // images of a class in a row: as many as share a tailor in a batch

// A run's images, a batch at a time.
typedef struct Drawn {
    KinditContext *ctx;
    const ExtractDrawing *drawing;
    size_t size;                // elements of an image
    int *labels, *model_labels; // [n], [batch]
    float *values;              // (batch, C, S, S)
    uint8_t *pixels;            // (batch, S, S, C)
} Drawn;

static void deal_classes(int *labels, int64_t n, int n_classes) {
    for (int64_t i = 0; i < n; i++) labels[i] = -1;
    if (n_classes == 0) return;
    for (int64_t at = 0, round = 0; at < n; round += TURN)
        for (int c = 0; c < n_classes && at < n; c++) {
            const int64_t share = n / n_classes + (c < n % n_classes);
            for (int64_t i = round; i < round + TURN && i < share; i++) labels[at++] = c;
        }
}

static void close_drawn(Drawn *drawn) {
    memory_free(&drawn->labels);
    memory_free(&drawn->model_labels);
    memory_free(&drawn->values);
    memory_free(&drawn->pixels);
}

static KinditStatus open_drawn(Drawn *out, KinditContext *ctx, const ExtractDrawing *drawing) {
    const DitConfig *config = &drawing->model->dit->config;
    const size_t batch = (size_t)drawing->sampler.batch;
    *out = (Drawn){.ctx = ctx, .drawing = drawing};
    out->size = (size_t)config->image_size * (size_t)config->image_size * (size_t)config->channels;
    KinditStatus status = memory_alloc(ctx, (size_t)drawing->n, sizeof *out->labels, &out->labels);
    if (!status) status = memory_alloc(ctx, batch, sizeof *out->model_labels, &out->model_labels);
    if (!status) status = memory_alloc(ctx, batch, out->size * sizeof *out->values, &out->values);
    if (!status) status = memory_alloc(ctx, batch, out->size, &out->pixels);
    if (status)
        close_drawn(out);
    else
        deal_classes(out->labels, drawing->n, drawing->n_classes);
    return status;
}

// Images first .. first + n - 1 into drawn->pixels, n at most a batch. The caller's bar is for the whole run: the
// sampler's own is left out.
static KinditStatus draw_batch(Drawn *drawn, int64_t first, int n) {
    const ExtractDrawing *drawing = drawn->drawing;
    const DitConfig *config = &drawing->model->dit->config;
    KinditContextSettings *settings = &drawn->ctx->settings, own = *settings;
    for (int i = 0; i < n; i++) {
        const int label = drawn->labels[first + i];
        drawn->model_labels[i] = label < 0 ? config->n_classes : drawing->classes[label];
    }
    settings->progress = NULL;
    KinditStatus status = sampler_run(drawing->model, &drawing->sampler, first, n, drawn->model_labels, drawn->values);
    *settings = own;
    if (!status) sampler_to_pixels(drawn->values, n, config->channels, config->image_size, drawn->pixels);
    return status;
}

static KinditStatus look_at_batch(FeatureSet *set, Extractor *extractor, const Drawn *drawn, int64_t first, int n) {
    const DitConfig *config = &drawn->drawing->model->dit->config;
    for (int done = 0; done < n; done += EXTRACT_BATCH) {
        const int batch = n - done < EXTRACT_BATCH ? n - done : EXTRACT_BATCH;
        for (int i = 0; i < batch; i++) {
            const Image image = {config->image_size, config->image_size, config->channels,
                                 drawn->pixels + (size_t)(done + i) * drawn->size};
            TRY(prepare(extractor, extractor->ctx, &image, i));
        }
        TRY(vision_run(extractor->network, extractor->images, batch, &extractor->output));
        TRY(feature_set_add(set, batch, &extractor->output, drawn->labels + first + done));
    }
    return KINDIT_OK;
}

static int next_batch(const ExtractDrawing *drawing, int64_t first, int64_t n) {
    return n - first < drawing->sampler.batch ? (int)(n - first) : drawing->sampler.batch;
}

static KinditStatus draw_all(FeatureSet *set, Extractor *extractor, Drawn *drawn, const char *task) {
    const double start = clock_seconds();
    const int64_t n = drawn->drawing->n;
    while (feature_set_count(set) < n) {
        const int64_t first = feature_set_count(set);
        const int batch = next_batch(drawn->drawing, first, n);
        KinditStatus status = draw_batch(drawn, first, batch);
        if (status == KINDIT_CANCELLED) TRY(feature_set_save(set));
        TRY(status);
        TRY(look_at_batch(set, extractor, drawn, first, batch));
        TRY(report(set, extractor->ctx, task, n, start));
    }
    return feature_set_save(set);
}

KinditStatus extract_drawing(FeatureSet *set, Extractor *extractor, const ExtractDrawing *drawing, const char *task) {
    Drawn drawn;
    TRY(open_drawn(&drawn, extractor->ctx, drawing));
    KinditStatus status = draw_all(set, extractor, &drawn, task);
    close_drawn(&drawn);
    return status;
}

KinditStatus extract_draw(const ExtractDrawing *drawing, KinditContext *ctx, int count, int *labels, uint8_t *pixels) {
    Drawn drawn;
    TRY(open_drawn(&drawn, ctx, drawing));
    KinditStatus status = KINDIT_OK;
    for (int first = 0, n; first < count && !status; first += n) {
        n = next_batch(drawing, first, count);
        status = draw_batch(&drawn, first, n);
        if (!status) memcpy(pixels + (size_t)first * drawn.size, drawn.pixels, (size_t)n * drawn.size);
    }
    memcpy(labels, drawn.labels, (size_t)count * sizeof *labels);
    close_drawn(&drawn);
    return status;
}
