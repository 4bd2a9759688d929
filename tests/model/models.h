// A small model, and the comparison of two models number by number; for tests of files.
#ifndef TESTS_MODEL_MODELS_H
#define TESTS_MODEL_MODELS_H

#include "base/bf16.h"
#include "formats/quant.h"
#include "model/model_file.h"
#include "scratch.h"

static const ModelClass test_classes[] = {{"a", "Letter A"}, {"b", "Letter B"}, {"c-1.x", "a"}, {"d", "Letter D"}};

static inline DitConfig models_config(bool factored) {
    DitConfig config = dit_config_default();
    config.image_size = 4;
    config.channels = 3;
    config.width = 12;
    config.depth = 2;
    config.heads = 2;
    config.factored = factored;
    config.n_learngene = factored ? 5 : 0;
    config.n_tailor = factored ? 3 : 0;
    config.n_classes = 4;
    return config;
}

// A model whose every number is drawn from a normal distribution: nothing is zero, no two tensors are alike.
static inline Model *models_create(KinditContext *ctx, Engine *engine, const DitConfig *config) {
    Model *model;
    assert_ok(ctx, model_create(&model, ctx, engine, config, test_classes, 1));
    for (int c = -1; c < config->n_classes; c++) {
        size_t n = c < 0 ? model->dit->layout.n_shared : model->dit->layout.n_tailor;
        float *host;
        assert_ok(ctx, memory_alloc(ctx, n, sizeof *host, &host));
        rng_fill_normal((RngKey){.seed = 5, .sample = (uint64_t)(c + 1), .purpose = RNG_TEST}, host, n);
        engine_upload(engine, c < 0 ? model->params.shared : model->params.tailor[c], host, n);
        memory_free(&host);
    }
    return model;
}

// What a row of a tensor becomes by being written as `type` and read again.
static inline void models_round_row(const ParamSpec *spec, StorageType type, float *row) {
    int bits = storage_bits(type, spec);
    if (bits == 0) {
        for (size_t i = 0; i < spec->row && storage_dtype(type) == DTYPE_BF16; i++) row[i] = bf16_round(row[i]);
        return;
    }
    uint8_t q[1024];
    uint16_t scales[1024];
    assert_true(spec->row <= 1024);
    assert_true(quant_encode_row(bits, row, spec->row, q, scales));
    assert_true(quant_decode_row(bits, q, scales, spec->row, row));
}

// n_rows rows of a tensor in engine memory are the same bit for bit, the expected ones as `type` keeps them.
static inline void models_assert_rows(Engine *engine, const float *found, const float *expected, const ParamSpec *spec,
                                      size_t n_rows, StorageType type) {
    size_t n = n_rows * spec->row;
    float *host = calloc(2 * n + 1, sizeof *host);
    engine_download(engine, host, found, n);
    engine_download(engine, host + n, expected, n);
    for (size_t i = 0; i < n_rows; i++) models_round_row(spec, type, host + n + i * spec->row);
    assert_memory_equal(host, host + n, n * sizeof *host);
    free(host);
}

// `found` has the classes of `expected` that `classes` lists (n of them), in that order, with the same weights.
static inline void models_assert_equal(const Model *found, const Model *expected, const int *classes, int n,
                                       StorageType type) {
    const ParamLayout *layout = &expected->dit->layout;
    assert_int_equal(found->dit->config.n_classes, n);
    assert_int_equal(found->params.n_classes, n);
    assert_int_equal(found->dit->layout.n_specs, layout->n_specs);
    for (int i = 0; i < n; i++)
        assert_memory_equal(&found->classes[i], &expected->classes[classes[i]], sizeof(ModelClass));
    for (int s = 0; s < layout->n_specs; s++) {
        const ParamSpec *spec = &layout->specs[s], *own = &found->dit->layout.specs[s];
        bool per_class =
            !expected->dit->config.factored && !expected->dit->config.classifier && s == expected->dit->label;
        assert_string_equal(own->name, spec->name);
        const float *at = found->params.shared + own->shared_offset,
                    *from = expected->params.shared + spec->shared_offset;
        for (int i = 0; i < n && per_class; i++)
            models_assert_rows(found->engine, at + (size_t)i * spec->row, from + (size_t)classes[i] * spec->row, spec,
                               1, type);
        size_t skip = per_class ? (size_t)n : 0, skip_from = per_class ? (size_t)expected->dit->config.n_classes : 0;
        models_assert_rows(found->engine, at + skip * spec->row, from + skip_from * spec->row, spec,
                           (size_t)spec->shape[0] - skip_from, type);
        for (int i = 0; i < n && spec->tailor_rows > 0; i++)
            models_assert_rows(found->engine, found->params.tailor[i] + own->tailor_offset,
                               expected->params.tailor[classes[i]] + spec->tailor_offset, spec,
                               (size_t)spec->tailor_rows, type);
    }
}

// The bytes of two files are the same.
static inline bool models_same_file(KinditContext *ctx, const char *a, const char *b) {
    FileMap x, y;
    assert_ok(ctx, file_map(&x, ctx, a));
    assert_ok(ctx, file_map(&y, ctx, b));
    bool same = x.size == y.size && memcmp(x.data, y.data, x.size) == 0;
    file_unmap(&x);
    file_unmap(&y);
    return same;
}

// Replaces the one occurrence of `old` in a small text file (or in the header of a safetensors file, if as long).
static inline void models_edit(KinditContext *ctx, const char *path, const char *old, const char *new) {
    FileMap map;
    assert_ok(ctx, file_map(&map, ctx, path));
    char *text = malloc(map.size + strlen(new) + 1);
    const uint8_t *found = memmem(map.data, map.size, old, strlen(old));
    if (!found) fail_msg("%s lacks %s", path, old);
    size_t before = (size_t)(found - map.data), after = map.size - before - strlen(old);
    memcpy(text, map.data, before);
    memcpy(text + before, new, strlen(new));
    memcpy(text + before + strlen(new), found + strlen(old), after);
    file_unmap(&map);
    assert_ok(ctx, file_write(ctx, path, text, before + strlen(new) + after));
    free(text);
}

#endif
