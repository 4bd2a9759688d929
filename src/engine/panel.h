// Products with packed weights: y (n, m) = x (n, k) B (k, m). B is packed once a call into panels of `width` columns,
// each contiguous (k, width; the last one may be narrower), so that the kernel reads it in one stream whatever its
// stride was. How numbers are kept follows the type of x: fp32; or, for rows of bf16, bf16 in pairs of rows (see
// gemm_bf16.h) where the processor multiplies such, else fp32 that is rounded to what bf16 keeps.
#ifndef ENGINE_PANEL_H
#define ENGINE_PANEL_H

#include "engine/amx.h"
#include "engine/gemm_bf16.h"
#include "engine/internal.h"
#include "engine/tile.h"

enum {
    PANEL_WIDTH = 32,  // widest panel: kernels run best, and PANEL_DEPTH rows of it leave room in the first-level cache
    PANEL_DEPTH = 256, // columns of x in a tile
    PANEL_ROWS = 128   // rows of x and y in a tile
};

typedef enum PanelForm { PANEL_F32, PANEL_ROUNDED, PANEL_BF16 } PanelForm;
static inline PanelForm panel_form(EngineType x) {
    return x == ENGINE_F32 ? PANEL_F32 : gemm_bf16_is_native() ? PANEL_BF16 : PANEL_ROUNDED;
}

// Floats that panels of m columns take, in any form.
static inline size_t panel_size(int k, int m) {
    return (size_t)(k < BF16_STEP / 2 ? BF16_STEP / 2 : k) * (size_t)m;
}
// Where the panel that begins at `column` lies.
static inline float *panel_at(PanelForm form, const float *panels, int k, int column) {
    return (float *)panels + (size_t)column * (size_t)(form == PANEL_BF16 ? tile_round(k, BF16_STEP) / 2 : k);
}

// From B (k, m) itself, rows `stride` apart.
void panel_pack(Engine *engine, PanelForm form, int k, int m, int width, const float *B, int stride, float *panels);
// From B's transpose (m, k), rows `stride` apart.
void panel_pack_transposed(Engine *engine, PanelForm form, int k, int m, int width, const float *Bt, int stride,
                           float *panels);

// Serial pieces of these, for panels that are put together. Columns [column, column + columns) of a panel `width` wide
// from rows of Bt ...
void panel_set_columns(PanelForm form, int k, int column, int columns, const float *Bt, int stride, float *panel,
                       int width);
// ... and rows i and i + 1 (i even; `odd` may be NULL: zeros in bf16, else nothing) of one.
void panel_set_rows(PanelForm form, int i, const float *even, const float *odd, float *panel, int width);

// Rows of x in cache, as its panels want them: fp32, or bf16 with zeros up to a whole number of steps.
typedef struct Operand {
    const void *rows;
    int ld;
    PanelForm form;
} Operand;
// Bytes of a buffer for n rows of up to PANEL_DEPTH columns, on the stack: an array of so many floats.
#define PANEL_BUFFER (PANEL_ROWS * PANEL_DEPTH)
// From an activation (rows `stride` apart), through GELU where it says so; without a copy where it is in place.
Operand operand_read(PanelForm form, int n, int width, Activation from, int stride, float *buffer);
Operand operand_at(Operand x, int row, int column);

// Serial: y (n, m) = [y +] x B for one panel of m columns, from its first row on, and `depth` of them.
void operand_multiply(int n, int depth, int m, Operand x, const float *panel, float *y, int ldy, bool accumulate);
// The same for all panels (m columns), for `depth` of their k rows from `first` on (a multiple of PANEL_DEPTH); x
// begins at that column.
void panel_multiply(int n, int depth, int m, Operand x, const float *panels, int k, int first, int width, float *y,
                    int ldy, bool accumulate);

#endif
