// Arrays of the golden files of tests/golden/metrics (see make.py there).
#ifndef TESTS_METRICS_GOLDEN_ARRAYS_H
#define TESTS_METRICS_GOLDEN_ARRAYS_H

#include "formats/npy.h"
#include "metrics/feature_rows.h"
#include "scratch.h"

// A matrix of floats as rows; closed with golden_rows_close.
typedef struct GoldenRows {
    Npy npy;
    const float **pointers;
    FeatureRows rows;
} GoldenRows;

static inline GoldenRows golden_rows(Scratch *scratch, const char *file, const char *name) {
    GoldenRows out = {0};
    assert_ok(scratch->ctx, npz_read(&out.npy, scratch->ctx, scratch_golden(scratch, file), name));
    const Tensor *array = &out.npy.array;
    assert_int_equal(array->dtype, DTYPE_F32);
    assert_int_equal(array->n_dims, 2);
    out.rows = (FeatureRows){.n = array->shape[0], .width = (int)array->shape[1]};
    out.pointers = calloc((size_t)out.rows.n, sizeof *out.pointers);
    for (int64_t i = 0; i < out.rows.n; i++) out.pointers[i] = (const float *)array->data + i * out.rows.width;
    out.rows.row = out.pointers;
    return out;
}

static inline void golden_rows_close(GoldenRows *golden) {
    npy_close(&golden->npy);
    free(golden->pointers);
}

// The first `n` doubles of an array that has at least as many; returns how many it has.
static inline size_t golden_doubles(Scratch *scratch, const char *file, const char *name, size_t n, double *out) {
    Npy npy;
    assert_ok(scratch->ctx, npz_read(&npy, scratch->ctx, scratch_golden(scratch, file), name));
    assert_int_equal(npy.array.dtype, DTYPE_F64);
    assert_true(npy.array.n_elements >= n);
    const size_t found = npy.array.n_elements;
    memcpy(out, npy.array.data, n * sizeof *out);
    npy_close(&npy);
    return found;
}

// |a - b| <= tolerance max(|a|, |b|)
static inline void assert_close(double a, double b, double tolerance) {
    const double larger = (a < 0 ? -a : a) > (b < 0 ? -b : b) ? (a < 0 ? -a : a) : (b < 0 ? -b : b);
    if (!((a - b < 0 ? b - a : a - b) <= tolerance * larger)) fail_msg("%.17g is not %.17g", a, b);
}

#endif
