#include "metrics/nearest.h"

#include <assert.h>

#include "engine/simd.h"

// Distances are integers, so the answer is exact and the same on any machine. A chunk's sum fits 32 bits.
enum { CHUNK = 32768, QUERY_BLOCK = 16, ROUND = 512 };

static_assert((int64_t)CHUNK * 255 * 255 <= INT32_MAX, "the sum of a chunk must fit");

typedef struct Nearest {
    int64_t distance, index;
} Nearest;

typedef struct Search {
    const uint8_t *references; // of `reference` only
    DatasetSplit reference;
    size_t n_bytes; // of an image
} Search;

ENGINE_INLINE int64_t squared_distance(const uint8_t *a, const uint8_t *b, size_t n) {
    int64_t sum = 0;
    for (size_t first = 0; first < n; first += CHUNK) {
        size_t end = n - first < CHUNK ? n : first + CHUNK;
        int32_t part = 0;
        for (size_t i = first; i < end; i++) {
            int16_t difference = (int16_t)(a[i] - b[i]); // 16 bits: compilers then multiply and add pairs at once
            part += difference * difference;
        }
        sum += part;
    }
    return sum;
}

// The nearest reference of each of n <= QUERY_BLOCK queries, which stay in the cache while all references pass by.
ENGINE_CLONES static void search_block(const Search *search, const uint8_t *queries, int64_t n, Nearest *best) {
    for (int64_t q = 0; q < n; q++) best[q] = (Nearest){.distance = INT64_MAX, .index = -1};
    for (int64_t r = 0; r < search->reference.count; r++)
        for (int64_t q = 0; q < n; q++) {
            int64_t distance = squared_distance(queries + (size_t)q * search->n_bytes,
                                                search->references + (size_t)r * search->n_bytes, search->n_bytes);
            if (distance < best[q].distance)
                best[q] = (Nearest){.distance = distance, .index = search->reference.first + r};
        }
}

static KinditStatus check_arguments(KinditContext *ctx, const Dataset *dataset, DatasetSplit reference, int64_t n,
                                    const int *labels) {
    if (dataset->latents)
        return context_fail(ctx, KINDIT_ERROR_UNSUPPORTED, "%s: holds latents; nearest neighbours need images",
                            dataset->path);
    if (reference.first < 0 || reference.count < 1 || reference.count > dataset->n - reference.first)
        return context_fail(ctx, KINDIT_ERROR_ARGUMENT, "%s: no reference images: samples %lld + %lld of %lld",
                            dataset->path, (long long)reference.first, (long long)reference.count,
                            (long long)dataset->n);
    for (int64_t i = 0; i < n; i++)
        if (labels[i] < 0 || labels[i] >= dataset->n_classes)
            return context_fail(ctx, KINDIT_ERROR_ARGUMENT, "label %lld: expected 0..%d, found %d", (long long)i,
                                dataset->n_classes - 1, labels[i]);
    return KINDIT_OK;
}

static KinditStatus search_all(KinditContext *ctx, int threads, const Search *search, int64_t n, const uint8_t *queries,
                               Nearest *best) {
    for (int64_t first = 0; first < n; first += ROUND) {
        int64_t end = n - first < ROUND ? n : first + ROUND;
#pragma omp parallel for num_threads(threads) schedule(dynamic)
        for (int64_t q = first; q < end; q += QUERY_BLOCK)
            search_block(search, queries + (size_t)q * search->n_bytes, end - q < QUERY_BLOCK ? end - q : QUERY_BLOCK,
                         best + q);
        KinditProgress progress = {.task = "nearest neighbours", .done = end, .total = n, .text = ""};
        context_progress(ctx, &progress);
        if (context_cancelled(ctx)) return context_fail(ctx, KINDIT_CANCELLED, "cancelled");
    }
    return KINDIT_OK;
}

static KinditStatus measure(NearestResult *out, KinditContext *ctx, Engine *engine, const Dataset *dataset,
                            DatasetSplit reference, int64_t n, const uint8_t *queries, const int *labels) {
    Nearest *best;
    out->n_classes = dataset->n_classes;
    TRY(memory_alloc(ctx, (size_t)dataset->n_classes, sizeof *out->per_class_n, &out->per_class_n));
    TRY(memory_alloc(ctx, (size_t)dataset->n_classes, sizeof *out->per_class_correct, &out->per_class_correct));
    TRY(memory_alloc(ctx, (size_t)n, sizeof *best, &best));
    Search search = {.reference = reference,
                     .n_bytes = (size_t)dataset->size * (size_t)dataset->size * (size_t)dataset->channels};
    search.references = (const uint8_t *)dataset->images.array.data + (size_t)reference.first * search.n_bytes;
    KinditStatus status = search_all(ctx, engine_threads(engine), &search, n, queries, best);
    for (int64_t i = 0; i < n && !status; i++) {
        bool correct = dataset_label(dataset, best[i].index) == labels[i];
        out->n++;
        out->correct += correct;
        out->per_class_n[labels[i]]++;
        out->per_class_correct[labels[i]] += correct;
    }
    memory_free(&best);
    return status;
}

KinditStatus nearest_measure(NearestResult *out, KinditContext *ctx, Engine *engine, const Dataset *dataset,
                             DatasetSplit reference, int64_t n, const uint8_t *queries, const int *labels) {
    *out = (NearestResult){0};
    TRY(check_arguments(ctx, dataset, reference, n, labels));
    KinditStatus status = measure(out, ctx, engine, dataset, reference, n, queries, labels);
    if (status) nearest_close(out);
    return status;
}

void nearest_close(NearestResult *result) {
    memory_free(&result->per_class_n);
    memory_free(&result->per_class_correct);
    *result = (NearestResult){0};
}
