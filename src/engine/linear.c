// The dense product y = x W^T + b and its gradients: dx = dy W, dW = dy^T x, db = column sums of dy.
#include "engine/panel.h"
#include "engine/reduce.h"
#include "engine/tile.h"

size_t engine_linear_scratch(int n, int m1, int m2) {
    size_t packed = scratch_size((size_t)m1 * (size_t)m2);
    return scratch_larger(packed, scratch_larger(reduce_product_scratch(n, m2, m1), reduce_columns_scratch(n, m2)));
}

// y (n, m) = [y +] x (n, k) panels [+ bias]
static void multiply(Engine *engine, int n, int k, int m, const float *x, const float *panels, const float *bias,
                     float *y, bool accumulate) {
#pragma omp parallel for num_threads(engine->threads) collapse(2) schedule(static)
    for (int i = 0; i < tile_count(n, PANEL_ROWS); i++) {
        for (int j = 0; j < tile_count(m, PANEL_WIDTH); j++) {
            int rows = tile_extent(n, PANEL_ROWS, i), width = tile_extent(m, PANEL_WIDTH, j);
            size_t row = (size_t)i * PANEL_ROWS, column = (size_t)j * PANEL_WIDTH;
            float *tile = y + row * (size_t)m + column;
            if (bias) panel_set_bias(rows, width, bias + column, tile, m);
            panel_multiply(rows, k, width, x + row * (size_t)k, k, panels + column * (size_t)k, tile, m,
                           accumulate || bias);
        }
    }
}

void engine_linear_forward(Engine *engine, int n, int m1, int m2, Activation rows_x, const float *W, const float *bias,
                           Activation rows_y) {
    const float *x = rows_x.data;
    float *y = rows_y.data;
    engine_profile_begin(engine);
    panel_pack_transposed(engine, m1, m2, PANEL_WIDTH, W, m1, engine->scratch);
    multiply(engine, n, m1, m2, x, engine->scratch, bias, y, false);
    double rows = n, in = m1, out = m2;
    engine_profile_end(engine, KERNEL_LINEAR_FORWARD, 2 * rows * in * out, 4 * (rows * (in + out) + in * out));
}

void engine_linear_backward(Engine *engine, int n, int m1, int m2, Activation rows_x, const float *W,
                            Activation rows_dy, Activation rows_dx, bool accumulate, float *dW, float *dbias) {
    const float *x = rows_x.data, *dy = rows_dy.data;
    float *dx = rows_dx.data;
    engine_profile_begin(engine);
    if (dx) {
        panel_pack(engine, m2, m1, PANEL_WIDTH, W, m1, engine->scratch);
        multiply(engine, n, m2, m1, dy, engine->scratch, NULL, dx, accumulate);
    }
    if (dW) reduce_product(engine, n, m2, m1, dy, m2, x, m1, NULL, engine->scratch, dW);
    if (dbias) reduce_columns(engine, n, m2, dy, NULL, m2, engine->scratch, dbias);
    double rows = n, in = m1, out = m2, products = (dx != NULL) + (dW != NULL);
    engine_profile_end(engine, KERNEL_LINEAR_BACKWARD, 2 * products * rows * in * out,
                       4 * products * (rows * (in + out) + in * out));
}
