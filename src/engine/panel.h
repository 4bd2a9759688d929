// Products with packed weights: y (n, m) = x (n, k) B (k, m). B is packed once a call into panels of panel_width
// columns, each contiguous (k, width; the last one may be narrower), so that the kernel reads it in one stream whatever
// its stride was. How numbers are kept follows the type of x: fp32; or, for rows of bf16, bf16 in pairs of rows (see
// gemm_bf16.h) where the processor multiplies such, else fp32 that is rounded to what bf16 keeps. In a pack that asks
// for it they are 8-bit integers in quads of rows (see gemm_int8.h), followed by the scales of the panel's columns.
#ifndef ENGINE_PANEL_H
#define ENGINE_PANEL_H

#include "engine/amx.h"
#include "engine/gemm_bf16.h"
#include "engine/gemm_int8.h"
#include "engine/internal.h"
#include "engine/rows.h"
#include "engine/tile.h"

enum {
    PANEL_NARROW = 32, // columns of a panel where kernels have no use for more
    PANEL_WIDEST = 64,
    PANEL_DEEPEST = 384, // columns of x in a tile of wide panels; else ROW_PIECE
    PANEL_ROWS = 128     // rows of x and y in a tile
};

typedef enum PanelForm { PANEL_F32, PANEL_ROUNDED, PANEL_BF16, PANEL_INT8 } PanelForm;
static inline PanelForm panel_form(EngineType x, const EnginePack *pack) {
    if (pack && pack->int8 && gemm_int8_is_native()) return PANEL_INT8;
    return x == ENGINE_F32 ? PANEL_F32 : gemm_bf16_is_native() ? PANEL_BF16 : PANEL_ROUNDED;
}

// Whether products of it are those of gemm.c.
static inline bool panel_is_f32(PanelForm form) {
    return form == PANEL_F32 || form == PANEL_ROUNDED;
}

// Columns of a panel (the last one may be narrower), ...
static inline int panel_width(PanelForm form) {
    return panel_is_f32(form) ? gemm_columns() : PANEL_NARROW;
}
// ... and of x in a tile.
static inline int panel_piece(PanelForm form) {
    return panel_width(form) == PANEL_WIDEST ? PANEL_DEEPEST : ROW_PIECE;
}

// Terms of a product padded to whole steps.
static inline int panel_depth(PanelForm form, int k) {
    return form == PANEL_BF16 ? tile_round(k, BF16_STEP) : form == PANEL_INT8 ? tile_round(k, INT8_STEP) : k;
}
// Rows of B that lie interleaved, in the room of a float each column.
static inline int panel_together(PanelForm form) {
    return form == PANEL_BF16 ? 2 : form == PANEL_INT8 ? 4 : 1;
}
// Floats that k rows take of a panel's column.
static inline size_t panel_rows(PanelForm form, int k) {
    return (size_t)(panel_depth(form, k) / panel_together(form));
}

// Floats that panels of m columns take, in any form.
static inline size_t panel_size(int k, int m) {
    const int least = INT8_STEP / 4 + 1; // a step of integers, or half a one of bf16 more than that, and a scale
    return (size_t)(k < least ? least : k) * (size_t)m;
}
// Where the panel that begins at `column` lies.
static inline float *panel_at(PanelForm form, const float *panels, int k, int column) {
    return (float *)panels + (size_t)column * (panel_rows(form, k) + (form == PANEL_INT8));
}

// From B (k, m) itself, rows `stride` apart. As integers its rows are divided by `scales` (k), which the caller gives
// to the rows of x, so that those of columns are 1; else NULL.
void panel_pack(Engine *engine, PanelForm form, int k, int m, const float *B, int stride, const float *scales,
                float *panels);
// scales (k) = those of the rows of B, as formats/quant.h has them in 8 bits.
void panel_find_scales(Engine *engine, int k, int m, const float *B, int stride, float *scales);
// From B's transpose (m, k), rows `stride` apart. As integers these rows are what formats/quant.h makes of them in 8
// bits; their scales are those of columns.
void panel_pack_transposed(Engine *engine, PanelForm form, int k, int m, const float *Bt, int stride, float *panels);

// Serial pieces of these, for panels that are put together. Columns [column, column + columns) of a panel `width` wide
// from rows of Bt ...
void panel_set_columns(PanelForm form, int k, int column, int columns, const float *Bt, int stride, float *panel,
                       int width);
// ... all rows of one, from B (k, width) ...
void panel_set(PanelForm form, int k, const float *B, int stride, const float *scales, float *panel, int width);
// ... and PANEL_QUAD rows from row i on (a multiple) of one that has k; NULL: zeros where there is padding, else
// nothing. scales: of these rows as integers.
enum { PANEL_QUAD = 4 };
void panel_set_rows(PanelForm form, int k, int i, const float *const rows[PANEL_QUAD], const float *scales,
                    float *panel, int width);

// Rows of x in cache, as its panels want them: fp32, or bf16 or integers with zeros up to a whole number of steps.
typedef struct Operand {
    const void *rows;
    const float *scales; // of integers
    int ld;
    PanelForm form;
} Operand;
// Bytes of a buffer for n rows of up to PANEL_DEEPEST columns, on the stack: an array of so many floats.
#define PANEL_BUFFER (PANEL_ROWS * PANEL_DEEPEST)
// From an activation (rows `stride` apart), through GELU where it says so; without a copy where it is in place. As
// integers each row has one scale, whatever the width: ROW_PIECE at most, and more where it is in place.
Operand operand_read(PanelForm form, int n, int width, Activation from, int stride, float *buffer);
Operand operand_at(Operand x, int row, int column);

// Serial: y (n, m) = [y +] x B for one panel of m columns and `depth` rows.
void operand_multiply(int n, int depth, int m, Operand x, const float *panel, float *y, int ldy, bool accumulate);
// The same where the panel's rows from `joint` on lie at `rest`; of bf16 alone, joint a whole number of its steps.
void operand_multiply_joined(int n, int depth, int m, Operand x, const float *panel, int joint, const float *rest,
                             float *y, int ldy, bool accumulate);
// The same as operand_multiply for all panels (m columns), for `depth` of their k rows from `first` on (a multiple of
// panel_piece); x begins at that column.
void panel_multiply(int n, int depth, int m, Operand x, const float *panels, int k, int first, int width, float *y,
                    int ldy, bool accumulate);

#endif
