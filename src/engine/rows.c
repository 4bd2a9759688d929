#include "engine/rows.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "base/bf16.h"
#include "engine/fastmath.h"
#include "engine/tile.h"

// Loops are written once for both types: `type` is a constant where they are inlined.
ENGINE_INLINE float element(const void *data, EngineType type, size_t i) {
    return type == ENGINE_BF16 ? bf16_to_float(((const uint16_t *)data)[i]) : ((const float *)data)[i];
}

ENGINE_INLINE void put(void *data, EngineType type, size_t i, float value) {
    if (type == ENGINE_BF16) {
        ((uint16_t *)data)[i] = bf16_from_float(value);
    } else {
        ((float *)data)[i] = value;
    }
}

ENGINE_INLINE void load(EngineType type, bool gelu, int n, int width, const void *from, size_t stride, float *to,
                        size_t ld) {
    for (size_t i = 0; i < (size_t)n; i++) {
#pragma omp simd
        for (int j = 0; j < width; j++) {
            float value = element(from, type, i * stride + (size_t)j);
            to[i * ld + (size_t)j] = gelu ? fast_gelu(value) : value;
        }
    }
}

ENGINE_CLONES
void rows_load(int n, int width, Activation from, int stride, float *to, int ld) {
    size_t s = (size_t)stride, t = (size_t)ld;
    if (from.type == ENGINE_BF16 && from.gelu) load(ENGINE_BF16, true, n, width, from.data, s, to, t);
    if (from.type == ENGINE_BF16 && !from.gelu) load(ENGINE_BF16, false, n, width, from.data, s, to, t);
    if (from.type == ENGINE_F32 && from.gelu) load(ENGINE_F32, true, n, width, from.data, s, to, t);
    if (from.type == ENGINE_F32 && !from.gelu) load(ENGINE_F32, false, n, width, from.data, s, to, t);
}

const float *rows_read(int n, int width, Activation from, int *stride, float *buffer) {
    if (rows_in_place(from) && *stride < PAGE_STRIDE) return from.data;
    rows_load(n, width, from, *stride, buffer, width);
    *stride = width;
    return buffer;
}

// ---- operands of gemm_bf16 -----------------------------------------------------------------------------------------

ENGINE_INLINE uint16_t half_element(const void *data, EngineType type, bool gelu, size_t i) {
    if (type == ENGINE_BF16 && !gelu) return ((const uint16_t *)data)[i];
    float value = element(data, type, i);
    return bf16_from_float(gelu ? fast_gelu(value) : value);
}

ENGINE_INLINE void load_bf16(EngineType type, bool gelu, int n, int width, const void *from, size_t stride,
                             uint16_t *to, size_t ld) {
    for (size_t i = 0; i < (size_t)n; i++) {
#pragma omp simd
        for (int j = 0; j < width; j++) to[i * ld + (size_t)j] = half_element(from, type, gelu, i * stride + (size_t)j);
        for (int j = width; j % BF16_STEP; j++) to[i * ld + (size_t)j] = 0;
    }
}

ENGINE_CLONES
void rows_load_bf16(int n, int width, Activation from, int stride, uint16_t *to, int ld) {
    size_t s = (size_t)stride, t = (size_t)ld;
    if (from.type == ENGINE_BF16 && from.gelu) load_bf16(ENGINE_BF16, true, n, width, from.data, s, to, t);
    if (from.type == ENGINE_BF16 && !from.gelu) load_bf16(ENGINE_BF16, false, n, width, from.data, s, to, t);
    if (from.type == ENGINE_F32 && from.gelu) load_bf16(ENGINE_F32, true, n, width, from.data, s, to, t);
    if (from.type == ENGINE_F32 && !from.gelu) load_bf16(ENGINE_F32, false, n, width, from.data, s, to, t);
}

const uint16_t *rows_read_bf16(int n, int width, Activation from, int *stride, uint16_t *buffer) {
    if (from.type == ENGINE_BF16 && !from.gelu && width % BF16_STEP == 0) return from.data;
    int ld = tile_round(width, BF16_STEP);
    rows_load_bf16(n, width, from, *stride, buffer, ld);
    *stride = ld;
    return buffer;
}

ENGINE_INLINE void load_pairs(EngineType type, bool gelu, int n, int width, const void *from, size_t stride,
                              uint32_t *to) {
    for (size_t i = 0; i < (size_t)n; i += 2, to += width) {
        if (i + 1 < (size_t)n) {
#pragma omp simd
            for (int j = 0; j < width; j++) {
                to[j] = bf16_pair(half_element(from, type, gelu, i * stride + (size_t)j),
                                  half_element(from, type, gelu, (i + 1) * stride + (size_t)j));
            }
        } else {
#pragma omp simd
            for (int j = 0; j < width; j++) {
                to[j] = bf16_pair(half_element(from, type, gelu, i * stride + (size_t)j), 0);
            }
        }
    }
}

ENGINE_CLONES
void rows_load_pairs(int n, int width, Activation from, int stride, uint16_t *to) {
    size_t s = (size_t)stride;
    uint32_t *out = (uint32_t *)(void *)to;
    if (from.type == ENGINE_BF16 && from.gelu) load_pairs(ENGINE_BF16, true, n, width, from.data, s, out);
    if (from.type == ENGINE_BF16 && !from.gelu) load_pairs(ENGINE_BF16, false, n, width, from.data, s, out);
    if (from.type == ENGINE_F32 && from.gelu) load_pairs(ENGINE_F32, true, n, width, from.data, s, out);
    if (from.type == ENGINE_F32 && !from.gelu) load_pairs(ENGINE_F32, false, n, width, from.data, s, out);
    rows_pad_pairs(n, width, to);
}

// A step of rows at a time, all their columns one after the other: they lie far apart.
void rows_load_panels(int n, int width, Activation from, int stride, uint16_t *panels) {
    const size_t depth = (size_t)tile_round(n, BF16_STEP);
    for (int i = 0; i < n; i += BF16_STEP) {
        for (int j = 0; j < width; j += BF16_PANEL) {
            const int columns = tile_min(BF16_PANEL, width - j);
            rows_load_pairs(tile_min(BF16_STEP, n - i), columns,
                            activation_at(from, (size_t)i * (size_t)stride + (size_t)j), stride,
                            panels + (size_t)j * depth + (size_t)i * (size_t)columns);
        }
    }
}

void rows_pad_pairs(int n, int width, uint16_t *pairs) {
    const int used = tile_round(n, 2), all = tile_round(n, BF16_STEP);
    memset(pairs + (size_t)used * (size_t)width, 0, (size_t)(all - used) * (size_t)width * sizeof *pairs);
}

void rows_load_columns(int n, int width, Activation from, int stride, float *pairs, uint16_t *columns) {
    const int half = tile_round(n, BF16_STEP) / 2;
    rows_load_pairs(n, width, from, stride, (uint16_t *)(void *)pairs);
    gemm_transpose(half, width, pairs, width, (float *)(void *)columns, half);
}

ENGINE_CLONES
void rows_pair(int width, const float *even, const float *odd, uint16_t *to) {
    uint32_t *out = (uint32_t *)(void *)to;
    if (odd) {
#pragma omp simd
        for (int j = 0; j < width; j++) out[j] = bf16_pair(bf16_from_float(even[j]), bf16_from_float(odd[j]));
    } else if (even) {
#pragma omp simd
        for (int j = 0; j < width; j++) out[j] = bf16_pair(bf16_from_float(even[j]), 0);
    } else {
        memset(out, 0, (size_t)width * sizeof *out);
    }
}

// ---- operands of gemm_int8 -----------------------------------------------------------------------------------------

// As integers, magnitudes are in the order of their floats, infinity and NaN above all.
ENGINE_INLINE float largest_of(int width, const float *row) {
    uint32_t most = 0;
#pragma omp simd reduction(max : most)
    for (int j = 0; j < width; j++) {
        uint32_t bits;
        memcpy(&bits, row + j, sizeof bits);
        bits &= INT32_MAX;
        most = bits > most ? bits : most;
    }
    float largest;
    memcpy(&largest, &most, sizeof largest);
    return largest;
}

ENGINE_CLONES float rows_largest(int width, const float *row) {
    return largest_of(width, row);
}

// Numbers so small that their scale would have no inverse count as zeros.
ENGINE_INLINE float quantise_row(int width, const float *row, int8_t *to) {
    const float largest = largest_of(width, row);
    const bool any = largest >= 127 * FLT_MIN && largest <= FLT_MAX;
    const float inverse = any ? 127 / largest : 0;
    if (!any) {
        memset(to, 0, (size_t)width);
        return largest <= FLT_MAX ? 0 : NAN;
    }
#pragma omp simd
    for (int j = 0; j < width; j++) to[j] = (int8_t)rintf(row[j] * inverse);
    return largest / 127;
}

ENGINE_CLONES
void rows_quantise(int n, int width, Activation from, int stride, int8_t *to, int ld, float *scales) {
    _Alignas(64) float row[ROW_PIECE];
    for (int i = 0; i < n; i++, to += ld) {
        const Activation at = activation_at(from, (size_t)i * (size_t)stride);
        if (!rows_in_place(from)) rows_load(1, width, at, width, row, width);
        scales[i] = quantise_row(width, rows_in_place(from) ? at.data : row, to);
        memset(to + width, 0, (size_t)(ld - width));
    }
}

ENGINE_INLINE int8_t divided(float value, float scale) {
    return scale > 0 ? (int8_t)rintf(value / scale) : 0;
}

ENGINE_CLONES
void rows_divide(int n, int width, const float *from, int stride, const float *scales, int8_t *to, int ld) {
    for (size_t i = 0; i < (size_t)n; i++, to += ld, from += stride) {
#pragma omp simd
        for (int j = 0; j < width; j++) to[j] = divided(from[j], scales[i]);
        memset(to + width, 0, (size_t)(ld - width));
    }
}

ENGINE_CLONES
void rows_quad(int width, const float *const rows[4], const float scales[4], int8_t *to) {
    for (int i = 0; i < 4; i++) {
        const float *row = rows[i];
#pragma omp simd
        for (int j = 0; j < width; j++) to[4 * j + i] = row ? divided(row[j], scales[i]) : 0;
    }
}

// ---- writing -------------------------------------------------------------------------------------------------------

ENGINE_INLINE void store(EngineType type, bool gelu, bool accumulate, int n, int width, const float *from, size_t ld,
                         void *to, size_t stride) {
    for (size_t i = 0; i < (size_t)n; i++) {
#pragma omp simd
        for (int j = 0; j < width; j++) {
            size_t at = i * stride + (size_t)j;
            float value = from[i * ld + (size_t)j];
            if (gelu) value = fast_gelu(value);
            put(to, type, at, accumulate ? element(to, type, at) + value : value);
        }
    }
}

ENGINE_CLONES
void rows_store(int n, int width, const float *from, int ld, Activation to, int stride, bool accumulate) {
    size_t s = (size_t)stride, t = (size_t)ld;
    const bool half = to.type == ENGINE_BF16, gelu = to.gelu && !accumulate;
    if (half && gelu) store(ENGINE_BF16, true, false, n, width, from, t, to.data, s);
    if (half && accumulate) store(ENGINE_BF16, false, true, n, width, from, t, to.data, s);
    if (half && !gelu && !accumulate) store(ENGINE_BF16, false, false, n, width, from, t, to.data, s);
    if (!half && gelu) store(ENGINE_F32, true, false, n, width, from, t, to.data, s);
    if (!half && accumulate) store(ENGINE_F32, false, true, n, width, from, t, to.data, s);
    if (!half && !gelu && !accumulate) store(ENGINE_F32, false, false, n, width, from, t, to.data, s);
}

ENGINE_INLINE void slope(EngineType type, int n, int width, const void *x, size_t stride, float *values, size_t ld) {
    for (size_t i = 0; i < (size_t)n; i++) {
#pragma omp simd
        for (int j = 0; j < width; j++) {
            values[i * ld + (size_t)j] *= fast_gelu_slope(element(x, type, i * stride + (size_t)j));
        }
    }
}

ENGINE_CLONES
void rows_gelu_slope(int n, int width, Activation x, int stride, float *values, int ld) {
    if (x.type == ENGINE_BF16) slope(ENGINE_BF16, n, width, x.data, (size_t)stride, values, (size_t)ld);
    if (x.type == ENGINE_F32) slope(ENGINE_F32, n, width, x.data, (size_t)stride, values, (size_t)ld);
}

ENGINE_INLINE void sum(EngineType type, int n, int width, const void *x, size_t stride, const float *factor, size_t ld,
                       float *to) {
    for (size_t i = 0; i < (size_t)n; i++) {
#pragma omp simd
        for (int j = 0; j < width; j++) {
            float value = element(x, type, i * stride + (size_t)j);
            to[j] += factor ? value * factor[i * ld + (size_t)j] : value;
        }
    }
}

ENGINE_CLONES
void rows_sum(int n, int width, Activation x, int stride, float *to) {
    if (x.type == ENGINE_BF16) sum(ENGINE_BF16, n, width, x.data, (size_t)stride, NULL, 0, to);
    if (x.type == ENGINE_F32) sum(ENGINE_F32, n, width, x.data, (size_t)stride, NULL, 0, to);
}

ENGINE_CLONES
void rows_sum_products(int n, int width, Activation x, int stride, const float *y, int ld, float *to) {
    if (x.type == ENGINE_BF16) sum(ENGINE_BF16, n, width, x.data, (size_t)stride, y, (size_t)ld, to);
    if (x.type == ENGINE_F32) sum(ENGINE_F32, n, width, x.data, (size_t)stride, y, (size_t)ld, to);
}

ENGINE_INLINE void store_and_scale(bool kept, EngineType type, bool half, int n, int width, const float *factor,
                                   float *values, size_t ld, void *to, size_t stride, uint16_t *scaled) {
    for (size_t i = 0; i < (size_t)n; i++) {
#pragma omp simd
        for (int j = 0; j < width; j++) {
            const size_t at = i * ld + (size_t)j;
            const float value = values[at];
            if (kept) put(to, type, i * stride + (size_t)j, value);
            if (half) {
                scaled[at] = bf16_from_float(value * factor[j]);
            } else {
                values[at] = value * factor[j];
            }
        }
    }
}

ENGINE_CLONES
void rows_store_and_scale(int n, int width, const float *factor, float *values, int ld, Activation to, int stride,
                          uint16_t *scaled) {
    const size_t s = (size_t)stride, t = (size_t)ld;
    const bool half = scaled != NULL, kept = to.data != NULL, stored = kept && to.type == ENGINE_BF16;
    if (stored && half) store_and_scale(true, ENGINE_BF16, true, n, width, factor, values, t, to.data, s, scaled);
    if (stored && !half) store_and_scale(true, ENGINE_BF16, false, n, width, factor, values, t, to.data, s, scaled);
    if (!kept && half) store_and_scale(false, ENGINE_F32, true, n, width, factor, values, t, NULL, s, scaled);
    if (!kept && !half) store_and_scale(false, ENGINE_F32, false, n, width, factor, values, t, NULL, s, scaled);
    if (kept && !stored && half)
        store_and_scale(true, ENGINE_F32, true, n, width, factor, values, t, to.data, s, scaled);
    if (kept && !stored && !half)
        store_and_scale(true, ENGINE_F32, false, n, width, factor, values, t, to.data, s, scaled);
}

ENGINE_CLONES void rows_round(size_t n, float *values) {
#pragma omp simd
    for (size_t i = 0; i < n; i++) values[i] = bf16_round(values[i]);
}
