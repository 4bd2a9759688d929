// Block-diagonal rotations of rows, y_i = x_i R_i for each of the `blocks` pieces of a row, with R_i from Cayley's
// transform. What comes after is a frozen matrix W: y W^T = x (W R^T)^T, so that forward rotates W, once a pass, and
// not the rows of x. Backward: dx_i = dy_i R_i^T, dR_i = x_i^T dy_i summed over the rows.
#include <string.h>

#include "engine/cayley.h"
#include "engine/panel.h"
#include "engine/reduce.h"

enum { COLUMNS = 256 }; // of a tile

typedef struct Rotation {
    int n, m, b;
    Activation from, to;
    const float *panels; // of R_i^T, for each block
    PanelForm form;
    Activation slope; // where .gelu: times GELU's slope at these (n, m)
    bool accumulate;
} Rotation;

// to (rows, columns from `column` of block `block` on) = from R^T
static void rotate_tile(const Rotation *r, int row, int rows, int block, int column) {
    _Alignas(64) float loaded[PANEL_BUFFER], sums[PANEL_ROWS * COLUMNS];
    const size_t at = (size_t)row * (size_t)r->m + (size_t)block * (size_t)r->b;
    const float *panels = r->panels + (size_t)block * panel_size(r->b, r->b);
    const int width = tile_min(COLUMNS, r->b - column);
    for (int first = 0; first < r->b; first += PANEL_DEPTH) {
        const int depth = tile_min(PANEL_DEPTH, r->b - first);
        const Operand x = operand_read(r->form, rows, depth, activation_at(r->from, at + (size_t)first), r->m, loaded);
        panel_multiply(rows, depth, width, x, panel_at(r->form, panels, r->b, column), r->b, first, PANEL_WIDTH, sums,
                       width, first > 0);
    }
    const size_t out = at + (size_t)column;
    if (r->slope.gelu) rows_gelu_slope(rows, width, activation_at(r->slope, out), r->m, sums, width);
    rows_store(rows, width, sums, width, activation_at(r->to, out), r->m, r->accumulate);
}

// By the transposes of R (blocks, b, b). panels: scratch.
static void rotate_back(Engine *engine, Rotation *r, const float *R, float *panels) {
    const int blocks = r->m / r->b;
    r->form = panel_form(r->from.type, NULL);
    r->panels = panels;
    for (int i = 0; i < blocks; i++) {
        panel_pack_transposed(engine, r->form, r->b, r->b, PANEL_WIDTH, R + (size_t)i * (size_t)r->b * (size_t)r->b,
                              r->b, panels + (size_t)i * panel_size(r->b, r->b));
    }
#pragma omp parallel num_threads(engine->threads)
    {
        amx_begin();
#pragma omp for collapse(2) schedule(static)
        for (int i = 0; i < tile_count(r->n, PANEL_ROWS); i++) {
            for (int block = 0; block < blocks; block++) {
                for (int j = 0; j < r->b; j += COLUMNS) {
                    rotate_tile(r, i * PANEL_ROWS, tile_extent(r->n, PANEL_ROWS, i), block, j);
                }
            }
        }
        amx_end();
    }
}

// Blocks are shared out, or the products of each.
static int threads_within(const Engine *engine, int blocks) {
    return blocks < engine->threads ? engine->threads : 1;
}

// R (blocks, b, b)
static void build(Engine *engine, int b, int blocks, int terms, const float *q, float *work, float *R) {
    const int within = threads_within(engine, blocks);
#pragma omp parallel for num_threads(engine->threads) schedule(static) if (within == 1)
    for (int i = 0; i < blocks; i++) {
        cayley_forward(within, b, terms, q + (size_t)i * cayley_numbers(b), work + (size_t)i * cayley_work(b, terms),
                       R + (size_t)i * (size_t)b * (size_t)b);
    }
}

size_t engine_rotate_scratch(int n, int m, int blocks, int terms) {
    const int b = m / blocks;
    const size_t sums = reduce_scratch(n, b, b, 0, 0), work = (size_t)blocks * cayley_work(b, terms),
                 panels = scratch_size((size_t)blocks * panel_size(b, b));
    return 2 * scratch_size((size_t)m * (size_t)b) + scratch_larger(scratch_larger(sums, work), panels);
}

void engine_rotate_form(Engine *engine, int m2, int m, int blocks, int terms, const float *q, const float *W,
                        float *out) {
    engine_profile_begin(engine);
    const int b = m / blocks;
    float *scratch = engine->scratch, *R = scratch_take(&scratch, (size_t)m * (size_t)b);
    Rotation r = {.n = m2, .m = m, .b = b, .from = activation_f32(W), .to = activation_f32(out)};
    build(engine, b, blocks, terms, q, scratch, R);
    rotate_back(engine, &r, R, scratch);
    engine_profile_end(engine, KERNEL_ADAPTER, 2.0 * m2 * m * b, 8.0 * m2 * m);
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
    float *scratch = engine->scratch, *R = scratch_take(&scratch, all), *dRt = scratch_take(&scratch, all);
    Rotation r = {.n = n, .m = m, .b = b, .from = dy, .to = dx, .slope = x, .accumulate = accumulate};
    build(engine, b, blocks, terms, q, scratch, R);
    if (dx.data) rotate_back(engine, &r, R, scratch);
    if (dq) {
        sum_rotations(engine, n, m, b, x, dy, dRt, scratch);
        const int within = threads_within(engine, blocks);
#pragma omp parallel for num_threads(engine->threads) schedule(static) if (within == 1)
        for (int i = 0; i < blocks; i++) {
            cayley_backward(within, b, terms, q + (size_t)i * cayley_numbers(b), R + (size_t)i * one,
                            dRt + (size_t)i * one, scratch + (size_t)i * cayley_work(b, terms),
                            dq + (size_t)i * cayley_numbers(b));
        }
    }
    engine_profile_end(engine, KERNEL_ADAPTER, 2.0 * n * m * b * ((dx.data != NULL) + (dq != NULL)), 12.0 * n * m);
}
