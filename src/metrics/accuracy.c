#include "metrics/accuracy.h"

#include <string.h>

#include "base/clock.h"

enum { PIECE = 256 }; // images turned into floats at a time

static size_t image_numbers(const Dataset *dataset) {
    return (size_t)dataset->channels * (size_t)dataset->size * (size_t)dataset->size;
}

// of_model[k] = the data set's number of the classifier's class k, -1 for one that it does not have.
static KinditStatus match_classes(int *of_model, KinditContext *ctx, const Model *model, const Dataset *dataset) {
    const int n_model = model->dit->config.n_classes;
    for (int k = 0; k < n_model; k++) of_model[k] = dataset_find_class(dataset, model->classes[k].id);
    for (int c = 0; c < dataset->n_classes; c++) {
        const char *id = dataset->classes[c].id;
        bool known = false;
        for (int k = 0; k < n_model && !known; k++) known = of_model[k] == c;
        if (!known)
            return context_fail(ctx, KINDIT_ERROR_ARGUMENT,
                                "%s: class \"%s\" is none that the classifier knows: it was trained on other data",
                                dataset->path, id);
    }
    return KINDIT_OK;
}

static KinditStatus check_images(KinditContext *ctx, const Model *model, const Dataset *dataset) {
    const DitConfig *config = &model->dit->config;
    if (!dataset->latents && config->image_size == dataset->size && config->channels == dataset->channels)
        return KINDIT_OK;
    return context_fail(ctx, KINDIT_ERROR_ARGUMENT,
                        "%s: expected images of %d channels, %dx%d, as the classifier reads; found %s of %d, %dx%d",
                        dataset->path, config->channels, config->image_size, config->image_size,
                        dataset->latents ? "latents" : "images", dataset->channels, dataset->size, dataset->size);
}

// (S, S, C) bytes to (C, S, S) in [-1, 1], as in training.
static void read_image(const Dataset *dataset, const uint8_t *pixels, float *out) {
    const size_t channels = (size_t)dataset->channels, n = image_numbers(dataset);
    for (size_t i = 0; i < n; i++) out[i % channels * (n / channels) + i / channels] = (float)pixels[i] / 127.5f - 1.0f;
}

static int best_class(const float *logits, int n) {
    int best = 0;
    for (int k = 1; k < n; k++)
        if (logits[k] > logits[best]) best = k;
    return best;
}

typedef struct Work {
    int *of_model; // [classes of the model]
    float *images, *logits;
} Work;

static void count_piece(Accuracy *out, const Work *work, Classifier *classifier, const Dataset *dataset, int n,
                        const uint8_t *pixels, const int *labels) {
    const int n_model = classifier->model->dit->config.n_classes;
    const size_t size = image_numbers(dataset);
    for (size_t i = 0; i < (size_t)n; i++) read_image(dataset, pixels + i * size, work->images + i * size);
    classifier_run(classifier, work->images, n, NULL, work->logits);
    for (int i = 0; i < n; i++) {
        const int found = work->of_model[best_class(work->logits + (size_t)i * (size_t)n_model, n_model)];
        out->n++;
        out->correct += found == labels[i];
        if (found >= 0) out->confusion[(size_t)labels[i] * (size_t)out->n_classes + (size_t)found]++;
    }
}

static KinditStatus count_all(Accuracy *out, KinditContext *ctx, const Work *work, Classifier *classifier,
                              const Dataset *dataset, int64_t n, const uint8_t *pixels, const int *labels) {
    const double began = clock_seconds();
    for (int64_t done = 0; done < n; done += PIECE) {
        const int count = n - done < PIECE ? (int)(n - done) : PIECE;
        count_piece(out, work, classifier, dataset, count, pixels + (size_t)done * image_numbers(dataset),
                    labels + done);
        KinditProgress progress = {
            .task = "accuracy", .done = done + count, .total = n, .seconds = clock_seconds() - began, .text = ""};
        context_progress(ctx, &progress);
        if (context_cancelled(ctx)) return context_fail(ctx, KINDIT_CANCELLED, "stopped while measuring accuracy");
    }
    return KINDIT_OK;
}

KinditStatus accuracy_measure(Accuracy *out, KinditContext *ctx, Classifier *classifier, const Dataset *dataset,
                              int64_t n, const uint8_t *pixels, const int *labels) {
    const size_t n_model = (size_t)classifier->model->dit->config.n_classes, K = (size_t)dataset->n_classes;
    Work work = {0};
    *out = (Accuracy){.n_classes = dataset->n_classes};
    TRY(check_images(ctx, classifier->model, dataset));
    KinditStatus status = memory_alloc(ctx, n_model, sizeof *work.of_model, &work.of_model);
    if (!status) status = match_classes(work.of_model, ctx, classifier->model, dataset);
    if (!status) status = memory_alloc(ctx, PIECE * image_numbers(dataset), sizeof *work.images, &work.images);
    if (!status) status = memory_alloc(ctx, PIECE * n_model, sizeof *work.logits, &work.logits);
    if (!status) status = memory_alloc(ctx, K * K, sizeof *out->confusion, &out->confusion);
    if (!status) status = count_all(out, ctx, &work, classifier, dataset, n, pixels, labels);
    memory_free(&work.logits);
    memory_free(&work.images);
    memory_free(&work.of_model);
    if (status) accuracy_close(out);
    return status;
}

KinditStatus accuracy_of_split(Accuracy *out, KinditContext *ctx, Classifier *classifier, const Dataset *dataset,
                               DatasetSplit split) {
    int *labels;
    *out = (Accuracy){0};
    TRY(memory_alloc(ctx, (size_t)split.count, sizeof *labels, &labels));
    for (int64_t i = 0; i < split.count; i++) labels[i] = dataset_label(dataset, split.first + i);
    const uint8_t *pixels = (const uint8_t *)dataset->images.array.data + (size_t)split.first * image_numbers(dataset);
    KinditStatus status = accuracy_measure(out, ctx, classifier, dataset, split.count, pixels, labels);
    memory_free(&labels);
    return status;
}

void accuracy_close(Accuracy *accuracy) {
    memory_free(&accuracy->confusion);
    *accuracy = (Accuracy){0};
}

// ---- confusions ----------------------------------------------------------------------------------------------------

static AccuracyPair pair_of(const Accuracy *accuracy, int a, int b) {
    const int64_t *of_a = accuracy->confusion + (size_t)a * (size_t)accuracy->n_classes;
    const int64_t *of_b = accuracy->confusion + (size_t)b * (size_t)accuracy->n_classes;
    int64_t images = 0;
    for (int c = 0; c < accuracy->n_classes; c++) images += of_a[c] + of_b[c];
    AccuracyPair pair = {a, b, of_a[b] + of_b[a], 0};
    if (images) pair.share = (double)pair.n / (double)images;
    return pair;
}

int accuracy_worst_pairs(const Accuracy *accuracy, AccuracyPair *pairs, int capacity) {
    int n = 0;
    for (int a = 0; a < accuracy->n_classes; a++)
        for (int b = a + 1; b < accuracy->n_classes; b++) {
            const AccuracyPair pair = pair_of(accuracy, a, b);
            if (pair.n == 0) continue;
            int at = n < capacity ? n++ : capacity;
            for (; at > 0 && pairs[at - 1].n < pair.n; at--)
                if (at < capacity) pairs[at] = pairs[at - 1];
            if (at < capacity) pairs[at] = pair;
        }
    return n;
}
