// Random matrices and comparisons shared by the tests of the matrix kernels.
#ifndef TESTS_ENGINE_MATRICES_H
#define TESTS_ENGINE_MATRICES_H

#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/bf16.h"
#include "base/memory.h"
#include "base/rng.h"
#include "engine/amx.h"
#include "engine/engine.h"
#include "engine/gemm_bf16.h"
#include "engine/plain_ops.h"

// A matrix in float, the same numbers in double, and room for them in bf16.
typedef struct Numbers {
    size_t n;
    float *f;
    double *d;
    uint16_t *h;
} Numbers;

static inline Numbers numbers_zero(size_t n) {
    Numbers x = {.n = n};
    assert_int_equal(memory_alloc(NULL, n, sizeof(float), &x.f), KINDIT_OK);
    assert_int_equal(memory_alloc(NULL, n, sizeof(double), &x.d), KINDIT_OK);
    assert_int_equal(memory_alloc(NULL, n, sizeof(uint16_t), &x.h), KINDIT_OK);
    return x;
}

// Uniform in [-1, 1); `stream` tells the matrices of a test apart.
static inline Numbers numbers_random(size_t n, uint64_t stream) {
    Numbers x = numbers_zero(n);
    rng_fill_uniform((RngKey){.seed = 7, .sample = stream, .purpose = RNG_TEST}, x.f, n);
    for (size_t i = 0; i < n; i++) {
        x.f[i] = 2.0F * x.f[i] - 1.0F;
        x.d[i] = x.f[i];
    }
    return x;
}

static inline void numbers_free(Numbers *x) {
    memory_free(&x->f);
    memory_free(&x->d);
    memory_free(&x->h);
}

static inline void numbers_round(Numbers *x) { // to what bf16 keeps
    for (size_t i = 0; i < x->n; i++) x->d[i] = x->f[i] = bf16_round(x->f[i]);
}

// The matrix as an activation; in bf16 its numbers become what that type keeps of them.
static inline Activation numbers_as(Numbers *x, EngineType type) {
    if (type == ENGINE_F32) return activation_f32(x->f);
    numbers_round(x);
    for (size_t i = 0; i < x->n; i++) x->h[i] = bf16_from_float(x->f[i]);
    return (Activation){.data = x->h, .type = type};
}

// What a kernel left in bf16 comes to `f`.
static inline void numbers_fetch(Numbers *x, EngineType type) {
    for (size_t i = 0; i < x->n && type == ENGINE_BF16; i++) x->f[i] = bf16_to_float(x->h[i]);
}

// Each of the k additions of a sum rounds by at most eps/2 of the partial sum, independently: the errors walk like
// sqrt(k), and |error| <= 2 sqrt(k) eps largest holds with a margin of 7 standard deviations. (The worst case is k eps
// / 2; a kernel that drops a term is off by about 0.3.)
// A result that is stored in bf16 is off by half a unit in its eighth bit besides, at most 2^-8 of itself.
// Where the processor multiplies bf16, what is formed on the way (GELU of a row, hidden values and their gradients, the
// bias) is rounded too: terms are off by up to 2^-9 of themselves, and walk; 2^-8 of the largest sum is a wide margin.
static inline bool rounds_operands(EngineType x) {
    return x == ENGINE_BF16 && gemm_bf16_is_native();
}

static inline void assert_close_rounded(const Numbers *x, EngineType type, double k, bool rounded, const char *what) {
    double largest = 1;
    for (size_t i = 0; i < x->n; i++) largest = fmax(largest, fabs(x->d[i]));
    for (size_t i = 0; i < x->n; i++) {
        double bound = 2 * sqrt(k + 1) * FLT_EPSILON * largest + (rounded ? largest / 256 : 0);
        if (type == ENGINE_BF16) bound += (fabs(x->d[i]) + bound) / 256;
        if (!(fabs((double)x->f[i] - x->d[i]) <= bound)) {
            fail_msg("%s[%zu]: expected %.9g, found %.9g, bound %.3g", what, i, x->d[i], (double)x->f[i], bound);
        }
    }
}

static inline void assert_close_as(const Numbers *x, EngineType type, double k, const char *what) {
    assert_close_rounded(x, type, k, false, what);
}

static inline void assert_close(const Numbers *x, double k, const char *what) {
    assert_close_as(x, ENGINE_F32, k, what);
}

// What a kernel stored through GELU is GELU of y, which it stored without.
static inline void assert_through_gelu(Numbers *through, EngineType type, const Numbers *y, const char *what) {
    numbers_fetch(through, type);
    for (size_t i = 0; i < y->n; i++) through->d[i] = y->f[i];
    plain_gelu_forward_f64(y->n, through->d, through->d);
    assert_close_as(through, type, 1, what);
}

// For tests of rows that do not depend on their neighbours: a BLAS promises nothing of the kind. It is taken where this
// holds (ARM), and on demand, at the user's own risk.
static inline void skip_where_blas_is_forced(void) {
    const char *asked = getenv("KINDIT_GEMM");
    if (asked && strcmp(asked, "cblas") == 0) skip();
}

static inline Engine *engine_with_threads(KinditContext *ctx, int threads, size_t scratch) {
    Engine *engine = NULL;
    memset(ctx, 0, sizeof *ctx);
    ctx->settings.threads = threads;
    assert_int_equal(engine_create(&engine, ctx), KINDIT_OK);
    assert_int_equal(engine_reserve(engine, scratch), KINDIT_OK);
    return engine;
}

#endif
