#include "engine/panel.h"

#include <string.h>

#include "engine/rows.h"

// ---- packing -------------------------------------------------------------------------------------------------------

void panel_set_columns(PanelForm form, int k, int column, int columns, const float *Bt, int stride, float *panel,
                       int width) {
    _Alignas(64) uint16_t halves[PANEL_WIDTH * PANEL_DEPTH];
    if (form != PANEL_BF16) {
        gemm_transpose(columns, k, Bt, stride, panel + column, width);
        return;
    }
    for (int j = 0; j < columns; j += PANEL_WIDTH) { // a pair of halves moves as a float does
        for (int first = 0; first < k; first += PANEL_DEPTH) {
            int depth = tile_min(PANEL_DEPTH, k - first), rows = tile_min(PANEL_WIDTH, columns - j);
            int padded = tile_round(depth, BF16_STEP);
            const float *from = Bt + (size_t)j * (size_t)stride + first;
            rows_load_bf16(rows, depth, activation_f32(from), stride, halves, padded);
            gemm_transpose(rows, padded / 2, (const float *)(const void *)halves, padded / 2,
                           panel + (size_t)(first / 2) * (size_t)width + column + j, width);
        }
    }
}

void panel_set_rows(PanelForm form, int i, const float *even, const float *odd, float *panel, int width) {
    if (form == PANEL_BF16) {
        rows_pair(width, even, odd, (uint16_t *)(void *)(panel + (size_t)(i / 2) * (size_t)width));
        return;
    }
    float *to = panel + (size_t)i * (size_t)width;
    memcpy(to, even, (size_t)width * sizeof *to);
    if (odd) memcpy(to + width, odd, (size_t)width * sizeof *to);
    if (form == PANEL_ROUNDED) rows_round((size_t)width * (odd ? 2 : 1), to);
}

void panel_pack(Engine *engine, PanelForm form, int k, int m, int width, const float *B, int stride, float *panels) {
#pragma omp parallel for num_threads(engine->threads) schedule(static)
    for (int j = 0; j < tile_count(m, width); j++) {
        int columns = tile_extent(m, width, j), pairs = form == PANEL_BF16 ? tile_round(k, BF16_STEP) : k;
        float *panel = panel_at(form, panels, k, j * width);
        for (int i = 0; i < pairs; i += 2) {
            const float *row = B + (size_t)i * (size_t)stride + (size_t)j * (size_t)width;
            panel_set_rows(form, i, i < k ? row : NULL, i + 1 < k ? row + stride : NULL, panel, columns);
        }
    }
}

void panel_pack_transposed(Engine *engine, PanelForm form, int k, int m, int width, const float *Bt, int stride,
                           float *panels) {
#pragma omp parallel for num_threads(engine->threads) schedule(static)
    for (int j = 0; j < tile_count(m, width); j++) {
        int columns = tile_extent(m, width, j);
        float *panel = panel_at(form, panels, k, j * width);
        panel_set_columns(form, k, 0, columns, Bt + (size_t)j * (size_t)width * (size_t)stride, stride, panel, columns);
        if (form == PANEL_ROUNDED) rows_round((size_t)k * (size_t)columns, panel);
    }
}

// ---- products ------------------------------------------------------------------------------------------------------

Operand operand_read(PanelForm form, int n, int width, Activation from, int stride, float *buffer) {
    Operand x = {.ld = stride, .form = form};
    if (form == PANEL_BF16) {
        x.rows = rows_read_bf16(n, width, from, &x.ld, (uint16_t *)(void *)buffer);
    } else {
        x.rows = rows_read(n, width, from, &x.ld, buffer);
    }
    return x;
}

Operand operand_at(Operand x, int row, int column) {
    size_t offset = (size_t)row * (size_t)x.ld + (size_t)column;
    x.rows = (const char *)x.rows + offset * (x.form == PANEL_BF16 ? sizeof(uint16_t) : sizeof(float));
    return x;
}

void operand_multiply(int n, int depth, int m, Operand x, const float *panel, float *y, int ldy, bool accumulate) {
    if (x.form == PANEL_BF16) {
        gemm_bf16(n, m, tile_round(depth, BF16_STEP), x.rows, x.ld, (const uint16_t *)(const void *)panel, m, y, ldy,
                  accumulate);
    } else {
        gemm_tile(GEMM_NN, n, m, depth, x.rows, x.ld, panel, m, y, ldy, accumulate);
    }
}

void panel_multiply(int n, int depth, int m, Operand x, const float *panels, int k, int first, int width, float *y,
                    int ldy, bool accumulate) {
    for (int j = 0; j < m; j += width) {
        int columns = tile_min(width, m - j);
        const float *panel =
            panel_at(x.form, panels, k, j) + (size_t)columns * (size_t)(x.form == PANEL_BF16 ? first / 2 : first);
        operand_multiply(n, depth, columns, x, panel, y + j, ldy, accumulate);
    }
}
