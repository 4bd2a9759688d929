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

#include "base/memory.h"
#include "base/rng.h"
#include "engine/engine.h"

// A matrix in float and the same numbers in double.
typedef struct Numbers {
    size_t n;
    float *f;
    double *d;
} Numbers;

static inline Numbers numbers_zero(size_t n) {
    Numbers x = {.n = n};
    assert_int_equal(memory_alloc(NULL, n, sizeof(float), &x.f), KINDIT_OK);
    assert_int_equal(memory_alloc(NULL, n, sizeof(double), &x.d), KINDIT_OK);
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
}

// Each of the k additions of a sum rounds by at most eps/2 of the partial sum, independently: the errors walk like
// sqrt(k), and |error| <= 2 sqrt(k) eps largest holds with a margin of 7 standard deviations. (The worst case is k eps
// / 2; a kernel that drops a term is off by about 0.3.)
static inline void assert_close(const Numbers *x, double k, const char *what) {
    double largest = 1;
    for (size_t i = 0; i < x->n; i++) largest = fmax(largest, fabs(x->d[i]));
    double bound = 2 * sqrt(k + 1) * FLT_EPSILON * largest;
    for (size_t i = 0; i < x->n; i++) {
        if (!(fabs((double)x->f[i] - x->d[i]) <= bound)) {
            fail_msg("%s[%zu]: expected %.9g, found %.9g, bound %.3g", what, i, x->d[i], (double)x->f[i], bound);
        }
    }
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
