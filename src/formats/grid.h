// Pictures of many samples: a row of images for each class, its caption beside it.
#ifndef FORMATS_GRID_H
#define FORMATS_GRID_H

#include "formats/image.h"

enum { GRID_FONT_WIDTH = 5, GRID_FONT_HEIGHT = 7 };

typedef struct Grid {
    int size, channels; // of one image; channels 1 or 3
    int n_rows, n_columns;
    const char *const *captions; // [n_rows]; shown cut to 20 characters
    const uint8_t *pixels;       // (n_rows, n_columns, size, size, channels)
} Grid;

// Can it be drawn? Looks at all but the pixels, so that a caller can ask before making them.
KinditStatus grid_check(KinditContext *ctx, const Grid *grid);

// Small images are magnified by a whole factor; many rows are set in several columns of rows, to a page about as wide
// as high. *out is closed by the caller.
KinditStatus grid_draw(Image *out, KinditContext *ctx, const Grid *grid);

// Is dot (x, y) of a character set? x < GRID_FONT_WIDTH, y < GRID_FONT_HEIGHT. Beyond ASCII: a box.
bool grid_font_dot(unsigned char character, int x, int y);

#endif
