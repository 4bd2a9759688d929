// Numbers in float (or bf16) for the engine and in double for its plain twin, engines of one, two and three threads,
// and slopes by finite differences.
#ifndef TESTS_ENGINE_NUMBERS_H
#define TESTS_ENGINE_NUMBERS_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/bf16.h"
#include "engine/plain_ops.h"

enum { MAX_THREADS = 3, MAX_NUMBERS = 64 };

// `f` and `d` have exactly n elements: a sanitizer sees the first one too far.
typedef struct Numbers {
    size_t n;
    float *f, *first; // first: what the engine of one thread left in f
    double *d;
} Numbers;

static Engine *engines[MAX_THREADS + 1]; // by number of threads
static KinditContext contexts[MAX_THREADS + 1];
static Numbers *kept[MAX_NUMBERS];
static int n_kept;

static inline int engines_open(void **state) {
    (void)state;
    for (int threads = 1; threads <= MAX_THREADS; threads++) {
        contexts[threads].settings.threads = threads;
        if (engine_create(&engines[threads], &contexts[threads])) return -1;
    }
    return 0;
}

static inline int engines_close(void **state) {
    (void)state;
    for (int threads = 1; threads <= MAX_THREADS; threads++) engine_close(&engines[threads]);
    return 0;
}

// The same NaN in both: what a kernel should overwrite and does not shows. Freed with numbers_free_all.
static inline Numbers *numbers_empty(size_t n) {
    Numbers *numbers = malloc(sizeof *numbers);
    assert_non_null(numbers);
    assert_true(n_kept < MAX_NUMBERS);
    kept[n_kept++] = numbers;
    *numbers = (Numbers){n, malloc(n * sizeof(float)), malloc(n * sizeof(float)), malloc(n * sizeof(double))};
    assert_true(numbers->f && numbers->first && numbers->d);
    for (size_t i = 0; i < n; i++) numbers->d[i] = numbers->f[i] = NAN;
    return numbers;
}

static inline void numbers_set(Numbers *numbers, const float *values) {
    memcpy(numbers->f, values, numbers->n * sizeof(float));
    for (size_t i = 0; i < numbers->n; i++) numbers->d[i] = values[i];
}

// scale times standard normal numbers; each call draws others.
static inline Numbers *numbers_random(size_t n, float scale) {
    static uint64_t stream;
    Numbers *numbers = numbers_empty(n);
    rng_fill_normal((RngKey){.seed = 7, .sample = stream++, .purpose = RNG_TEST}, numbers->f, n);
    for (size_t i = 0; i < n; i++) numbers->d[i] = numbers->f[i] *= scale;
    return numbers;
}

static inline void numbers_free_all(void) {
    for (int i = 0; i < n_kept; i++) {
        free(kept[i]->f), free(kept[i]->first), free(kept[i]->d);
        free(kept[i]);
    }
    n_kept = 0;
}

// |f - d| <= bound * max(1, largest |d|) everywhere (a NaN on one side only fails), and the same bits as with one
// thread.
static inline void numbers_check(Numbers *numbers, int threads, double bound) {
    double largest = 1;
    for (size_t i = 0; i < numbers->n; i++) largest = fmax(largest, fabs(numbers->d[i]));
    for (size_t i = 0; i < numbers->n; i++) {
        double f = numbers->f[i], d = numbers->d[i];
        if (!(fabs(f - d) <= bound * largest) && !(isnan(f) && isnan(d)))
            fail_msg("element %zu of %zu: %.9g, expected %.9g (bound %g)", i, numbers->n, f, d, bound * largest);
    }
    if (threads == 1)
        memcpy(numbers->first, numbers->f, numbers->n * sizeof(float));
    else
        assert_memory_equal(numbers->first, numbers->f, numbers->n * sizeof(float));
}

// What a kernel reads as rows of `type`: bf16 keeps the numbers that round to themselves in both forms.
static inline Activation rows_in(Numbers *numbers, EngineType type) {
    if (type == ENGINE_F32) return activation_f32(numbers->f);
    uint16_t *half = (uint16_t *)(void *)numbers_empty(numbers->n)->f;
    for (size_t i = 0; i < numbers->n; i++) {
        half[i] = bf16_from_float(numbers->f[i]);
        numbers->d[i] = numbers->f[i] = bf16_to_float(half[i]);
    }
    return (Activation){.data = half, .type = ENGINE_BF16};
}

// Where a kernel writes them.
static inline Activation rows_out(const Numbers *numbers, EngineType type) {
    if (type == ENGINE_F32) return activation_f32(numbers->f);
    return (Activation){.data = numbers_empty(numbers->n)->f, .type = ENGINE_BF16};
}

// As numbers_check; bf16 adds its rounding, 2^-8 of each value.
static inline void check_rows(Numbers *numbers, Activation rows, int threads, double bound) {
    const uint16_t *half = rows.data;
    double largest = 1;
    if (rows.type == ENGINE_F32) {
        numbers_check(numbers, threads, bound);
        return;
    }
    for (size_t i = 0; i < numbers->n; i++) largest = fmax(largest, fabs(numbers->d[i]));
    for (size_t i = 0; i < numbers->n; i++) {
        double d = numbers->d[i], allowed = bound * largest + 0x1.01p-8 * fabs(d);
        numbers->f[i] = bf16_to_float(half[i]);
        if (!(fabs(numbers->f[i] - d) <= allowed))
            fail_msg("element %zu of %zu: %.9g, expected %.9g (bound %g)", i, numbers->n, numbers->f[i], d, allowed);
    }
    numbers_check(numbers, threads, 0x1p-7); // the same bits for any number of threads
}

// sum of weight * y: its slopes are what a backward pass gives for dy = weight.
static inline double numbers_weigh(const Numbers *weight, const Numbers *y) {
    double sum = 0;
    for (size_t i = 0; i < y->n; i++) sum += weight->d[i] * y->d[i];
    return sum;
}

// Central differences of `objective` in some of x's elements against the slopes claimed.
static inline void check_slopes(double (*objective)(void *), void *of, Numbers *x, const double *slopes, double bound) {
    const double h = 1e-5;
    size_t step = x->n / 37 + 1;
    for (size_t i = 0; i < x->n; i += step) {
        double kept_x = x->d[i];
        x->d[i] = kept_x + h;
        double above = objective(of);
        x->d[i] = kept_x - h;
        double below = objective(of);
        x->d[i] = kept_x;
        double slope = (above - below) / (2 * h);
        if (!(fabs(slope - slopes[i]) <= bound * fmax(1, fabs(slope))))
            fail_msg("slope %zu of %zu: %.12g, by differences %.12g", i, x->n, slopes[i], slope);
    }
}

#endif
