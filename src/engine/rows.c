#include "engine/rows.h"

#include "base/bf16.h"
#include "engine/fastmath.h"

ENGINE_CLONES static void load_bf16(int n, int width, const uint16_t *from, size_t stride, float *to, size_t ld) {
    for (int i = 0; i < n; i++, from += stride, to += ld) {
#pragma omp simd
        for (int j = 0; j < width; j++) to[j] = bf16_to_float(from[j]);
    }
}

ENGINE_CLONES static void load_f32(int n, int width, const float *from, size_t stride, float *to, size_t ld) {
    for (int i = 0; i < n; i++, from += stride, to += ld) memcpy(to, from, (size_t)width * sizeof *to);
}

ENGINE_CLONES static void gelu_rows(int n, int width, float *x, size_t ld) {
    for (int i = 0; i < n; i++, x += ld) {
#pragma omp simd
        for (int j = 0; j < width; j++) x[j] = fast_gelu(x[j]);
    }
}

void rows_load(int n, int width, Activation from, int stride, float *to, int ld) {
    if (from.type == ENGINE_BF16) {
        load_bf16(n, width, from.data, (size_t)stride, to, (size_t)ld);
    } else {
        load_f32(n, width, from.data, (size_t)stride, to, (size_t)ld);
    }
    if (from.gelu) gelu_rows(n, width, to, (size_t)ld);
}

ENGINE_CLONES static void store_bf16(int n, int width, const float *from, size_t ld, uint16_t *to, size_t stride,
                                     bool accumulate) {
    for (int i = 0; i < n; i++, from += ld, to += stride) {
        if (accumulate) {
#pragma omp simd
            for (int j = 0; j < width; j++) to[j] = bf16_from_float(bf16_to_float(to[j]) + from[j]);
        } else {
#pragma omp simd
            for (int j = 0; j < width; j++) to[j] = bf16_from_float(from[j]);
        }
    }
}

ENGINE_CLONES static void store_f32(int n, int width, const float *from, size_t ld, float *to, size_t stride,
                                    bool accumulate) {
    for (int i = 0; i < n; i++, from += ld, to += stride) {
        if (accumulate) {
#pragma omp simd
            for (int j = 0; j < width; j++) to[j] += from[j];
        } else {
            memcpy(to, from, (size_t)width * sizeof *to);
        }
    }
}

void rows_store(int n, int width, const float *from, int ld, Activation to, int stride, bool accumulate) {
    if (to.type == ENGINE_BF16) {
        store_bf16(n, width, from, (size_t)ld, to.data, (size_t)stride, accumulate);
    } else {
        store_f32(n, width, from, (size_t)ld, to.data, (size_t)stride, accumulate);
    }
}

ENGINE_CLONES void rows_round(size_t n, float *values) {
#pragma omp simd
    for (size_t i = 0; i < n; i++) values[i] = bf16_round(values[i]);
}
