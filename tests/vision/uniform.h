// Weights and images made by a formula, as tests/golden/vision/uniform.py makes them, and files of such weights.
#ifndef TESTS_VISION_UNIFORM_H
#define TESTS_VISION_UNIFORM_H

#include <math.h>

#include "formats/safetensors.h"
#include "scratch.h"

static inline uint32_t fnv1a32(const char *name) {
    uint32_t h = 2166136261u;
    for (; *name; name++) h = (h ^ (uint8_t)*name) * 16777619u;
    return h;
}

static inline void uniform_fill(const char *name, double low, double high, size_t n, float *out) {
    const uint64_t key = (uint64_t)fnv1a32(name) << 32;
    for (size_t i = 0; i < n; i++) {
        uint64_t z = (key | i) + 0x9E3779B97F4A7C15u;
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
        z = (z ^ z >> 27) * 0x94D049BB133111EBu;
        z ^= z >> 31;
        out[i] = (float)(low + (high - low) * ((double)(z >> 40) / 16777216.0));
    }
}

// The tensors of a list "name low high n_dims dims..." a line, made.
typedef struct UniformFile {
    Arena arena;
    int n;
    Tensor tensors[1024];
} UniformFile;

static inline void uniform_open(UniformFile *out, KinditContext *ctx, const char *list) {
    FILE *stream = fopen(list, "r");
    char name[96], *kept;
    double low, high;
    Tensor tensor = {.dtype = DTYPE_F32};
    *out = (UniformFile){0};
    if (!stream) fail_msg("%s: cannot open", list);
    while (fscanf(stream, "%95s %lf %lf %d", name, &low, &high, &tensor.n_dims) == 4) {
        float *values;
        for (int d = 0; d < tensor.n_dims; d++) assert_int_equal(fscanf(stream, "%ld", &tensor.shape[d]), 1);
        assert_true(out->n < 1024);
        assert_ok(ctx, tensor_measure(&tensor, ctx, list));
        assert_ok(ctx, arena_copy_string(&out->arena, ctx, name, &kept));
        assert_ok(ctx, arena_alloc(&out->arena, ctx, tensor.n_elements, sizeof *values, &values));
        uniform_fill(name, low, high, tensor.n_elements, values);
        tensor.name = kept;
        tensor.data = values;
        out->tensors[out->n++] = tensor;
    }
    fclose(stream);
}

static inline Tensor *uniform_find(UniformFile *file, const char *name) {
    for (int i = 0; i < file->n; i++)
        if (strcmp(file->tensors[i].name, name) == 0) return &file->tensors[i];
    fail_msg("no tensor %s", name);
    return NULL;
}

// As a .safetensors file at `path`.
static inline void uniform_write(const UniformFile *file, KinditContext *ctx, const char *path) {
    assert_ok(ctx, safetensors_write(ctx, path, file->tensors, file->n, NULL, 0));
}

static inline void uniform_close(UniformFile *file) {
    arena_close(&file->arena);
}

enum { N_CHECKSUMS = 4 };

static inline void uniform_checksums(size_t n, const float *values, double out[N_CHECKSUMS]) {
    float *fixed = test_malloc(n * sizeof *fixed);
    uniform_fill("projection", -1, 1, n, fixed);
    memset(out, 0, N_CHECKSUMS * sizeof *out);
    for (size_t i = 0; i < n; i++) {
        const double x = (double)values[i];
        out[0] += x / (double)n;
        out[1] += fabs(x) / (double)n;
        out[2] += x * x / (double)n;
        out[3] += x * (double)fixed[i] / (double)n;
    }
    out[2] = sqrt(out[2]);
    test_free(fixed);
}

#endif
