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

// Rows of each part of n whose sums are kept apart, `sums` numbers a part, and then added in order: by the shape alone,
// so that threads change no bit. A multiple of `tile`.
static inline int tile_part(int n, size_t sums, int tile) {
    const size_t most = (size_t)1 << 20, few = 4; // numbers of all parts; parts that there are in any case
    const size_t wanted = sums * few < most ? most / sums : few, parts = (size_t)tile_count(n, 2 * tile);
    return tile_round(tile_count(n, (int)(parts < wanted ? parts : wanted)), tile);
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
