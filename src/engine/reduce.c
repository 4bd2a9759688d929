#include "engine/reduce.h"

#include <string.h>

#include "engine/simd.h"
#include "engine/tile.h"

enum {
    TILE_HEIGHT = 192, // most rows and columns of G that one work item sums
    TILE_WIDTH = 192,
    STEP = 64,       // rows of L and X that one kernel call sums ...
    COLUMNS = 32,    // ... and columns of G: these, L's and G's share the first-level cache
    PART_ROWS = 256, // fewest rows in a part
    WORK_ITEMS = 64, // parts are added until there are about so many items to share out
    FAR_STRIDE = 256 // rows further apart are gathered first: they would fight over cache sets and TLB entries
};

typedef struct Cut {
    int height, width, part; // rows and columns of a tile of G; rows of L and X in a part
    int down, across, parts;
} Cut;

static Cut cut(int n, int p, int q) {
    Cut c = {.height = tile_even(p, TILE_HEIGHT, 2), .width = tile_even(q, TILE_WIDTH, 32)};
    c.down = tile_count(p, c.height);
    c.across = tile_count(q, c.width);
    int wanted = tile_count(WORK_ITEMS, tile_min(c.down * c.across, WORK_ITEMS));
    c.part = tile_round(tile_count(n, tile_min(wanted, tile_count(n, PART_ROWS))), STEP);
    c.parts = tile_count(n, c.part);
    return c;
}

size_t reduce_product_scratch(int n, int p, int q) {
    if (n == 0 || p == 0 || q == 0) return 0;
    return scratch_size((size_t)cut(n, p, q).parts * (size_t)p * (size_t)q);
}

// A block of rows that are `*stride` apart; when that is far they are copied to `gathered`, and *stride becomes
// `width`.
static const float *gather(int rows, int width, const float *from, int *stride, float *gathered) {
    if (*stride <= FAR_STRIDE) return from;
    for (int i = 0; i < rows; i++) {
        memcpy(gathered + (size_t)i * (size_t)width, from + (size_t)i * (size_t)*stride, (size_t)width * sizeof(float));
    }
    *stride = width;
    return gathered;
}

// sum (height, width) rows `stride` apart = L^T X over n rows.
static void sum_tile(int n, int height, int width, const float *L, int ldl, const float *X, int ldx, float *sum,
                     int stride) {
    _Alignas(64) float gathered_l[STEP * TILE_HEIGHT], gathered_x[STEP * COLUMNS];
    for (int i = 0; i < n; i += STEP) {
        int rows = tile_min(STEP, n - i), stride_l = ldl;
        const float *l = gather(rows, height, L + (size_t)i * (size_t)ldl, &stride_l, gathered_l);
        for (int j = 0; j < width; j += COLUMNS) {
            int columns = tile_min(COLUMNS, width - j), stride_x = ldx;
            const float *x = gather(rows, columns, X + (size_t)i * (size_t)ldx + j, &stride_x, gathered_x);
            gemm_tile(GEMM_TN, height, columns, rows, l, stride_l, x, stride_x, sum + j, stride, i > 0);
        }
    }
}

// g += factor * (sum of the parts, `size` apart), n elements; the first part is overwritten.
ENGINE_CLONES
static void add_parts(int n, int parts, float *sum, size_t size, float factor, float *g) {
    for (int part = 1; part < parts; part++) {
        const float *term = sum + (size_t)part * size;
        for (int j = 0; j < n; j++) sum[j] += term[j];
    }
    for (int j = 0; j < n; j++) g[j] += factor * sum[j];
}

void reduce_product(Engine *engine, int n, int p, int q, const float *L, int ldl, const float *X, int ldx,
                    const float *scale, float *scratch, float *G) {
    if (n == 0 || p == 0 || q == 0) return;
    Cut c = cut(n, p, q);
    size_t size = (size_t)p * (size_t)q;
#pragma omp parallel num_threads(engine->threads)
    {
#pragma omp for collapse(3) schedule(dynamic)
        for (int part = 0; part < c.parts; part++) {
            for (int i = 0; i < c.down; i++) {
                for (int j = 0; j < c.across; j++) {
                    size_t row = (size_t)part * (size_t)c.part;
                    int top = i * c.height, left = j * c.width;
                    sum_tile(tile_extent(n, c.part, part), tile_extent(p, c.height, i), tile_extent(q, c.width, j),
                             L + row * (size_t)ldl + top, ldl, X + row * (size_t)ldx + left, ldx,
                             scratch + (size_t)part * size + (size_t)top * (size_t)q + left, q);
                }
            }
        }
#pragma omp for schedule(static)
        for (int i = 0; i < p; i++)
            add_parts(q, c.parts, scratch + (size_t)i * (size_t)q, size, scale ? scale[i] : 1.0F,
                      G + (size_t)i * (size_t)q);
    }
}

size_t reduce_columns_scratch(int n, int m) {
    return scratch_size((size_t)tile_count(n, PART_ROWS) * (size_t)m);
}

// sum (m) = sum over n rows of x * y, or of x where y is NULL.
ENGINE_CLONES
static void sum_rows(int n, int m, const float *x, const float *y, int stride, float *sum) {
    memset(sum, 0, (size_t)m * sizeof *sum);
    for (int i = 0; i < n; i++, x += stride) {
        if (y) {
            for (int j = 0; j < m; j++) sum[j] += x[j] * y[j];
            y += stride;
        } else {
            for (int j = 0; j < m; j++) sum[j] += x[j];
        }
    }
}

void reduce_columns(Engine *engine, int n, int m, const float *X, const float *Y, int stride, float *scratch,
                    float *out) {
    int parts = tile_count(n, PART_ROWS);
#pragma omp parallel for num_threads(engine->threads) schedule(static)
    for (int part = 0; part < parts; part++) {
        size_t first = (size_t)part * PART_ROWS * (size_t)stride;
        sum_rows(tile_extent(n, PART_ROWS, part), m, X + first, Y ? Y + first : NULL, stride,
                 scratch + (size_t)part * (size_t)m);
    }
    for (int part = 0; part < parts; part++) {
        for (int j = 0; j < m; j++) out[j] += scratch[(size_t)part * (size_t)m + (size_t)j];
    }
}
