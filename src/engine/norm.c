// LayerNorm with adaLN modulation, and the gated residual: the row-wise halves of an adaLN-Zero branch.
//
// Forward passes share rows among threads. Backward passes also sum over the tokens of a sample (dshift, dscale,
// dgate): one thread owns a sample and sums its tokens in order while each row is in cache, so that the order never
// depends on threads.
#include <math.h>

#include "engine/internal.h"
#include "engine/simd.h"

static const float norm_eps = 1e-6f;

ENGINE_CLONES static void norm_modulate_row(int width, const float *x, const float *shift, const float *scale, float *y,
                                            float *mean_out, float *rstd_out) {
    float sum = 0, squares = 0;
#pragma omp simd reduction(+ : sum)
    for (int i = 0; i < width; i++) sum += x[i];
    float mean = sum / (float)width;
#pragma omp simd reduction(+ : squares)
    for (int i = 0; i < width; i++) squares += (x[i] - mean) * (x[i] - mean);
    float rstd = 1.0f / sqrtf(squares / (float)width + norm_eps);
#pragma omp simd
    for (int i = 0; i < width; i++) y[i] = (x[i] - mean) * rstd * (1.0f + scale[i]) + shift[i];
    *mean_out = mean;
    *rstd_out = rstd;
}

void engine_norm_modulate_forward(Engine *engine, int batch, int tokens, int width, const float *x, const float *shift,
                                  const float *scale, int stride, Activation rows_y, float *mean, float *rstd) {
    float *y = rows_y.data;
    engine_profile_begin(engine);
    size_t rows = (size_t)batch * (size_t)tokens;
#pragma omp parallel for num_threads(engine->threads) schedule(static)
    for (size_t row = 0; row < rows; row++) {
        size_t at = row * (size_t)width, modulation = row / (size_t)tokens * (size_t)stride;
        norm_modulate_row(width, x + at, shift + modulation, scale + modulation, y + at, mean + row, rstd + row);
    }
    double elements = (double)rows * width;
    engine_profile_end(engine, KERNEL_NORM, 8 * elements, 8 * elements);
}

// With g = dy (1 + scale) and n = norm(x): dx = rstd (g - mean(g) - n mean(g n)).
ENGINE_CLONES static void norm_modulate_row_backward(int width, const float *x, const float *scale, float mean,
                                                     float rstd, const float *dy, float *dx, bool accumulate,
                                                     float *dshift, float *dscale) {
    float sum_g = 0, sum_gn = 0;
#pragma omp simd reduction(+ : sum_g, sum_gn)
    for (int i = 0; i < width; i++) {
        float n = (x[i] - mean) * rstd, g = dy[i] * (1.0f + scale[i]);
        sum_g += g;
        sum_gn += g * n;
        dshift[i] += dy[i];
        dscale[i] += dy[i] * n;
    }
    float mean_g = sum_g / (float)width, mean_gn = sum_gn / (float)width;
#pragma omp simd
    for (int i = 0; i < width; i++) {
        float n = (x[i] - mean) * rstd, g = dy[i] * (1.0f + scale[i]);
        dx[i] = (accumulate ? dx[i] : 0.0f) + rstd * (g - mean_g - n * mean_gn);
    }
}

void engine_norm_modulate_backward(Engine *engine, int batch, int tokens, int width, const float *x, const float *scale,
                                   int stride, const float *mean, const float *rstd, Activation rows_dy, float *dx,
                                   bool accumulate, float *dshift, float *dscale) {
    const float *dy = rows_dy.data;
    engine_profile_begin(engine);
#pragma omp parallel for num_threads(engine->threads) schedule(static)
    for (int b = 0; b < batch; b++) {
        size_t modulation = (size_t)b * (size_t)stride;
        for (int i = 0; i < width; i++) dshift[modulation + (size_t)i] = dscale[modulation + (size_t)i] = 0.0f;
        for (int t = 0; t < tokens; t++) {
            size_t row = (size_t)b * (size_t)tokens + (size_t)t, at = row * (size_t)width;
            norm_modulate_row_backward(width, x + at, scale + modulation, mean[row], rstd[row], dy + at, dx + at,
                                       accumulate, dshift + modulation, dscale + modulation);
        }
    }
    double elements = (double)batch * tokens * width;
    engine_profile_end(engine, KERNEL_NORM, 18 * elements, (accumulate ? 16 : 12) * elements);
}

ENGINE_CLONES static void residual_row(int width, const float *x, const float *y, const float *gate, float *out) {
#pragma omp simd
    for (int i = 0; i < width; i++) out[i] = x[i] + gate[i] * y[i];
}

void engine_residual_forward(Engine *engine, int batch, int tokens, int width, const float *x, Activation rows_y,
                             const float *gate, int stride, float *out) {
    const float *y = rows_y.data;
    engine_profile_begin(engine);
    size_t rows = (size_t)batch * (size_t)tokens;
#pragma omp parallel for num_threads(engine->threads) schedule(static)
    for (size_t row = 0; row < rows; row++) {
        size_t at = row * (size_t)width;
        residual_row(width, x + at, y + at, gate + row / (size_t)tokens * (size_t)stride, out + at);
    }
    double elements = (double)rows * width;
    engine_profile_end(engine, KERNEL_RESIDUAL, 2 * elements, 12 * elements);
}

ENGINE_CLONES static void residual_row_backward(int width, const float *y, const float *gate, const float *dout,
                                                float *dy, float *dgate) {
#pragma omp simd
    for (int i = 0; i < width; i++) {
        dgate[i] += y[i] * dout[i];
        dy[i] = gate[i] * dout[i];
    }
}

void engine_residual_backward(Engine *engine, int batch, int tokens, int width, Activation rows_y, const float *gate,
                              int stride, const float *dout, Activation rows_dy, float *dgate) {
    const float *y = rows_y.data;
    float *dy = rows_dy.data;
    engine_profile_begin(engine);
#pragma omp parallel for num_threads(engine->threads) schedule(static)
    for (int b = 0; b < batch; b++) {
        size_t modulation = (size_t)b * (size_t)stride;
        for (int i = 0; i < width; i++) dgate[modulation + (size_t)i] = 0.0f;
        for (int t = 0; t < tokens; t++) {
            size_t at = ((size_t)b * (size_t)tokens + (size_t)t) * (size_t)width;
            residual_row_backward(width, y + at, gate + modulation, dout + at, dy + at, dgate + modulation);
        }
    }
    double elements = (double)batch * tokens * width;
    engine_profile_end(engine, KERNEL_RESIDUAL, 3 * elements, 12 * elements);
}
