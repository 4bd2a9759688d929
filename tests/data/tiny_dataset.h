// Small data sets for tests: random pictures whose mean tells the class, so that there is something to learn.
#ifndef TESTS_DATA_TINY_DATASET_H
#define TESTS_DATA_TINY_DATASET_H

#include "base/json.h"
#include "data/dataset.h"
#include "scratch.h"

// n_classes * per_class training pictures and one held out per class, at `path`.
static inline void tiny_dataset_write(KinditContext *ctx, const char *path, int n_classes, int per_class, int size,
                                      int channels) {
    DatasetWriter *writer;
    uint8_t pixels[4096];
    const size_t n = (size_t)size * (size_t)size * (size_t)channels;
    assert_true(n <= sizeof pixels);
    assert_ok(ctx, dataset_writer_create(&writer, ctx, path, "tiny", size, channels));
    for (int c = 0; c < n_classes; c++) {
        char id[16];
        int index;
        snprintf(id, sizeof id, "c%d", c);
        assert_ok(ctx, dataset_writer_class(writer, id, id, &index));
        for (int i = 0; i <= per_class; i++) {
            RngKey key = {.seed = 11, .sample = (uint64_t)(c * 1000 + i), .purpose = RNG_TEST};
            for (size_t p = 0; p < n; p++) pixels[p] = (uint8_t)(c * 60 + (int)rng_below(key, (uint32_t)p, 80));
            assert_ok(ctx, dataset_writer_add(writer, index, i == per_class, pixels));
        }
    }
    cJSON *details = cJSON_CreateObject(), *counts = cJSON_CreateObject();
    assert_ok(ctx, dataset_writer_finish(&writer, details, counts, false));
    cJSON_Delete(counts);
    cJSON_Delete(details);
}

// `n` latents (n, channels, size, size) of two classes in turn, all for training, at `path`.
static inline void tiny_latents_write(KinditContext *ctx, const char *path, const float *values, int n, int channels,
                                      int size) {
    char file[1024];
    int32_t labels[256];
    assert_true(n <= 256);
    for (int i = 0; i < n; i++) labels[i] = i % 2;
    const Tensor images = {.dtype = DTYPE_F32, .n_dims = 4, .shape = {n, channels, size, size}, .data = values};
    const Tensor classes = {.dtype = DTYPE_I32, .n_dims = 1, .shape = {n}, .data = labels};
    assert_ok(ctx, file_make_folder(ctx, path));
    assert_ok(ctx, file_path(file, ctx, "%s/latents.npy", path));
    assert_ok(ctx, npy_write(ctx, file, &images));
    assert_ok(ctx, file_path(file, ctx, "%s/labels.npy", path));
    assert_ok(ctx, npy_write(ctx, file, &classes));
    char text[512];
    int length = snprintf(text, sizeof text,
                          "{\"format\": 1, \"name\": \"latents\", \"classes\": [{\"id\": \"a\", \"name\": \"A\"}, "
                          "{\"id\": \"b\", \"name\": \"B\"}], \"splits\": {\"train\": [0, %d]}, \"image_size\": %d, "
                          "\"channels\": %d, \"preprocessing\": {}, \"source_sha256\": \"\", \"counts\": {}}",
                          n, size, channels);
    assert_ok(ctx, file_path(file, ctx, "%s/dataset.json", path));
    assert_ok(ctx, file_write(ctx, file, text, (size_t)length));
}

#endif
