// LayerNorm with modulation and the gated residual against their twins; gradients by finite differences; threads.
#include "engine/numbers.h"

// The (B, 6D) adaLN output holds shift, scale and gate of each sample.
typedef struct Branch {
    int batch, tokens, width, stride;
    Numbers *x, *y, *adaln, *dadaln, *out, *mean, *rstd, *dout, *dx, *dy;
} Branch;

static Branch branch(int batch, int tokens, int width) {
    size_t rows = (size_t)(batch * tokens), n = rows * (size_t)width, n_adaln = (size_t)(batch * 6 * width);
    Branch r = {.batch = batch, .tokens = tokens, .width = width, .stride = 6 * width};
    r.x = numbers_random(n, 2.0f), r.y = numbers_random(n, 1.0f), r.adaln = numbers_random(n_adaln, 0.5f);
    r.dadaln = numbers_empty(n_adaln), r.out = numbers_empty(n);
    r.mean = numbers_empty(rows), r.rstd = numbers_empty(rows);
    r.dout = numbers_random(n, 1.0f), r.dx = numbers_empty(n), r.dy = numbers_empty(n);
    for (size_t i = 0; i < n; i++) r.x->d[i] = r.x->f[i] += 3.0f; // off zero: the variance must take the mean out
    return r;
}

static const int shapes[][3] = {{1, 1, 2}, {2, 3, 7}, {3, 5, 33}, {5, 16, 64}, {2, 49, 768}};
enum { N_SHAPES = sizeof shapes / sizeof *shapes };

static void run_norm_twins(const Branch *r, bool accumulate) {
    const double *shift = r->adaln->d, *scale = shift + r->width;
    plain_norm_modulate_forward_f64(r->batch, r->tokens, r->width, r->x->d, shift, scale, r->stride, r->out->d,
                                    r->mean->d, r->rstd->d);
    plain_norm_modulate_backward_f64(r->batch, r->tokens, r->width, r->x->d, scale, r->stride, r->mean->d, r->rstd->d,
                                     r->dout->d, r->dx->d, accumulate, r->dadaln->d, r->dadaln->d + r->width);
}

static void run_norm(Engine *engine, const Branch *r, bool accumulate) {
    const float *shift = r->adaln->f, *scale = shift + r->width;
    engine_norm_modulate_forward(engine, r->batch, r->tokens, r->width, r->x->f, shift, scale, r->stride,
                                 activation_f32(r->out->f), r->mean->f, r->rstd->f);
    engine_norm_modulate_backward(engine, r->batch, r->tokens, r->width, r->x->f, scale, r->stride, r->mean->f,
                                  r->rstd->f, activation_f32(r->dout->f), r->dx->f, accumulate, r->dadaln->f,
                                  r->dadaln->f + r->width);
}

static void test_norm_matches_twin(void **state) {
    (void)state;
    for (int i = 0; i < N_SHAPES; i++)
        for (int accumulate = 0; accumulate < 2; accumulate++) {
            Branch r = branch(shapes[i][0], shapes[i][1], shapes[i][2]);
            if (accumulate) numbers_set(r.dx, r.y->f);
            run_norm_twins(&r, accumulate);
            for (int threads = 1; threads <= MAX_THREADS; threads++) {
                if (accumulate) memcpy(r.dx->f, r.y->f, r.dx->n * sizeof(float));
                run_norm(engines[threads], &r, accumulate);
                numbers_check(r.out, threads, 2e-6);
                numbers_check(r.mean, threads, 1e-6);
                numbers_check(r.rstd, threads, 1e-6);
                numbers_check(r.dx, threads, 2e-6);
                numbers_check(r.dadaln, threads, 2e-6); // the other four sixths stay what they were
            }
            numbers_free_all();
        }
}

static void test_residual_matches_twin(void **state) {
    (void)state;
    for (int i = 0; i < N_SHAPES; i++) {
        Branch r = branch(shapes[i][0], shapes[i][1], shapes[i][2]);
        size_t at = (size_t)(2 * r.width);
        plain_residual_forward_f64(r.batch, r.tokens, r.width, r.x->d, r.y->d, r.adaln->d + at, r.stride, r.out->d);
        plain_residual_backward_f64(r.batch, r.tokens, r.width, r.y->d, r.adaln->d + at, r.stride, r.dout->d, r.dy->d,
                                    r.dadaln->d + at);
        for (int threads = 1; threads <= MAX_THREADS; threads++) {
            memcpy(r.out->f, r.x->f, r.x->n * sizeof(float)); // in place: out is x
            engine_residual_forward(engines[threads], r.batch, r.tokens, r.width, r.out->f, activation_f32(r.y->f),
                                    r.adaln->f + at, r.stride, r.out->f);
            engine_residual_backward(engines[threads], r.batch, r.tokens, r.width, activation_f32(r.y->f),
                                     r.adaln->f + at, r.stride, r.dout->f, activation_f32(r.dy->f), r.dadaln->f + at);
            numbers_check(r.out, threads, 1e-6);
            numbers_check(r.dy, threads, 1e-6);
            numbers_check(r.dadaln, threads, 2e-6);
        }
        numbers_free_all();
    }
}

static double norm_objective(void *of) {
    const Branch *r = of;
    plain_norm_modulate_forward_f64(r->batch, r->tokens, r->width, r->x->d, r->adaln->d, r->adaln->d + r->width,
                                    r->stride, r->out->d, r->mean->d, r->rstd->d);
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
    run_norm(engines[2], &r, false);
    for (size_t i = 0; i < r.out->n; i++) assert_true(r.out->f[i] == r.adaln->f[i / (2 * 48) * 6 * 48 + i % 48]);
    assert_true(fabsf(r.rstd->f[0] - 1000.0f) < 1e-3f);
    assert_true(engine_all_finite(engines[2], r.dx->f, r.dx->n));
    numbers_free_all();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_norm_matches_twin),
        cmocka_unit_test(test_residual_matches_twin),
        cmocka_unit_test(test_twin_slopes),
        cmocka_unit_test(test_constant_row),
    };
    return cmocka_run_group_tests_name("norm", tests, engines_open, engines_close);
}
