#include "engine/panel.h"

#include <string.h>

#include "engine/rows.h"
#include "engine/tile.h"

void panel_pack(Engine *engine, int k, int m, int width, const float *B, int stride, bool round, float *panels) {
#pragma omp parallel for num_threads(engine->threads) schedule(static)
    for (int j = 0; j < tile_count(m, width); j++) {
        size_t columns = (size_t)tile_extent(m, width, j), begin = (size_t)j * (size_t)width;
        float *panel = panels + begin * (size_t)k;
        for (int i = 0; i < k; i++) {
            memcpy(panel + (size_t)i * columns, B + begin + (size_t)i * (size_t)stride, columns * sizeof(float));
        }
        if (round) rows_round((size_t)k * columns, panel);
    }
}

void panel_pack_transposed(Engine *engine, int k, int m, int width, const float *Bt, int stride, bool round,
                           float *panels) {
#pragma omp parallel for num_threads(engine->threads) schedule(static)
    for (int j = 0; j < tile_count(m, width); j++) {
        int columns = tile_extent(m, width, j);
        size_t begin = (size_t)j * (size_t)width;
        float *panel = panels + begin * (size_t)k;
        gemm_transpose(columns, k, Bt + begin * (size_t)stride, stride, panel, columns);
        if (round) rows_round((size_t)k * (size_t)columns, panel);
    }
}

void panel_multiply(int n, int depth, int m, const float *x, int ldx, const float *panels, int k, int first, int width,
                    float *y, int ldy, bool accumulate) {
    for (int j = 0; j < m; j += width) {
        int columns = tile_min(width, m - j);
        const float *panel = panels + (size_t)j * (size_t)k + (size_t)first * (size_t)columns;
        gemm_tile(GEMM_NN, n, columns, depth, x, ldx, panel, columns, y + j, ldy, accumulate);
    }
}
