// Block-diagonal rotations of rows, y_i = x_i R_i for each of the `blocks` pieces of a row, with R_i from Cayley's
// transform. Backward: dx_i = dy_i R_i^T, dR_i = x_i^T dy_i summed over the rows.
#include <string.h>

#include "engine/cayley.h"
#include "engine/reduce.h"
#include "engine/rows.h"
#include "engine/tile.h"

enum { ROWS = 128, COLUMNS = 256 }; // of a tile

typedef struct Rotation {
    int n, m, b;
    Activation from, to;
    const float *B;   // (m / b, b, b)
    Activation slope; // where .gelu: times GELU's slope at these (n, m)
    bool accumulate;
} Rotation;

// to (rows, columns from `column` of block `block` on) = from B
static void rotate_tile(const Rotation *r, int row, int rows, int block, int column) {
    _Alignas(64) float loaded[ROWS * COLUMNS], sums[ROWS * COLUMNS];
    const size_t at = (size_t)row * (size_t)r->m + (size_t)block * (size_t)r->b;
    const float *B = r->B + (size_t)block * (size_t)r->b * (size_t)r->b;
    const int width = tile_min(COLUMNS, r->b - column);
    for (int first = 0; first < r->b; first += COLUMNS) {
        int depth = tile_min(COLUMNS, r->b - first), stride = r->m;
        const float *x = rows_read(rows, depth, activation_at(r->from, at + (size_t)first), &stride, loaded);
        gemm_tile(GEMM_NN, rows, width, depth, x, stride, B + (size_t)first * (size_t)r->b + column, r->b, sums, width,
                  first > 0);
    }
    const size_t out = at + (size_t)column;
    if (r->slope.gelu) rows_gelu_slope(rows, width, activation_at(r->slope, out), r->m, sums, width);
    rows_store(rows, width, sums, width, activation_at(r->to, out), r->m, r->accumulate);
}

static void rotate(Engine *engine, const Rotation *r) {
#pragma omp parallel for collapse(2) num_threads(engine->threads) schedule(static)
    for (int i = 0; i < tile_count(r->n, ROWS); i++) {
        for (int block = 0; block < r->m / r->b; block++) {
            for (int j = 0; j < r->b; j += COLUMNS) {
                rotate_tile(r, i * ROWS, tile_extent(r->n, ROWS, i), block, j);
            }
        }
    }
}

// R (blocks, b, b)
static void build(Engine *engine, int b, int blocks, int terms, const float *q, float *work, float *R) {
#pragma omp parallel for num_threads(engine->threads) schedule(static)
    for (int i = 0; i < blocks; i++) {
        cayley_forward(b, terms, q + (size_t)i * cayley_numbers(b), work + (size_t)i * cayley_work(b, terms),
                       R + (size_t)i * (size_t)b * (size_t)b);
    }
}

size_t engine_rotate_scratch(int n, int m, int blocks, int terms) {
    const int b = m / blocks;
    const size_t sums = reduce_scratch(n, b, b, 0, 0), work = (size_t)blocks * cayley_work(b, terms);
    return 3 * scratch_size((size_t)m * (size_t)b) + scratch_larger(sums, work);
}

void engine_rotate_forward(Engine *engine, int n, int m, int blocks, int terms, const float *q, Activation x,
                           Activation y) {
    engine_profile_begin(engine);
    const int b = m / blocks;
    float *scratch = engine->scratch, *R = scratch_take(&scratch, (size_t)m * (size_t)b);
    build(engine, b, blocks, terms, q, scratch, R);
    rotate(engine, &(Rotation){.n = n, .m = m, .b = b, .from = x, .to = y, .B = R});
    engine_profile_end(engine, KERNEL_ADAPTER, 2.0 * n * m * b, 8.0 * n * m);
}

// dRt (blocks, b, b) = sums of dy_i^T x_i
static void sum_rotations(Engine *engine, int n, int m, int b, Activation x, Activation dy, float *dRt,
                          float *scratch) {
    memset(dRt, 0, (size_t)m * (size_t)b * sizeof *dRt);
    for (int i = 0; i < m / b; i++) {
        const size_t at = (size_t)i * (size_t)b;
        reduce(engine, 1,
               &(Reduction){.n = n,
                            .p = b,
                            .q = b,
                            .L = activation_at(dy, at),
                            .ldl = m,
                            .X = activation_at(x, at),
                            .ldx = m,
                            .G = dRt + at * (size_t)b},
               scratch);
    }
}

void engine_rotate_backward(Engine *engine, int n, int m, int blocks, int terms, const float *q, Activation x,
                            Activation dy, Activation dx, bool accumulate, float *dq) {
    engine_profile_begin(engine);
    const int b = m / blocks;
    const size_t all = (size_t)m * (size_t)b, one = (size_t)b * (size_t)b;
    float *scratch = engine->scratch, *R = scratch_take(&scratch, all), *Rt = scratch_take(&scratch, all);
    float *dRt = scratch_take(&scratch, all);
    build(engine, b, blocks, terms, q, scratch, R);
    if (dx.data) {
        for (int i = 0; i < blocks; i++) gemm_transpose(b, b, R + (size_t)i * one, b, Rt + (size_t)i * one, b);
        rotate(
            engine,
            &(Rotation){.n = n, .m = m, .b = b, .from = dy, .to = dx, .B = Rt, .slope = x, .accumulate = accumulate});
    }
    if (dq) {
        sum_rotations(engine, n, m, b, x, dy, dRt, scratch);
#pragma omp parallel for num_threads(engine->threads) schedule(static)
        for (int i = 0; i < blocks; i++) {
            cayley_backward(b, terms, q + (size_t)i * cayley_numbers(b), R + (size_t)i * one, dRt + (size_t)i * one,
                            scratch + (size_t)i * cayley_work(b, terms), dq + (size_t)i * cayley_numbers(b));
        }
    }
    engine_profile_end(engine, KERNEL_ADAPTER, 2.0 * n * m * b * ((dx.data != NULL) + (dq != NULL)), 12.0 * n * m);
}
