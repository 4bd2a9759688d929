#include "engine/panel.h"

#include <string.h>

#include "engine/tile.h"

void panel_pack(Engine *engine, int k, int m, int width, const float *B, int stride, float *panels) {
#pragma omp parallel for num_threads(engine->threads) schedule(static)
    for (int j = 0; j < tile_count(m, width); j++) {
        size_t columns = (size_t)tile_extent(m, width, j), begin = (size_t)j * (size_t)width;
        float *panel = panels + begin * (size_t)k;
        for (int i = 0; i < k; i++) {
            memcpy(panel + (size_t)i * columns, B + begin + (size_t)i * (size_t)stride, columns * sizeof(float));
        }
    }
}

void panel_pack_transposed(Engine *engine, int k, int m, int width, const float *Bt, int stride, float *panels) {
#pragma omp parallel for num_threads(engine->threads) schedule(static)
    for (int j = 0; j < tile_count(m, width); j++) {
        int columns = tile_extent(m, width, j);
        size_t begin = (size_t)j * (size_t)width;
        gemm_transpose(columns, k, Bt + begin * (size_t)stride, stride, panels + begin * (size_t)k, columns);
    }
}

void panel_multiply(int n, int k, int width, const float *x, int ldx, const float *panel, float *y, int ldy,
                    bool accumulate) {
    int i = 0;
    do { // once at least: k = 0 still sets y
        gemm_tile(GEMM_NN, n, width, tile_min(PANEL_DEPTH, k - i), x + i, ldx, panel + (size_t)i * (size_t)width, width,
                  y, ldy, accumulate || i > 0);
        i += PANEL_DEPTH;
    } while (i < k);
}

void panel_set_bias(int n, int width, const float *bias, float *y, int ldy) {
    for (int i = 0; i < n; i++) memcpy(y + (size_t)i * (size_t)ldy, bias, (size_t)width * sizeof(float));
}
