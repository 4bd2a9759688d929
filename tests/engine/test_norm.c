// LayerNorm with modulation and the gated residual against their twins, rows in fp32 and in bf16; both in one pass
// against the pair; gradients by finite differences; threads.
#include "engine/numbers.h"

// The (B, 6D) adaLN output holds shift, scale and gate of each sample.
typedef struct Branch {
    int batch, tokens, width, stride;
    Numbers *x, *y, *adaln, *dadaln, *out, *normed, *mean, *rstd, *dout, *dx, *dy;
} Branch;

static Branch branch(int batch, int tokens, int width) {
    size_t rows = (size_t)(batch * tokens), n = rows * (size_t)width, n_adaln = (size_t)(batch * 6 * width);
    Branch r = {.batch = batch, .tokens = tokens, .width = width, .stride = 6 * width};
    r.x = numbers_random(n, 2.0f), r.y = numbers_random(n, 1.0f), r.adaln = numbers_random(n_adaln, 0.5f);
    r.dadaln = numbers_empty(n_adaln), r.out = numbers_empty(n), r.normed = numbers_empty(n);
    r.mean = numbers_empty(rows), r.rstd = numbers_empty(rows);
    r.dout = numbers_random(n, 1.0f), r.dx = numbers_empty(n), r.dy = numbers_empty(n);
    for (size_t i = 0; i < n; i++) r.x->d[i] = r.x->f[i] += 3.0f; // off zero: the variance must take the mean out
    return r;
}

// The last one is cut into parts of its tokens, the last part shorter.
static const int shapes[][3] = {{1, 1, 5}, {2, 3, 7}, {3, 5, 33}, {5, 16, 64}, {2, 49, 768}, {1, 200, 24}};
enum { N_SHAPES = sizeof shapes / sizeof *shapes };

static int open_with_scratch(void **state) {
    if (engines_open(state)) return -1;
    for (int threads = 1; threads <= MAX_THREADS; threads++)
        for (int i = 0; i < N_SHAPES; i++)
            if (engine_reserve(engines[threads], engine_norm_scratch(shapes[i][0], shapes[i][1], shapes[i][2])))
                return -1;
    return 0;
}

static const float eps = 1e-2f; // large enough to be seen in what comes out

static void run_norm_twins(const Branch *r, bool accumulate) {
    const double *shift = r->adaln->d, *scale = shift + r->width;
    plain_norm_modulate_forward_f64(r->batch, r->tokens, r->width, r->x->d, shift, scale, r->stride, eps, r->normed->d,
                                    r->mean->d, r->rstd->d);
    plain_norm_modulate_backward_f64(r->batch, r->tokens, r->width, r->x->d, scale, r->stride, r->mean->d, r->rstd->d,
                                     r->dout->d, r->dx->d, accumulate, r->dadaln->d, r->dadaln->d + r->width);
}

static void run_norm(Engine *engine, const Branch *r, Activation normed, Activation dnormed, bool accumulate) {
    const float *shift = r->adaln->f, *scale = shift + r->width;
    engine_norm_modulate_forward(engine, r->batch, r->tokens, r->width, r->x->f, shift, scale, r->stride, eps, normed,
                                 r->mean->f, r->rstd->f);
    engine_norm_modulate_backward(engine, r->batch, r->tokens, r->width, r->x->f, scale, r->stride, r->mean->f,
                                  r->rstd->f, dnormed, r->dx->f, accumulate, r->dadaln->f, r->dadaln->f + r->width);
}

static void check_norm(const int shape[3], EngineType type, bool accumulate) {
    Branch r = branch(shape[0], shape[1], shape[2]);
    Activation normed = rows_out(r.normed, type), dnormed = rows_in(r.dout, type);
    if (accumulate) numbers_set(r.dx, r.y->f);
    run_norm_twins(&r, accumulate);
    for (int threads = 1; threads <= MAX_THREADS; threads++) {
        if (accumulate) memcpy(r.dx->f, r.y->f, r.dx->n * sizeof(float));
        run_norm(engines[threads], &r, normed, dnormed, accumulate);
        check_rows(r.normed, normed, threads, 2e-6);
        numbers_check(r.mean, threads, 1e-6);
        numbers_check(r.rstd, threads, 1e-6);
        numbers_check(r.dx, threads, 2e-6);
        numbers_check(r.dadaln, threads, 2e-6); // the other four sixths stay what they were
    }
    numbers_free_all();
}

static void test_norm_matches_twin(void **state) {
    (void)state;
    for (int i = 0; i < N_SHAPES; i++)
        for (int accumulate = 0; accumulate < 2; accumulate++) {
            check_norm(shapes[i], ENGINE_F32, accumulate);
            check_norm(shapes[i], ENGINE_BF16, accumulate);
        }
}

static void check_residual(const int shape[3], EngineType type, EngineType dy_type) {
    Branch r = branch(shape[0], shape[1], shape[2]);
    size_t at = (size_t)(2 * r.width);
    Activation y = rows_in(r.y, type), dy = rows_out(r.dy, dy_type);
    plain_residual_forward_f64(r.batch, r.tokens, r.width, r.x->d, r.y->d, r.adaln->d + at, r.stride, r.out->d);
    plain_residual_backward_f64(r.batch, r.tokens, r.width, r.y->d, r.adaln->d + at, r.stride, r.dout->d, r.dy->d,
                                r.dadaln->d + at);
    for (int threads = 1; threads <= MAX_THREADS; threads++) {
        memcpy(r.out->f, r.x->f, r.x->n * sizeof(float)); // in place: out is x
        engine_residual_forward(engines[threads], r.batch, r.tokens, r.width, r.out->f, y, r.adaln->f + at, r.stride,
                                r.out->f);
        engine_residual_backward(engines[threads], r.batch, r.tokens, r.width, y, r.adaln->f + at, r.stride, r.dout->f,
                                 dy, r.dadaln->f + at);
        numbers_check(r.out, threads, 1e-6);
        check_rows(r.dy, dy, threads, 1e-6);
        numbers_check(r.dadaln, threads, 2e-6);
    }
    numbers_free_all();
}

static void test_residual_matches_twin(void **state) {
    (void)state;
    for (int i = 0; i < N_SHAPES; i++)
        for (EngineType type = ENGINE_F32; type <= ENGINE_BF16; type++) {
            check_residual(shapes[i], type, ENGINE_F32);
            check_residual(shapes[i], type, ENGINE_BF16);
        }
}

static void run_pair(Engine *engine, const Branch *r, const float *gate, int gate_stride, float *dgate, Activation y,
                     Activation normed, Activation dnormed, Activation dy, bool accumulate) {
    int B = r->batch, T = r->tokens, D = r->width;
    engine_residual_forward(engine, B, T, D, r->x->f, y, gate, gate_stride, r->x->f);
    run_norm(engine, r, normed, dnormed, accumulate);
    engine_residual_backward(engine, B, T, D, y, gate, gate_stride, r->dx->f, dy, dgate);
}

static void run_fused(Engine *engine, const Branch *r, const float *gate, int gate_stride, float *dgate, Activation y,
                      Activation normed, Activation dnormed, Activation dy, bool accumulate) {
    int B = r->batch, T = r->tokens, D = r->width;
    const float *shift = r->adaln->f, *scale = shift + D;
    float *dshift = r->dadaln->f, *dscale = dshift + D;
    engine_residual_norm_forward(engine, B, T, D, r->x->f, y, gate, gate_stride, r->out->f, shift, scale, r->stride,
                                 eps, normed, r->mean->f, r->rstd->f);
    engine_residual_norm_backward(engine, B, T, D, r->out->f, scale, r->stride, r->mean->f, r->rstd->f, dnormed,
                                  r->dx->f, accumulate, dshift, dscale, y, gate, gate_stride, dy, dgate);
}

// One pass leaves the bits that the two calls leave. The gate is another layer's: another stride.
static void check_fused(const int shape[3], EngineType type, bool accumulate) {
    Branch r = branch(shape[0], shape[1], shape[2]), pair = r;
    int gate_stride = 2 * r.width;
    Numbers *gate = numbers_random((size_t)(r.batch * gate_stride), 0.5f);
    Numbers *dgate = numbers_empty(gate->n), *pair_dgate = numbers_empty(gate->n);
    Activation y = rows_in(r.y, type), dnormed = rows_in(r.dout, type);
    pair.x = numbers_empty(r.x->n), pair.normed = numbers_empty(r.x->n), pair.dx = numbers_empty(r.x->n);
    pair.dy = numbers_empty(r.x->n), pair.dadaln = numbers_empty(r.dadaln->n);
    numbers_set(pair.x, r.x->f);
    if (accumulate) numbers_set(pair.dx, r.y->f);
    Activation normed[2] = {rows_out(r.normed, type), rows_out(pair.normed, type)};
    Activation dy[2] = {rows_out(r.dy, type), rows_out(pair.dy, type)};
    run_pair(engines[1], &pair, gate->f, gate_stride, pair_dgate->f, y, normed[1], dnormed, dy[1], accumulate);
    for (int threads = 1; threads <= MAX_THREADS; threads++) {
        if (accumulate) memcpy(r.dx->f, r.y->f, r.dx->n * sizeof(float));
        run_fused(engines[threads], &r, gate->f, gate_stride, dgate->f, y, normed[0], dnormed, dy[0], accumulate);
        assert_memory_equal(r.out->f, pair.x->f, r.x->n * sizeof(float));
        assert_memory_equal(normed[0].data, normed[1].data, r.x->n * engine_type_size(type));
        assert_memory_equal(r.dx->f, pair.dx->f, r.x->n * sizeof(float));
        assert_memory_equal(dy[0].data, dy[1].data, r.x->n * engine_type_size(type));
        assert_memory_equal(r.dadaln->f, pair.dadaln->f, r.dadaln->n * sizeof(float));
        assert_memory_equal(dgate->f, pair_dgate->f, dgate->n * sizeof(float));
    }
    numbers_free_all();
}

static void test_fused_is_the_pair(void **state) {
    (void)state;
    for (int i = 0; i < N_SHAPES; i++)
        for (int accumulate = 0; accumulate < 2; accumulate++) {
            check_fused(shapes[i], ENGINE_F32, accumulate);
            check_fused(shapes[i], ENGINE_BF16, accumulate);
        }
}

static double norm_objective(void *of) {
    const Branch *r = of;
    plain_norm_modulate_forward_f64(r->batch, r->tokens, r->width, r->x->d, r->adaln->d, r->adaln->d + r->width,
                                    r->stride, eps, r->out->d, r->mean->d, r->rstd->d);
    return numbers_weigh(r->dout, r->out);
}

static double residual_objective(void *of) {
    const Branch *r = of;
    plain_residual_forward_f64(r->batch, r->tokens, r->width, r->x->d, r->y->d, r->adaln->d, r->stride, r->out->d);
    return numbers_weigh(r->dout, r->out);
}

static void test_twin_slopes(void **state) {
    (void)state;
    Branch r = branch(3, 4, 9);
    for (size_t i = 0; i < r.dadaln->n; i++)
        r.dadaln->d[i] = 0; // gates and the rest of the row play no part in the norm
    run_norm_twins(&r, false);
    check_slopes(norm_objective, &r, r.x, r.dx->d, 1e-7);
    check_slopes(norm_objective, &r, r.adaln, r.dadaln->d, 1e-7);
    for (size_t i = 0; i < r.dadaln->n; i++) r.dadaln->d[i] = 0;
    plain_residual_backward_f64(r.batch, r.tokens, r.width, r.y->d, r.adaln->d, r.stride, r.dout->d, r.dy->d,
                                r.dadaln->d);
    check_slopes(residual_objective, &r, r.y, r.dy->d, 1e-7);
    check_slopes(residual_objective, &r, r.adaln, r.dadaln->d, 1e-7);
    numbers_free_all();
}

// A constant row has no variance: eps decides, and the output is the shift.
static void test_constant_row(void **state) {
    (void)state;
    Branch r = branch(2, 2, 48);
    for (size_t i = 0; i < r.x->n; i++) r.x->f[i] = 5.0f;
    run_norm(engines[2], &r, activation_f32(r.normed->f), activation_f32(r.dout->f), false);
    for (size_t i = 0; i < r.normed->n; i++) assert_true(r.normed->f[i] == r.adaln->f[i / (2 * 48) * 6 * 48 + i % 48]);
    assert_true(fabsf(r.rstd->f[0] - 1 / sqrtf(eps)) < 1e-5f);
    assert_true(engine_all_finite(engines[2], r.dx->f, r.dx->n));
    numbers_free_all();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_norm_matches_twin), cmocka_unit_test(test_residual_matches_twin),
        cmocka_unit_test(test_fused_is_the_pair), cmocka_unit_test(test_twin_slopes),
        cmocka_unit_test(test_constant_row),
    };
    return cmocka_run_group_tests_name("norm", tests, open_with_scratch, engines_close);
}
