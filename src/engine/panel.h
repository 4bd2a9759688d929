// Products with packed weights: y (n, m) = x (n, k) B (k, m). B is packed once a call into panels of `width` columns,
// each contiguous (k, width; the last one may be narrower), so that the kernel reads it in one stream whatever its
// stride was. Panel j begins at panels + j * width * k; together they take k * m floats.
#ifndef ENGINE_PANEL_H
#define ENGINE_PANEL_H

#include "engine/internal.h"

enum {
    PANEL_WIDTH = 32,  // widest panel: kernels run best, and PANEL_DEPTH rows of it leave room in the first-level cache
    PANEL_DEPTH = 256, // columns of x in a tile
    PANEL_ROWS = 128   // rows of x and y in a tile
};

// From B (k, m) itself, rows `stride` apart; `round`: to what bf16 keeps.
void panel_pack(Engine *engine, int k, int m, int width, const float *B, int stride, bool round, float *panels);
// From B's transpose (m, k), rows `stride` apart.
void panel_pack_transposed(Engine *engine, int k, int m, int width, const float *Bt, int stride, bool round,
                           float *panels);

// Serial: y (n, m) = [y +] x panels, for `depth` of the panels' k rows from `first` on; x begins at that column.
void panel_multiply(int n, int depth, int m, const float *x, int ldx, const float *panels, int k, int first, int width,
                    float *y, int ldy, bool accumulate);

#endif
