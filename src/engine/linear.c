// The dense product y = x W^T + b and its gradients: dx = dy W, dW = dy^T x, db = column sums of dy.
#include <string.h>

#include "engine/panel.h"
#include "engine/reduce.h"
#include "engine/tile.h"

enum {
    GROUP = 768,     // most columns of y in a work item: x is loaded once for them
    WORK_ITEMS = 16, // fewer columns are taken where rows alone do not give so many items to share out
    FEW_ROWS = 64,   // up to so many, W is read where it is: packing it would take longer than the product
    BLOCK = 64       // columns of y that are formed at once from few rows
};

// y (n, m) = [y +] slope * (x (n, k) B [+ bias])
typedef struct Product {
    int n, k, m;
    Activation x, y;
    const float *B, *bias; // B: in panels; bias: or NULL
    PanelForm form;
    int ldb; // or, where not 0, B is the matrix (k, m) itself, with rows so far apart
    bool accumulate;
    Activation slope; // where .gelu: times GELU's slope at these (n, m)
} Product;

static int group_width(const Product *p) {
    const int width = panel_width(p->form);
    int wanted = tile_count(WORK_ITEMS, tile_count(p->n, PANEL_ROWS));
    return tile_even(p->m, tile_min(GROUP, tile_round(tile_count(p->m, wanted), width)), width);
}

// Sums are formed in y itself where it keeps them as they are, else in a tile of their own.
static void multiply_tile(const Product *p, int row, int rows, int column, int columns) {
    _Alignas(64) float loaded[PANEL_BUFFER], sums[PANEL_ROWS * GROUP];
    size_t at = (size_t)row * (size_t)p->m + (size_t)column;
    bool direct = rows_in_place(p->y) && !p->slope.gelu, add = p->bias || (direct && p->accumulate);
    float *y = direct ? (float *)p->y.data + at : sums;
    int ldy = direct ? p->m : columns;
    for (int i = 0; i < rows && p->bias; i++) {
        memcpy(y + (size_t)i * (size_t)ldy, p->bias + column, (size_t)columns * sizeof *y);
    }
    const int piece = panel_piece(p->form);
    for (int first = 0; first < p->k; first += piece) {
        int depth = tile_min(piece, p->k - first);
        Activation from = activation_at(p->x, (size_t)row * (size_t)p->k + (size_t)first);
        Operand x = operand_read(p->form, rows, depth, from, p->k, loaded);
        if (p->ldb > 0) {
            gemm_tile(GEMM_NN, rows, columns, depth, x.rows, x.ld, p->B + (size_t)first * (size_t)p->ldb + column,
                      p->ldb, y, ldy, add || first > 0);
        } else {
            panel_multiply(rows, depth, columns, x, panel_at(p->form, p->B, p->k, column), p->k, first,
                           panel_width(p->form), y, ldy, add || first > 0);
        }
    }
    if (direct) return;
    if (p->slope.gelu) rows_gelu_slope(rows, columns, activation_at(p->slope, at), p->m, y, ldy);
    rows_store(rows, columns, y, ldy, activation_at(p->y, at), p->m, p->accumulate);
}

static void multiply(Engine *engine, const Product *p) {
    int group = group_width(p);
#pragma omp parallel num_threads(engine->threads)
    {
        amx_begin();
#pragma omp for collapse(2) schedule(dynamic)
        for (int i = 0; i < tile_count(p->n, PANEL_ROWS); i++) {
            for (int j = 0; j < tile_count(p->m, group); j++) {
                multiply_tile(p, i * PANEL_ROWS, tile_extent(p->n, PANEL_ROWS, i), j * group,
                              tile_extent(p->m, group, j));
            }
        }
        amx_end();
    }
}

// ---- few rows ------------------------------------------------------------------------------------------------------

static bool is_few(int n, Activation rows) {
    return n <= FEW_ROWS && rows.type == ENGINE_F32; // bf16 rows want W rounded: a copy in any case
}

// x (n, k) to (k, width) with zeros from column n on.
static void transpose_rows(int n, int k, int width, Activation x, float *to) {
    _Alignas(64) float loaded[FEW_ROWS * PANEL_DEEPEST];
    const int piece = panel_piece(PANEL_F32);
    for (int first = 0; first < k; first += piece) {
        int depth = tile_min(piece, k - first);
        rows_load(n, depth, activation_at(x, (size_t)first), k, loaded, depth);
        memset(loaded + (size_t)n * (size_t)depth, 0, (size_t)(width - n) * (size_t)depth * sizeof *loaded);
        gemm_transpose(width, depth, loaded, depth, to + (size_t)first * (size_t)width, width);
    }
}

// Columns [column, column + columns) of y by y^T = W x^T + b: the sums are those of the other way, term by term.
static void multiply_block(const Product *p, const float *W, const float *xt, int width, int column, int columns) {
    _Alignas(64) float sums[BLOCK * FEW_ROWS], rows[FEW_ROWS * BLOCK];
    for (int i = 0; i < columns; i++) {
        for (int j = 0; j < width; j++) sums[i * width + j] = p->bias ? p->bias[column + i] : 0.0F;
    }
    const int piece = panel_piece(PANEL_F32);
    for (int first = 0; first < p->k; first += piece) {
        gemm_tile(GEMM_NN, columns, width, tile_min(piece, p->k - first),
                  W + (size_t)column * (size_t)p->k + (size_t)first, p->k, xt + (size_t)first * (size_t)width, width,
                  sums, width, true);
    }
    gemm_transpose(columns, width, sums, width, rows, columns);
    rows_store(p->n, columns, rows, columns, activation_at(p->y, (size_t)column), p->m, false);
}

static void multiply_few(Engine *engine, const Product *p, const float *W) {
    int width = tile_round(p->n, 8);
    transpose_rows(p->n, p->k, width, p->x, engine->scratch);
#pragma omp parallel for num_threads(engine->threads) schedule(dynamic)
    for (int j = 0; j < tile_count(p->m, BLOCK); j++) {
        multiply_block(p, W, engine->scratch, width, j * BLOCK, tile_extent(p->m, BLOCK, j));
    }
}

// ---- calls ---------------------------------------------------------------------------------------------------------

size_t engine_linear_scratch(int n, int m1, int m2) {
    size_t packed =
        scratch_larger(scratch_larger(panel_size(m1, m2), panel_size(m2, m1)), scratch_size((size_t)m1 * FEW_ROWS));
    return scratch_larger(packed, reduce_scratch(n, m2, m1, 0, 0));
}

size_t engine_linear_pack(int m1, int m2) {
    return panel_size(m1, m2);
}

void engine_linear_prepare(Engine *engine, int m1, int m2, EngineType type, const float *W, EnginePack *pack) {
    panel_pack_transposed(engine, panel_form(type, pack), m1, m2, W, m1, pack->weights);
    pack->ready = true;
}

// Bytes of weights and of their gradients, and of rows read or written.
static double count_bytes(double n, double m1, double m2, Activation x, Activation y) {
    return n * (m1 * (double)engine_type_size(x.type) + m2 * (double)engine_type_size(y.type)) + 4 * m1 * m2;
}

void engine_linear_forward(Engine *engine, int n, int m1, int m2, Activation x, const float *W, const float *bias,
                           Activation y, EnginePack *pack) {
    engine_profile_begin(engine);
    EnginePack own = {.weights = engine->scratch, .int8 = pack && pack->int8};
    const bool kept = pack && pack->weights;
    Product product = {.n = n, .k = m1, .m = m2, .x = x, .y = y, .bias = bias, .form = panel_form(x.type, pack)};
    if (!kept && is_few(n, x) && product.form != PANEL_INT8) {
        multiply_few(engine, &product, W);
    } else {
        if (!kept) pack = &own;
        if (!pack->ready) engine_linear_prepare(engine, m1, m2, x.type, W, pack);
        product.B = pack->weights;
        multiply(engine, &product);
    }
    engine_profile_end(engine, KERNEL_LINEAR_FORWARD, 2.0 * n * m1 * m2, count_bytes(n, m1, m2, x, y));
}

void engine_linear_backward(Engine *engine, int n, int m1, int m2, Activation x, const float *W, Activation dy,
                            Activation dx, bool accumulate, float *dW, float *dbias) {
    engine_profile_begin(engine);
    if (dx.data) {
        Product product = {.n = n, .k = m2, .m = m1, .x = dy, .y = dx, .accumulate = accumulate, .slope = x};
        product.form = panel_form(dy.type, NULL);
        product.B = is_few(n, dy) ? W : engine->scratch;
        product.ldb = is_few(n, dy) ? m1 : 0;
        if (!is_few(n, dy)) panel_pack(engine, product.form, m2, m1, W, m1, NULL, engine->scratch);
        multiply(engine, &product);
    }
    if (dW || dbias) {
        Reduction sum = {.n = n, .p = m2, .q = m1, .L = dy, .ldl = m2, .X = x, .ldx = m1, .G = dW, .sums_l = dbias};
        reduce(engine, 1, &sum, engine->scratch);
    }
    double products = (dx.data != NULL) + (dW != NULL);
    engine_profile_end(engine, KERNEL_LINEAR_BACKWARD, 2.0 * products * n * m1 * m2,
                       products * count_bytes(n, m1, m2, x, dy));
}
