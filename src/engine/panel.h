// Products with packed weights: y (n, m) = x (n, k) B (k, m). B is packed once a call into panels of `width` columns,
// each contiguous (k, width; the last one may be narrower), so that the kernel reads it in one stream whatever its
// stride was. Panel j begins at panels + j * width * k; together they take k * m floats.
#ifndef ENGINE_PANEL_H
#define ENGINE_PANEL_H

#include "engine/internal.h"

enum {
    PANEL_WIDTH = 32, // widest panel: with PANEL_DEPTH rows of it the first-level cache is full, and kernels run best
    PANEL_DEPTH = 256,
    PANEL_ROWS = 64 // rows of x and y in a tile
};

// From B (k, m) itself, rows `stride` apart.
void panel_pack(Engine *engine, int k, int m, int width, const float *B, int stride, float *panels);
// From B's transpose (m, k), rows `stride` apart.
void panel_pack_transposed(Engine *engine, int k, int m, int width, const float *Bt, int stride, float *panels);

// Serial: one panel's columns of y for n rows (n <= PANEL_ROWS keeps the tile in cache): y = [y +] x panel.
void panel_multiply(int n, int k, int width, const float *x, int ldx, const float *panel, float *y, int ldy,
                    bool accumulate);
// Sets n rows of `width` columns of y to `bias`.
void panel_set_bias(int n, int width, const float *bias, float *y, int ldy);

#endif
