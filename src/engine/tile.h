// Cutting an extent into tiles of a fixed size (the last one may be shorter), and handing out the scratch.
#ifndef ENGINE_TILE_H
#define ENGINE_TILE_H

#include <stddef.h>

static inline int tile_min(int a, int b) {
    return a < b ? a : b;
}
static inline int tile_max(int a, int b) {
    return a > b ? a : b;
}
static inline int tile_count(int n, int size) {
    return (n + size - 1) / size;
}
static inline int tile_extent(int n, int size, int index) {
    return tile_min(size, n - index * size);
}
static inline int tile_round(int n, int multiple) {
    return tile_count(n, multiple) * multiple;
}

// Tile size <= most that cuts n into equal parts, rounded up to `multiple`. At least `multiple`.
static inline int tile_even(int n, int most, int multiple) {
    int count = n > 0 ? tile_count(n, most) : 1;
    int size = tile_round(tile_count(n, count), multiple);
    return size > multiple ? size : multiple;
}

// Pieces of scratch start at cache lines: the size a piece of n floats takes, and taking it.
static inline size_t scratch_size(size_t n) {
    return (n + 15) / 16 * 16;
}
static inline float *scratch_take(float **cursor, size_t n) {
    float *piece = *cursor;
    *cursor += scratch_size(n);
    return piece;
}

static inline size_t scratch_larger(size_t a, size_t b) {
    return a > b ? a : b;
}

#endif
