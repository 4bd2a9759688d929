// Reading the golden files of tests/golden/model (see make.py there): a model, its inputs and what must come out.
#ifndef TESTS_GOLDEN_GOLDEN_H
#define TESTS_GOLDEN_GOLDEN_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
// cmocka needs some of the above
#include <cmocka.h>

#include "model/model_file.h"

typedef struct Golden {
    KinditContext *ctx;
    Engine *engine;
    Model *model; // of the folder `model`, NULL without one
    Safetensors io;
    Arena arena; // everything the functions below return
} Golden;

static inline void golden_require(Golden *g, KinditStatus status) {
    if (status != KINDIT_OK) print_error("%s\n", kindit_context_message(g->ctx));
    assert_int_equal(status, KINDIT_OK);
}

// Opens <folder>/io.safetensors and the model in folder `model` (NULL: none).
static inline void golden_open(Golden *g, const char *folder, const char *model, int threads) {
    char path[1024];
    *g = (Golden){0};
    KinditContextSettings settings = kindit_context_settings_default();
    settings.threads = threads;
    assert_int_equal(kindit_context_create(&g->ctx, &settings), KINDIT_OK);
    snprintf(path, sizeof path, TEST_SOURCE_DIR "/golden/model/%s/io.safetensors", folder);
    golden_require(g, safetensors_open(&g->io, g->ctx, path));
    if (!model) return;
    golden_require(g, engine_create(&g->engine, g->ctx));
    snprintf(path, sizeof path, TEST_SOURCE_DIR "/golden/model/%s", model);
    golden_require(g, model_open(&g->model, g->ctx, g->engine, path, NULL));
}

static inline void golden_close(Golden *g) {
    arena_close(&g->arena);
    safetensors_close(&g->io);
    model_close(&g->model);
    engine_close(&g->engine);
    kindit_context_close(&g->ctx);
}

static inline const Tensor *golden_find(Golden *g, const char *name) {
    const Tensor *tensor = safetensors_find(&g->io, name);
    if (!tensor) fail_msg("%s: no tensor '%s'", g->io.path, name);
    return tensor;
}

static inline float *golden_empty(Golden *g, size_t n) { // zeroed host floats
    float *values = NULL;
    golden_require(g, arena_alloc(&g->arena, g->ctx, n + 1, sizeof *values, &values));
    memset(values, 0, n * sizeof *values);
    return values;
}

static inline float *golden_floats(Golden *g, const char *name) {
    const Tensor *tensor = golden_find(g, name);
    float *values = golden_empty(g, tensor->n_elements);
    golden_require(g, tensor_read_float(tensor, g->ctx, 0, tensor->n_elements, values));
    return values;
}

static inline int *golden_ints(Golden *g, const char *name) {
    const Tensor *tensor = golden_find(g, name);
    int *values = NULL;
    assert_int_equal(tensor->dtype, DTYPE_I64);
    golden_require(g, arena_alloc(&g->arena, g->ctx, tensor->n_elements, sizeof *values, &values));
    for (size_t i = 0; i < tensor->n_elements; i++) {
        int64_t value;
        memcpy(&value, (const char *)tensor->data + i * sizeof value, sizeof value);
        values[i] = (int)value;
    }
    return values;
}

// Engine memory with the n floats of `host`, or zeros when that is NULL; the caller frees it.
static inline float *golden_upload(Golden *g, const float *host, size_t n) {
    float *buffer = NULL;
    golden_require(g, engine_alloc(g->engine, n, &buffer));
    if (host) engine_upload(g->engine, buffer, host, n);
    return buffer;
}

static inline float *golden_download(Golden *g, const float *buffer, size_t n) {
    float *host = golden_empty(g, n);
    if (n) engine_download(g->engine, host, buffer, n);
    return host;
}

// || a - b ||; b NULL: || a ||.
static inline double golden_distance(size_t n, const float *a, const float *b) {
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        double difference = (double)a[i] - (b ? (double)b[i] : 0);
        sum += difference * difference;
    }
    return sqrt(sum);
}

// Fails unless || found - expected || <= tolerance * || expected ||; NaN fails.
static inline void golden_assert_close(const char *folder, const char *what, size_t n, const float *found,
                                       const float *expected, double tolerance) {
    double error = golden_distance(n, found, expected) / golden_distance(n, expected, NULL);
    if (!(error <= tolerance)) fail_msg("%s: %s: relative error %.3g, allowed %.3g", folder, what, error, tolerance);
}

// A whole tensor as a file has it, from engine memory: the rows of tailor[0], tailor[1], ... (a NULL tailor: zeros),
// then the shared rows.
static inline float *golden_gather(Golden *g, const ParamSpec *spec, const float *shared, float *const *tailor) {
    int n_classes = g->model->dit->config.n_classes;
    float *whole = golden_empty(g, params_spec_size(spec, n_classes)), *rows = whole;
    size_t n_tailor = spec->row * (size_t)spec->tailor_rows, n_shared = spec->row * (size_t)spec->shape[0];
    for (int c = 0; c < n_classes && n_tailor; c++, rows += n_tailor)
        if (tailor[c]) engine_download(g->engine, rows, tailor[c] + spec->tailor_offset, n_tailor);
    if (n_shared) engine_download(g->engine, rows, shared + spec->shared_offset, n_shared);
    return whole;
}

// "grad." + the tensor's name, as the oracle has it, after checking that it has the size it has here.
static inline float *golden_expected(Golden *g, const char *prefix, const ParamSpec *spec) {
    char name[PARAM_NAME_SIZE + 16];
    snprintf(name, sizeof name, "%s%s", prefix, spec->name);
    assert_int_equal(golden_find(g, name)->n_elements, params_spec_size(spec, g->model->dit->config.n_classes));
    return golden_floats(g, name);
}

// The gradient of every parameter against the oracle's, tensor by tensor.
//
// Tolerance 2e-5: the oracle is exact (float64), single precision is not. Its rounding shows as 2e-6 in the worst
// tensor here (of the key and query factors, whose gradients are differences that softmax makes); other processors sum
// in another order. A formula that is wrong anywhere shows at 1e-3 and above. A key bias has no gradient (softmax does
// not see it), only rounding noise: where the oracle has zero, the noise must be nothing beside the whole gradient.
static inline void golden_assert_gradients(Golden *g, const char *folder, const float *dshared, float *const *dtailor) {
    const ParamLayout *layout = &g->model->dit->layout;
    double all = 0;
    for (int i = 0; i < layout->n_specs; i++) {
        const ParamSpec *spec = &layout->specs[i];
        all = hypot(all, golden_distance(params_spec_size(spec, g->model->dit->config.n_classes),
                                         golden_expected(g, "grad.", spec), NULL));
    }
    for (int i = 0; i < layout->n_specs; i++) {
        const ParamSpec *spec = &layout->specs[i];
        size_t n = params_spec_size(spec, g->model->dit->config.n_classes);
        const float *expected = golden_expected(g, "grad.", spec), *found = golden_gather(g, spec, dshared, dtailor);
        if (golden_distance(n, expected, NULL) > 1e-12 * all)
            golden_assert_close(folder, spec->name, n, found, expected, 2e-5);
        else if (!(golden_distance(n, found, NULL) < 1e-6 * all))
            fail_msg("%s: gradient of %s: found %.3g, expected zero", folder, spec->name,
                     golden_distance(n, found, NULL));
    }
}

#endif
