// Elementwise kernels. Tiles of a fixed size go to threads; each is one vectorised loop.
#include "engine/fastmath.h"
#include "engine/internal.h"

enum { TILE = 4096 };

static size_t tile_length(size_t n, size_t begin) {
    return n - begin < TILE ? n - begin : TILE;
}

ENGINE_CLONES static void silu_tile(size_t n, const float *x, float *y) {
#pragma omp simd
    for (size_t i = 0; i < n; i++) y[i] = fast_silu(x[i]);
}

void engine_silu_forward(Engine *engine, size_t n, const float *x, float *y) {
    engine_profile_begin(engine);
#pragma omp parallel for num_threads(engine->threads) schedule(static) if (n > TILE)
    for (size_t i = 0; i < n; i += TILE) silu_tile(tile_length(n, i), x + i, y + i);
    engine_profile_end(engine, KERNEL_ACTIVATION, 20 * (double)n, 8 * (double)n);
}

ENGINE_CLONES static void silu_tile_backward(size_t n, const float *x, const float *dy, float *dx, bool accumulate) {
    if (accumulate) {
#pragma omp simd
        for (size_t i = 0; i < n; i++) dx[i] += dy[i] * fast_silu_slope(x[i]);
    } else {
#pragma omp simd
        for (size_t i = 0; i < n; i++) dx[i] = dy[i] * fast_silu_slope(x[i]);
    }
}

void engine_silu_backward(Engine *engine, size_t n, const float *x, const float *dy, float *dx, bool accumulate) {
    engine_profile_begin(engine);
#pragma omp parallel for num_threads(engine->threads) schedule(static) if (n > TILE)
    for (size_t i = 0; i < n; i += TILE) silu_tile_backward(tile_length(n, i), x + i, dy + i, dx + i, accumulate);
    engine_profile_end(engine, KERNEL_ACTIVATION, (accumulate ? 26 : 25) * (double)n,
                       (accumulate ? 16 : 12) * (double)n);
}

void engine_shift_forward(Engine *engine, int n, const float *s, const float *d, float *sigma) {
    (void)engine;
    for (int i = 0; i < n; i++) sigma[i] = s[i] + d[i] > 0 ? s[i] + d[i] : 0;
}

void engine_shift_backward(Engine *engine, int n, const float *s, const float *d, const float *dsigma, float *dd) {
    (void)engine;
    for (int i = 0; i < n; i++) dd[i] += s[i] + d[i] > 0 ? dsigma[i] : 0;
}

ENGINE_CLONES static void gelu_tile(size_t n, float *x) {
#pragma omp simd
    for (size_t i = 0; i < n; i++) x[i] = fast_gelu_exact(x[i]);
}

void engine_gelu_exact(Engine *engine, size_t n, float *x) {
    engine_profile_begin(engine);
#pragma omp parallel for num_threads(engine->threads) schedule(static) if (n > TILE)
    for (size_t i = 0; i < n; i += TILE) gelu_tile(tile_length(n, i), x + i);
    engine_profile_end(engine, KERNEL_ACTIVATION, 35 * (double)n, 8 * (double)n);
}
