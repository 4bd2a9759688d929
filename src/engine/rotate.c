// Block-diagonal rotations of rows, y_i = x_i R_i for each of the `blocks` pieces of a row, with R_i from Cayley's
// transform. What comes after is a frozen matrix W: y W^T = x (W R^T)^T, so that forward rotates W, once a pass, and
// not the rows of x. Backward, of the gradient dz of what W leaves:
//
//     narrow blocks   dy = dz W, then dx_i = dy_i R_i^T and dR_i = x_i^T dy_i, summed over the rows
//     wide ones       dx = dz (W R^T), and dR_i = (x_i^T dz) W_i: matrices are multiplied, not rows, by b columns
#include <string.h>

#include "engine/cayley.h"
#include "engine/gemm_large.h"
#include "engine/panel.h"

enum {
    COLUMNS = ENGINE_ROTATE_NARROW, // of a tile
    TURNED = 32                     // columns of a matrix that a thread turns at a time
};

typedef struct Rotation {
    int n, m, b;
    Activation from, to; // to: or none
    float *panels;       // of R_i^T, for each block
    PanelForm form;
    Activation slope; // where .gelu: times GELU's slope at these (n, m)
    bool accumulate;
} Rotation;

static int blocks_of(const Rotation *r) {
    return r->m / r->b;
}

static float *panels_of(const Rotation *r, int block) {
    return r->panels + (size_t)block * panel_size(r->b, r->b);
}

// From R (blocks, b, b).
static void pack(Engine *engine, const Rotation *r, const float *R) {
#pragma omp parallel for collapse(2) num_threads(engine->threads) schedule(static)
    for (int block = 0; block < blocks_of(r); block++) {
        for (int j = 0; j < r->b; j += panel_width(r->form)) {
            const int width = tile_min(panel_width(r->form), r->b - j);
            const float *rows = R + ((size_t)block * (size_t)r->b + (size_t)j) * (size_t)r->b;
            float *panel = panel_at(r->form, panels_of(r, block), r->b, j);
            panel_set_columns(r->form, r->b, 0, width, rows, r->b, panel, width);
            if (r->form == PANEL_ROUNDED) rows_round((size_t)r->b * (size_t)width, panel);
        }
    }
}

// to (rows, columns from `column` of block `block` on) = from R^T
static void rotate_tile(const Rotation *r, int row, int rows, int block, int column) {
    _Alignas(64) float loaded[PANEL_BUFFER], sums[PANEL_ROWS * COLUMNS];
    const size_t at = (size_t)row * (size_t)r->m + (size_t)block * (size_t)r->b;
    const int width = tile_min(COLUMNS, r->b - column), piece = panel_piece(r->form);
    for (int first = 0; first < r->b; first += piece) {
        const int depth = tile_min(piece, r->b - first);
        const Operand x = operand_read(r->form, rows, depth, activation_at(r->from, at + (size_t)first), r->m, loaded);
        panel_multiply(rows, depth, width, x, panel_at(r->form, panels_of(r, block), r->b, column), r->b, first,
                       panel_width(r->form), sums, width, first > 0);
    }
    const size_t out = at + (size_t)column;
    if (r->slope.gelu) rows_gelu_slope(rows, width, activation_at(r->slope, out), r->m, sums, width);
    rows_store(rows, width, sums, width, activation_at(r->to, out), r->m, r->accumulate);
}

static void rotate(Engine *engine, const Rotation *r) {
#pragma omp parallel num_threads(engine->threads)
    {
        amx_begin();
#pragma omp for collapse(2) schedule(dynamic)
        for (int i = 0; i < tile_count(r->n, PANEL_ROWS); i++) {
            for (int block = 0; block < blocks_of(r); block++) {
                for (int j = 0; j < r->b; j += COLUMNS) {
                    rotate_tile(r, i * PANEL_ROWS, tile_extent(r->n, PANEL_ROWS, i), block, j);
                }
            }
        }
        amx_end();
    }
}

// ---- sums of dy_i^T x_i --------------------------------------------------------------------------------------------

static int part_rows(int n, int m, int b) {
    return tile_part(n, (size_t)m * (size_t)b, PANEL_ROWS);
}

static size_t sums_scratch(int n, int m, int b) {
    return (size_t)tile_count(n, part_rows(n, m, b)) * scratch_size((size_t)m * (size_t)b);
}

// Of a tile of rows.
static void add_tile(const Rotation *r, Activation x, int row, int rows, int block, float *sums, bool accumulate) {
    _Alignas(64) float left[PANEL_ROWS * COLUMNS], right[PANEL_ROWS * COLUMNS];
    const size_t at = (size_t)row * (size_t)r->m + (size_t)block * (size_t)r->b;
    int ldl = r->m, ldx = r->m;
    const float *L = rows_read(rows, r->b, activation_at(r->from, at), &ldl, left);
    const float *X = rows_read(rows, r->b, activation_at(x, at), &ldx, right);
    gemm_wide(GEMM_TN, r->b, r->b, rows, L, ldl, X, ldx, sums, r->b, accumulate);
}

// A tile is rotated and summed while it is in cache. dRt (blocks, b, b): overwritten, or NULL.
static void rotate_and_sum(Engine *engine, const Rotation *r, Activation x, float *dRt, float *scratch) {
    const int part = part_rows(r->n, r->m, r->b), parts = tile_count(r->n, part);
    const size_t all = (size_t)r->m * (size_t)r->b, one = (size_t)r->b * (size_t)r->b, size = scratch_size(all);
#pragma omp parallel num_threads(engine->threads)
    {
        amx_begin();
#pragma omp for collapse(2) schedule(dynamic)
        for (int i = 0; i < parts; i++) {
            for (int block = 0; block < blocks_of(r); block++) {
                const int end = i * part + tile_extent(r->n, part, i);
                for (int row = i * part; row < end; row += PANEL_ROWS) {
                    const int rows = tile_min(PANEL_ROWS, end - row);
                    float *sums = scratch + (size_t)i * size + (size_t)block * one;
                    if (r->to.data) rotate_tile(r, row, rows, block, 0);
                    if (dRt) add_tile(r, x, row, rows, block, sums, row > i * part);
                }
            }
        }
        amx_end();
#pragma omp for schedule(static)
        for (size_t j = 0; j < (dRt ? all : 0); j++) {
            dRt[j] = scratch[j];
            for (int i = 1; i < parts; i++) dRt[j] += scratch[(size_t)i * size + j];
        }
    }
}

// ---- calls ---------------------------------------------------------------------------------------------------------

static size_t panels_size(int m, int b) {
    return scratch_size((size_t)(m / b) * panel_size(b, b));
}

size_t engine_rotate_scratch(int n, int m2, int m, int blocks, int terms) {
    const int b = m / blocks;
    const size_t panels = panels_size(m, b), work = cayley_work(b, terms);
    if (engine_rotate_is_wide(b))
        return scratch_larger(panels, scratch_size((size_t)b * (size_t)b) + scratch_size((size_t)b * (size_t)m2) +
                                          scratch_larger(work, gemm_large_work(b, m2)));
    return scratch_size((size_t)m * (size_t)b) + panels + scratch_larger(sums_scratch(n, m, b), (size_t)blocks * work);
}

// Narrow blocks are shared out, of wide ones the products.
void engine_rotate_build(Engine *engine, int m, int blocks, int terms, const float *q, float *R) {
    engine_profile_begin(engine);
    const int b = m / blocks;
    const size_t numbers = cayley_numbers(b), all = (size_t)b * (size_t)b, work = cayley_work(b, terms);
    if (engine_rotate_is_wide(b)) {
        for (int i = 0; i < blocks; i++) {
            cayley_forward(engine->threads, b, terms, q + (size_t)i * numbers, engine->scratch, R + (size_t)i * all);
        }
    } else {
#pragma omp parallel for num_threads(engine->threads) schedule(static)
        for (int i = 0; i < blocks; i++) {
            cayley_forward(1, b, terms, q + (size_t)i * numbers, engine->scratch + (size_t)i * work,
                           R + (size_t)i * all);
        }
    }
    engine_profile_end(engine, KERNEL_ADAPTER, 2.0 * m * b * b, 12.0 * m * b);
}

void engine_rotate_form(Engine *engine, int m2, int m, int blocks, const float *R, const float *W, EngineType type,
                        float *out) {
    engine_profile_begin(engine);
    const int b = m / blocks;
    const Rotation r = {.n = m2,
                        .m = m,
                        .b = b,
                        .from = activation_f32(W),
                        .to = activation_f32(out),
                        .panels = engine->scratch,
                        .form = panel_form(type, NULL)};
    pack(engine, &r, R);
    rotate(engine, &r);
    engine_profile_end(engine, KERNEL_ADAPTER, 2.0 * m2 * m * b, 8.0 * m2 * m);
}

void engine_rotate_rows_backward(Engine *engine, int n, int m, int blocks, int terms, const float *q, const float *R,
                                 Activation x, Activation dy, Activation dx, bool accumulate, float *dq) {
    engine_profile_begin(engine);
    const int b = m / blocks;
    const size_t numbers = cayley_numbers(b), all = (size_t)b * (size_t)b, work = cayley_work(b, terms);
    float *scratch = engine->scratch, *dRt = scratch_take(&scratch, (size_t)blocks * all);
    const Rotation r = {.n = n,
                        .m = m,
                        .b = b,
                        .from = dy,
                        .to = dx,
                        .panels = scratch_take(&scratch, panels_size(m, b)),
                        .form = panel_form(dy.type, NULL),
                        .slope = x,
                        .accumulate = accumulate};
    pack(engine, &r, R);
    rotate_and_sum(engine, &r, x, dq ? dRt : NULL, scratch);
#pragma omp parallel for num_threads(engine->threads) schedule(static)
    for (int i = 0; i < (dq ? blocks : 0); i++) {
        cayley_backward(1, ENGINE_F32, b, terms, q + (size_t)i * numbers, R + (size_t)i * all, dRt + (size_t)i * all,
                        scratch + (size_t)i * work, dq + (size_t)i * numbers);
    }
    engine_profile_end(engine, KERNEL_ADAPTER, 2.0 * n * m * b * ((dx.data != NULL) + (dq != NULL)), 12.0 * n * m);
}

// to (b, m2) = the transpose of a block's columns of W (m2, m).
static void turn_columns(Engine *engine, int m2, int m, int b, const float *W, float *to) {
#pragma omp parallel for num_threads(engine->threads) schedule(static)
    for (int j = 0; j < b; j += TURNED) {
        gemm_transpose(m2, tile_min(TURNED, b - j), W + j, m, to + (size_t)j * (size_t)m2, m2);
    }
}

void engine_rotate_backward(Engine *engine, int m2, int m, int blocks, int terms, const float *q, const float *R,
                            const float *W, const float *G, EngineType type, float *dq) {
    engine_profile_begin(engine);
    const int b = m / blocks, threads = engine->threads;
    const size_t numbers = cayley_numbers(b), all = (size_t)b * (size_t)b;
    float *scratch = engine->scratch, *dRt = scratch_take(&scratch, all);
    float *turned = scratch_take(&scratch, (size_t)b * (size_t)m2);
    for (int i = 0; i < blocks; i++) {
        turn_columns(engine, m2, m, b, W + (size_t)i * (size_t)b, turned);
        gemm_large(threads, type, b, b, m2, turned, m2, G + (size_t)i * (size_t)b, m, dRt, b, false, scratch);
        cayley_backward(threads, type, b, terms, q + (size_t)i * numbers, R + (size_t)i * all, dRt, scratch,
                        dq + (size_t)i * numbers);
    }
    engine_profile_end(engine, KERNEL_ADAPTER, 2.0 * m * b * (m2 + 2.0 * b), 8.0 * m2 * m);
}
