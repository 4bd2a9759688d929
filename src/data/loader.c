#include "data/loader.h"

#include <string.h>

static size_t sample_size(const Dataset *dataset) {
    return (size_t)dataset->channels * (size_t)dataset->size * (size_t)dataset->size;
}

static KinditStatus open_buffers(Loader *loader, KinditContext *ctx, int max_batch) {
    const Dataset *dataset = loader->dataset;
    size_t n;
    if (!memory_multiply(sample_size(dataset), (size_t)max_batch, &n))
        return context_fail(ctx, KINDIT_ERROR_MEMORY, "%s: a batch of %d samples overflows", dataset->path, max_batch);
    TRY(memory_alloc(ctx, (size_t)loader->split.count, sizeof *loader->order, &loader->order));
    if (dataset->latents) return memory_alloc(ctx, n, sizeof *loader->latents, &loader->latents);
    return memory_alloc(ctx, n, sizeof *loader->pixels, &loader->pixels);
}

KinditStatus loader_create(Loader *out, KinditContext *ctx, const Dataset *dataset, DatasetSplit split, uint64_t seed,
                           int max_batch) {
    *out = (Loader){.dataset = dataset, .split = split, .seed = seed, .epoch = -1};
    if (split.count < 1 || split.count > UINT32_MAX)
        return context_fail(ctx, KINDIT_ERROR_ARGUMENT, "%s: expected 1 to %u samples to train on, found %lld",
                            dataset->path, UINT32_MAX, (long long)split.count);
    KinditStatus status = open_buffers(out, ctx, max_batch);
    if (status) loader_close(out);
    return status;
}

void loader_close(Loader *loader) {
    memory_free(&loader->order);
    memory_free(&loader->pixels);
    memory_free(&loader->latents);
    *loader = (Loader){.epoch = -1};
}

// Index in the data set of sample k of the run.
static int64_t sample_index(Loader *loader, int64_t k) {
    const int64_t epoch = k / loader->split.count;
    if (epoch != loader->epoch) {
        RngKey key = {.seed = loader->seed, .step = (uint32_t)epoch, .purpose = RNG_SHUFFLE};
        rng_permute(key, loader->order, (uint32_t)loader->split.count);
        loader->epoch = epoch;
    }
    return loader->split.first + loader->order[k % loader->split.count];
}

static int within(int value, int size) {
    return value < 0 ? 0 : value < size ? value : size - 1;
}

// (S, S, C) to (C, S, S), pixel (y, x) from (y + down, x + right) or the nearest there is.
static void split_channels(const uint8_t *pixels, int size, int channels, int down, int right, uint8_t *out) {
    for (int c = 0; c < channels; c++)
        for (int y = 0; y < size; y++)
            for (int x = 0; x < size; x++)
                *out++ = pixels[(within(y + down, size) * size + within(x + right, size)) * channels + c];
}

// Sample k of the run as the loader hands it out.
static void stage_pixels(const Loader *loader, int64_t k, const uint8_t *pixels, uint8_t *out) {
    const Dataset *dataset = loader->dataset;
    const uint32_t places = 2 * (uint32_t)loader->shift + 1;
    const RngKey key = {.seed = loader->seed, .sample = (uint64_t)k, .purpose = RNG_SHIFT};
    const int down = loader->shift ? (int)rng_below(key, 0, places) - loader->shift : 0;
    const int right = loader->shift ? (int)rng_below(key, 1, places) - loader->shift : 0;
    split_channels(pixels, dataset->size, dataset->channels, down, right, out);
}

void loader_read(Loader *loader, Engine *engine, int64_t first, int n, float *x, int *labels) {
    const Dataset *dataset = loader->dataset;
    const size_t size = sample_size(dataset);
    for (int i = 0; i < n; i++) {
        const int64_t index = sample_index(loader, first + i);
        const size_t from = (size_t)index * size, to = (size_t)i * size;
        labels[i] = dataset_label(dataset, index);
        if (dataset->latents) // the file may be mapped at any alignment
            memcpy(loader->latents + to, (const char *)dataset->images.array.data + from * sizeof(float),
                   size * sizeof(float));
        else
            stage_pixels(loader, first + i, (const uint8_t *)dataset->images.array.data + from, loader->pixels + to);
    }
    if (dataset->latents)
        engine_upload(engine, x, loader->latents, (size_t)n * size);
    else
        engine_pixels(engine, (size_t)n * size, loader->pixels, x);
}
