#include "engine/panel.h"

#include <string.h>

#include "engine/gemm_plain.h"
#include "formats/quant.h"

_Static_assert((int)PANEL_DEEPEST <= (int)GEMM_PLAIN_DEPTH, "all columns of a tile sum its terms in one go");

// ---- packing -------------------------------------------------------------------------------------------------------

void panel_find_scales(Engine *engine, int k, int m, const float *B, int stride, float *scales) {
#pragma omp parallel for num_threads(engine->threads) schedule(static)
    for (int i = 0; i < k; i++) scales[i] = quant_scale(8, rows_largest(m, B + (size_t)i * (size_t)stride));
}

// Rows of Bt as operands of bf16 or integers.
static void load_columns(PanelForm form, int rows, int depth, const float *from, int stride, const float *scales,
                         void *to) {
    const int ld = panel_depth(form, depth);
    if (form == PANEL_INT8) {
        rows_divide(rows, depth, from, stride, scales, to, ld);
    } else {
        rows_load_bf16(rows, depth, activation_f32(from), stride, to, ld);
    }
}

void panel_set_columns(PanelForm form, int k, int column, int columns, const float *Bt, int stride, float *panel,
                       int width) {
    _Alignas(64) float loaded[PANEL_NARROW * ROW_PIECE / 2];
    float *scales = panel + (size_t)width * panel_rows(form, k) + column;
    if (panel_is_f32(form)) {
        gemm_transpose(columns, k, Bt, stride, panel + column, width);
        return;
    }
    for (int j = 0; j < columns && form == PANEL_INT8; j++) {
        scales[j] = quant_scale(8, rows_largest(k, Bt + (size_t)j * (size_t)stride));
    }
    for (int j = 0; j < columns; j += PANEL_NARROW) { // a pair of halves or a quad of bytes moves as a float does
        for (int first = 0; first < k; first += ROW_PIECE) {
            const int depth = tile_min(ROW_PIECE, k - first), rows = tile_min(PANEL_NARROW, columns - j);
            const int floats = (int)panel_rows(form, depth);
            load_columns(form, rows, depth, Bt + (size_t)j * (size_t)stride + first, stride, scales + j, loaded);
            gemm_transpose(rows, floats, loaded, floats, panel + panel_rows(form, first) * (size_t)width + column + j,
                           width);
        }
    }
}

void panel_set_rows(PanelForm form, int k, int i, const float *const rows[PANEL_QUAD], const float *scales,
                    float *panel, int width) {
    float *to = panel + (size_t)(i / panel_together(form)) * (size_t)width;
    if (form == PANEL_INT8) {
        float *of_columns = panel + panel_rows(form, k) * (size_t)width;
        rows_quad(width, rows, scales, (int8_t *)to);
        for (int j = 0; j < width && i == 0; j++) of_columns[j] = 1;
    } else if (form == PANEL_BF16) {
        rows_pair(width, rows[0], rows[1], (uint16_t *)(void *)to);
        rows_pair(width, rows[2], rows[3], (uint16_t *)(void *)(to + width));
    } else {
        for (int l = 0; l < PANEL_QUAD && rows[l]; l++, to += width) {
            memcpy(to, rows[l], (size_t)width * sizeof *to);
            if (form == PANEL_ROUNDED) rows_round((size_t)width, to);
        }
    }
}

void panel_set(PanelForm form, int k, const float *B, int stride, const float *scales, float *panel, int width) {
    for (int i = 0; i < panel_depth(form, k); i += PANEL_QUAD) {
        const float *rows[PANEL_QUAD] = {NULL};
        for (int l = i; l < tile_min(k, i + PANEL_QUAD); l++) rows[l - i] = B + (size_t)l * (size_t)stride;
        panel_set_rows(form, k, i, rows, scales ? scales + i : NULL, panel, width);
    }
}

void panel_pack(Engine *engine, PanelForm form, int k, int m, const float *B, int stride, const float *scales,
                float *panels) {
    const int width = panel_width(form);
#pragma omp parallel for num_threads(engine->threads) schedule(static)
    for (int j = 0; j < tile_count(m, width); j++) {
        panel_set(form, k, B + (size_t)j * (size_t)width, stride, scales, panel_at(form, panels, k, j * width),
                  tile_extent(m, width, j));
    }
}

void panel_pack_transposed(Engine *engine, PanelForm form, int k, int m, const float *Bt, int stride, float *panels) {
    const int width = panel_width(form);
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
    if (form == PANEL_INT8) {
        x.ld = panel_depth(form, width);
        float *scales = buffer + (size_t)n * (size_t)x.ld / sizeof *buffer;
        rows_quantise(n, width, from, stride, (int8_t *)buffer, x.ld, scales);
        x.rows = buffer;
        x.scales = scales;
    } else if (form == PANEL_BF16) {
        x.rows = rows_read_bf16(n, width, from, &x.ld, (uint16_t *)(void *)buffer);
    } else {
        x.rows = rows_read(n, width, from, &x.ld, buffer);
    }
    return x;
}

Operand operand_at(Operand x, int row, int column) {
    const size_t offset = (size_t)row * (size_t)x.ld + (size_t)column;
    x.rows = (const char *)x.rows + offset * sizeof(float) / (size_t)panel_together(x.form);
    if (x.form == PANEL_INT8) x.scales += row;
    return x;
}

// Of a panel's rows those from `panel` on.
static void multiply_rows(int n, int depth, int m, Operand x, const float *panel, const float *scales, float *y,
                          int ldy, bool accumulate) {
    const int k = x.form == PANEL_INT8 ? tile_round(depth, PANEL_QUAD) : panel_depth(x.form, depth);
    if (x.form == PANEL_INT8) {
        const Int8Operand A = {x.rows, x.ld, x.scales}, B = {(const int8_t *)panel, m, scales};
        gemm_int8(n, m, k, A, B, y, ldy, accumulate);
    } else if (x.form == PANEL_BF16) {
        gemm_bf16(n, m, k, x.rows, x.ld, (const uint16_t *)(const void *)panel, m, y, ldy, accumulate);
    } else {
        gemm_tile(GEMM_NN, n, m, k, x.rows, x.ld, panel, m, y, ldy, accumulate);
    }
}

void operand_multiply(int n, int depth, int m, Operand x, const float *panel, float *y, int ldy, bool accumulate) {
    multiply_rows(n, depth, m, x, panel, panel + (size_t)m * panel_rows(x.form, depth), y, ldy, accumulate);
}

void operand_multiply_joined(int n, int depth, int m, Operand x, const float *panel, int joint, const float *rest,
                             float *y, int ldy, bool accumulate) {
    gemm_bf16_joined(n, m, panel_depth(x.form, depth), x.rows, x.ld, (const uint16_t *)(const void *)panel, m, joint,
                     (const uint16_t *)(const void *)rest, y, ldy, accumulate);
}

void panel_multiply(int n, int depth, int m, Operand x, const float *panels, int k, int first, int width, float *y,
                    int ldy, bool accumulate) {
    for (int j = 0; j < m; j += width) {
        const int columns = tile_min(width, m - j);
        const float *panel = panel_at(x.form, panels, k, j), *scales = panel + (size_t)columns * panel_rows(x.form, k);
        multiply_rows(n, depth, columns, x, panel + (size_t)columns * panel_rows(x.form, first), scales, y + j, ldy,
                      accumulate);
    }
}
