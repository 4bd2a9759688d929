// LayerNorm with adaLN modulation, and the gated residual: the row-wise halves of an adaLN-Zero branch. Where a
// residual meets the norm of the next branch, one pass does both while the row is in cache.
//
// Forward passes share rows among threads. Backward passes also sum over the tokens of a sample (dshift, dscale,
// dgate): tokens are cut into parts by the shape alone, each part is summed in order into scratch, and the parts in
// order into the result, so that the order never depends on threads.
#include <math.h>
#include <string.h>

#include "base/bf16.h"
#include "engine/internal.h"
#include "engine/simd.h"
#include "engine/tile.h"

// The arguments of one norm or residual in one direction, as engine.h names them.
typedef struct Norm {
    const float *x, *shift, *scale;
    int stride;
    float eps;
    Activation y;
    float *mean, *rstd;
} Norm;

typedef struct Residual {
    const float *x;
    Activation y;
    const float *gate;
    int stride;
    float *out;
} Residual;

typedef struct NormBackward {
    const float *x, *scale;
    int stride;
    const float *mean, *rstd;
    Activation dy;
    float *dx;
    bool accumulate;
    float *dshift, *dscale;
} NormBackward;

typedef struct ResidualBackward {
    Activation y;
    const float *gate;
    int stride;
    const float *dout;
    Activation dy;
    float *dgate;
} ResidualBackward;

// ---- rows ----------------------------------------------------------------------------------------------------------

// Element i of a row of `type`, which is a constant where these are used: no loop asks for it.
ENGINE_INLINE float row_get(EngineType type, const void *row, int i) {
    return type == ENGINE_BF16 ? bf16_to_float(((const uint16_t *)row)[i]) : ((const float *)row)[i];
}

ENGINE_INLINE void row_set(EngineType type, void *row, int i, float value) {
    if (type == ENGINE_BF16) {
        ((uint16_t *)row)[i] = bf16_from_float(value);
    } else {
        ((float *)row)[i] = value;
    }
}

ENGINE_INLINE float row_term(bool squares, float x, float mean) {
    return squares ? (x - mean) * (x - mean) : x;
}

// Sum of a row's elements, or of their squared distances from `mean`. Four sums at once, of a quarter of the row each:
// a single one would wait for every addition.
ENGINE_INLINE float row_sum(bool squares, int width, const float *x, float mean) {
    float a = 0, b = 0, c = 0, d = 0;
    int quarter = width / 4;
#pragma omp simd reduction(+ : a, b, c, d)
    for (int i = 0; i < quarter; i++) {
        a += row_term(squares, x[i], mean);
        b += row_term(squares, x[quarter + i], mean);
        c += row_term(squares, x[2 * quarter + i], mean);
        d += row_term(squares, x[3 * quarter + i], mean);
    }
    for (int i = 4 * quarter; i < width; i++) a += row_term(squares, x[i], mean);
    return (a + b) + (c + d);
}

ENGINE_INLINE void modulate_row(EngineType type, int width, const float *x, float mean, float rstd, const float *shift,
                                const float *scale, void *y) {
#pragma omp simd
    for (int i = 0; i < width; i++) row_set(type, y, i, (x[i] - mean) * rstd * (1.0f + scale[i]) + shift[i]);
}

ENGINE_CLONES static void norm_row(int width, const float *x, const float *shift, const float *scale, float eps,
                                   Activation y, float *mean_out, float *rstd_out) {
    float mean = row_sum(false, width, x, 0) / (float)width;
    float rstd = 1.0f / sqrtf(row_sum(true, width, x, mean) / (float)width + eps);
    if (y.type == ENGINE_BF16) {
        modulate_row(ENGINE_BF16, width, x, mean, rstd, shift, scale, y.data);
    } else {
        modulate_row(ENGINE_F32, width, x, mean, rstd, shift, scale, y.data);
    }
    *mean_out = mean;
    *rstd_out = rstd;
}

// With g = dy (1 + scale) and n = norm(x): dx = rstd (g - mean(g) - n mean(g n)).
ENGINE_INLINE void differentiate_row(EngineType type, int width, const float *x, const float *scale, float mean,
                                     float rstd, const void *dy, float *dx, bool accumulate, float *dshift,
                                     float *dscale) {
    float sum_g = 0, sum_gn = 0;
#pragma omp simd reduction(+ : sum_g, sum_gn)
    for (int i = 0; i < width; i++) {
        float slope = row_get(type, dy, i), n = (x[i] - mean) * rstd, g = slope * (1.0f + scale[i]);
        sum_g += g;
        sum_gn += g * n;
        dshift[i] += slope;
        dscale[i] += slope * n;
    }
    float mean_g = sum_g / (float)width, mean_gn = sum_gn / (float)width;
#pragma omp simd
    for (int i = 0; i < width; i++) {
        float n = (x[i] - mean) * rstd, g = row_get(type, dy, i) * (1.0f + scale[i]);
        dx[i] = (accumulate ? dx[i] : 0.0f) + rstd * (g - mean_g - n * mean_gn);
    }
}

ENGINE_CLONES static void norm_row_backward(int width, const float *x, const float *scale, float mean, float rstd,
                                            Activation dy, float *dx, bool accumulate, float *dshift, float *dscale) {
    if (dy.type == ENGINE_BF16) {
        differentiate_row(ENGINE_BF16, width, x, scale, mean, rstd, dy.data, dx, accumulate, dshift, dscale);
    } else {
        differentiate_row(ENGINE_F32, width, x, scale, mean, rstd, dy.data, dx, accumulate, dshift, dscale);
    }
}

ENGINE_INLINE void add_gated(EngineType type, int width, const float *x, const void *y, const float *gate, float *out) {
#pragma omp simd
    for (int i = 0; i < width; i++) out[i] = x[i] + gate[i] * row_get(type, y, i);
}

ENGINE_CLONES static void residual_row(int width, const float *x, Activation y, const float *gate, float *out) {
    if (y.type == ENGINE_BF16) {
        add_gated(ENGINE_BF16, width, x, y.data, gate, out);
    } else {
        add_gated(ENGINE_F32, width, x, y.data, gate, out);
    }
}

ENGINE_INLINE void gate_row(EngineType y_type, EngineType dy_type, int width, const void *y, const float *gate,
                            const float *dout, void *dy, float *dgate) {
#pragma omp simd
    for (int i = 0; i < width; i++) {
        dgate[i] += row_get(y_type, y, i) * dout[i];
        row_set(dy_type, dy, i, gate[i] * dout[i]);
    }
}

ENGINE_CLONES static void residual_row_backward(int width, Activation y, const float *gate, const float *dout,
                                                Activation dy, float *dgate) {
    if (y.type == ENGINE_BF16 && dy.type == ENGINE_BF16) {
        gate_row(ENGINE_BF16, ENGINE_BF16, width, y.data, gate, dout, dy.data, dgate);
    } else if (y.type == ENGINE_BF16) {
        gate_row(ENGINE_BF16, ENGINE_F32, width, y.data, gate, dout, dy.data, dgate);
    } else if (dy.type == ENGINE_BF16) {
        gate_row(ENGINE_F32, ENGINE_BF16, width, y.data, gate, dout, dy.data, dgate);
    } else {
        gate_row(ENGINE_F32, ENGINE_F32, width, y.data, gate, dout, dy.data, dgate);
    }
}

// ---- passes over all rows ------------------------------------------------------------------------------------------

enum {
    PART_TOKENS = 32, // fewest tokens in a part
    WORK_ITEMS = 64,  // parts are added until there are about so many items to share out
    SUMS = 3,         // a part's sums: dshift, dscale, dgate
    AHEAD = 4         // rows from the one at hand to the one that is fetched
};

// The residual, then the norm, of each row; either may be NULL.
static void run_forward(Engine *engine, int batch, int tokens, int width, const Residual *r, const Norm *n) {
    engine_profile_begin(engine);
    size_t rows = (size_t)batch * (size_t)tokens;
#pragma omp parallel for num_threads(engine->threads) schedule(dynamic, PART_TOKENS)
    for (size_t row = 0; row < rows; row++) {
        size_t at = row * (size_t)width, b = row / (size_t)tokens;
        if (r) residual_row(width, r->x + at, activation_at(r->y, at), r->gate + b * (size_t)r->stride, r->out + at);
        if (!n) continue;
        size_t modulation = b * (size_t)n->stride;
        norm_row(width, n->x + at, n->shift + modulation, n->scale + modulation, n->eps, activation_at(n->y, at),
                 n->mean + row, n->rstd + row);
    }
    double elements = (double)rows * width, flops = 0, bytes = 0;
    if (r) flops += 2, bytes += 8 + (double)engine_type_size(r->y.type);
    if (n) flops += 7, bytes += (r ? 0 : 4) + (double)engine_type_size(n->y.type);
    engine_profile_end(engine, n ? KERNEL_NORM : KERNEL_RESIDUAL, flops * elements, bytes * elements);
}

static int part_length(int batch, int tokens) {
    return tile_count(tokens, tile_min(tile_count(WORK_ITEMS, batch), tile_count(tokens, PART_TOKENS)));
}

size_t engine_norm_scratch(int batch, int tokens, int width) {
    return (size_t)batch * (size_t)tile_count(tokens, part_length(batch, tokens)) * SUMS * (size_t)width;
}

// A row that is only written comes to the cache before its turn. Else each store waits for memory, and those of the
// sums, which are in cache, wait behind it.
static void fetch_row(int width, Activation row) {
    simd_fetch(row.data, (size_t)width * engine_type_size(row.type));
}

// The norm, then the residual, of rows `first` to `end` of sample b; sums (SUMS, D) are overwritten.
static void backward_part(int width, size_t first, size_t end, size_t b, const NormBackward *n,
                          const ResidualBackward *r, float *sums) {
    float *dshift = sums, *dscale = sums + width, *dgate = sums + 2 * width;
    memset(sums, 0, SUMS * (size_t)width * sizeof *sums);
    for (size_t row = first; row < end; row++) {
        size_t at = row * (size_t)width;
        if (n) {
            norm_row_backward(width, n->x + at, n->scale + b * (size_t)n->stride, n->mean[row], n->rstd[row],
                              activation_at(n->dy, at), n->dx + at, n->accumulate, dshift, dscale);
        }
        if (r) {
            if (row + AHEAD < end) fetch_row(width, activation_at(r->dy, at + AHEAD * (size_t)width));
            residual_row_backward(width, activation_at(r->y, at), r->gate + b * (size_t)r->stride, r->dout + at,
                                  activation_at(r->dy, at), dgate);
        }
    }
}

// out (D) = one of the sums (parts, SUMS, D), added over the parts.
ENGINE_CLONES static void add_parts(int width, int parts, const float *sums, float *out) {
    memcpy(out, sums, (size_t)width * sizeof *out);
    for (int part = 1; part < parts; part++) {
        sums += SUMS * width;
#pragma omp simd
        for (int i = 0; i < width; i++) out[i] += sums[i];
    }
}

// Either of n, r may be NULL.
static void run_backward(Engine *engine, int batch, int tokens, int width, const NormBackward *n,
                         const ResidualBackward *r) {
    engine_profile_begin(engine);
    int length = part_length(batch, tokens), parts = tile_count(tokens, length);
    size_t size = SUMS * (size_t)width; // of a part's sums
#pragma omp parallel num_threads(engine->threads)
    {
#pragma omp for schedule(dynamic)
        for (int item = 0; item < batch * parts; item++) {
            int b = item / parts, part = item % parts;
            size_t first = (size_t)b * (size_t)tokens + (size_t)part * (size_t)length;
            backward_part(width, first, first + (size_t)tile_extent(tokens, length, part), (size_t)b, n, r,
                          engine->scratch + (size_t)item * size);
        }
#pragma omp for schedule(static)
        for (int b = 0; b < batch; b++) {
            const float *sums = engine->scratch + (size_t)b * (size_t)parts * size;
            if (n) add_parts(width, parts, sums, n->dshift + (size_t)b * (size_t)n->stride);
            if (n) add_parts(width, parts, sums + width, n->dscale + (size_t)b * (size_t)n->stride);
            if (r) add_parts(width, parts, sums + 2 * width, r->dgate + (size_t)b * (size_t)r->stride);
        }
    }
    double elements = (double)batch * tokens * width, flops = 0, bytes = 0;
    if (n) flops += 14, bytes += (n->accumulate ? 12 : 8) + (double)engine_type_size(n->dy.type);
    if (r) flops += 3, bytes += (n ? 0 : 4) + (double)(engine_type_size(r->y.type) + engine_type_size(r->dy.type));
    engine_profile_end(engine, n ? KERNEL_NORM : KERNEL_RESIDUAL, flops * elements, bytes * elements);
}

// ---- the calls -----------------------------------------------------------------------------------------------------

void engine_norm_modulate_forward(Engine *engine, int batch, int tokens, int width, const float *x, const float *shift,
                                  const float *scale, int stride, float eps, Activation y, float *mean, float *rstd) {
    Norm n = {x, shift, scale, stride, eps, y, mean, rstd};
    run_forward(engine, batch, tokens, width, NULL, &n);
}

void engine_residual_forward(Engine *engine, int batch, int tokens, int width, const float *x, Activation y,
                             const float *gate, int stride, float *out) {
    Residual r = {x, y, gate, stride, out};
    run_forward(engine, batch, tokens, width, &r, NULL);
}

void engine_residual_norm_forward(Engine *engine, int batch, int tokens, int width, const float *x, Activation y,
                                  const float *gate, int gate_stride, float *out, const float *shift,
                                  const float *scale, int stride, float eps, Activation normed, float *mean,
                                  float *rstd) {
    Residual r = {x, y, gate, gate_stride, out};
    Norm n = {out, shift, scale, stride, eps, normed, mean, rstd};
    run_forward(engine, batch, tokens, width, &r, &n);
}

void engine_norm_modulate_backward(Engine *engine, int batch, int tokens, int width, const float *x, const float *scale,
                                   int stride, const float *mean, const float *rstd, Activation dy, float *dx,
                                   bool accumulate, float *dshift, float *dscale) {
    NormBackward n = {x, scale, stride, mean, rstd, dy, dx, accumulate, dshift, dscale};
    run_backward(engine, batch, tokens, width, &n, NULL);
}

void engine_residual_backward(Engine *engine, int batch, int tokens, int width, Activation y, const float *gate,
                              int stride, const float *dout, Activation dy, float *dgate) {
    ResidualBackward r = {y, gate, stride, dout, dy, dgate};
    run_backward(engine, batch, tokens, width, NULL, &r);
}

void engine_residual_norm_backward(Engine *engine, int batch, int tokens, int width, const float *x, const float *scale,
                                   int stride, const float *mean, const float *rstd, Activation dnormed, float *dx,
                                   bool accumulate, float *dshift, float *dscale, Activation y, const float *gate,
                                   int gate_stride, Activation dy, float *dgate) {
    NormBackward n = {x, scale, stride, mean, rstd, dnormed, dx, accumulate, dshift, dscale};
    ResidualBackward r = {y, gate, gate_stride, dx, dy, dgate};
    run_backward(engine, batch, tokens, width, &n, &r);
}
