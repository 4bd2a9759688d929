// The fast exponential, GELU and SiLU over a dense sweep; SiLU against its twin; slopes; threads.
#include "engine/numbers.h"

#include "engine/fastmath.h"

static double relative_error(double found, double expected) {
    return fabs(found - expected) / fabs(expected);
}

static void test_exp_error(void **state) {
    (void)state;
    double worst = 0;
    for (double x = -87; x <= 87; x += 2.9e-5) {
        float at = (float)x;
        worst = fmax(worst, relative_error(fast_exp(at), exp((double)at)));
    }
    print_message("exp: relative error %.3g\n", worst);
    assert_true(worst < FAST_EXP_ERROR);
}

static void test_exp_ends(void **state) {
    (void)state;
    assert_true(fast_exp(0.0f) == 1.0f && fast_exp(-0.0f) == 1.0f);
    assert_true(fast_exp(INFINITY) == fast_exp(87.0f) && fast_exp(-INFINITY) == fast_exp(-87.0f));
    assert_true(fast_exp(88.0f) == fast_exp(87.0f) && fast_exp(-3e38f) == fast_exp(-87.0f));
    assert_true(isfinite(fast_exp(87.0f)) && isnormal(fast_exp(-87.0f)));
    assert_true(isnan(fast_exp(NAN)) && isnan(fast_exp(-NAN)));
}

// An activation against the double form of it: relative where it is not tiny, absolute (of max(1, |y|)) everywhere.
static void check_error(const char *name, float (*fast)(float), void (*plain)(size_t, const double *, double *),
                        double from, double relative, double absolute) {
    double worst_relative = 0, worst_absolute = 0;
    for (double x = -20; x <= 20; x += 1e-4) {
        float at = (float)x, y = fast(at);
        double at_double = at, expected;
        plain(1, &at_double, &expected);
        if (at > from && at != 0) worst_relative = fmax(worst_relative, relative_error(y, expected));
        worst_absolute = fmax(worst_absolute, fabs(y - expected) / fmax(1, fabs(expected)));
    }
    print_message("%s: relative error %.3g, absolute %.3g\n", name, worst_relative, worst_absolute);
    assert_true(worst_relative < relative && worst_absolute < absolute);
    assert_true(isnan(fast(NAN)) && isnan(fast(-NAN)));
    assert_true(fabsf(fast(-1e5f)) < 1e-20f);
}

static float gelu(float x) {
    return fast_gelu(x);
}
static float gelu_slope(float x) {
    return fast_gelu_slope(x);
}
static float silu(float x) {
    return fast_silu(x);
}
static float silu_slope(float x) {
    return fast_silu_slope(x);
}

static float gelu_exact(float x) {
    return fast_gelu_exact(x);
}

static void plain_gelu_exact(size_t n, const double *x, double *y) {
    for (size_t i = 0; i < n; i++) y[i] = 0.5 * x[i] * erfc(-x[i] / sqrt(2));
}

static const double ones[1] = {1};

static void plain_gelu_slope(size_t n, const double *x, double *y) {
    plain_gelu_backward_f64(n, x, ones, y);
}

static void plain_silu_slope(size_t n, const double *x, double *y) {
    plain_silu_backward_f64(n, x, ones, y, false);
}

static void test_activation_errors(void **state) {
    (void)state;
    check_error("GELU", gelu, plain_gelu_forward_f64, -5, 3e-6, 3e-7);
    check_error("exact GELU", gelu_exact, plain_gelu_exact, INFINITY, 1, 3e-7);
    check_error("GELU's slope", gelu_slope, plain_gelu_slope, INFINITY, 1, 5e-7);
    check_error("SiLU", silu, plain_silu_forward_f64, -20, 3e-7, 3e-7);
    check_error("SiLU's slope", silu_slope, plain_silu_slope, INFINITY, 1, 3e-7);
    assert_true(gelu_exact(0) == 0 && gelu_exact(1e6f) == 1e6f);
    assert_true(gelu(1e6f) == 1e6f && silu(1e6f) == 1e6f && gelu_slope(1e5f) == 1.0f && silu_slope(1e5f) == 1.0f);
}

static const size_t sizes[] = {1, 7, 64, 4095, 4097, 20011};
enum { N_SIZES = sizeof sizes / sizeof *sizes };

static void test_forward_matches_twins(void **state) {
    (void)state;
    for (int i = 0; i < N_SIZES; i++) {
        size_t n = sizes[i];
        Numbers *x = numbers_random(n, 3.0f), *silu = numbers_empty(n);
        plain_silu_forward_f64(n, x->d, silu->d);
        for (int threads = 1; threads <= MAX_THREADS; threads++) {
            engine_silu_forward(engines[threads], n, x->f, silu->f);
            numbers_check(silu, threads, 3e-7);
        }
        numbers_free_all();
    }
}

static void test_gelu_exact_in_place(void **state) {
    (void)state;
    for (int i = 0; i < N_SIZES; i++) {
        size_t n = sizes[i];
        Numbers *x = numbers_random(n, 3.0f), *gelu_of_x = numbers_empty(n);
        plain_gelu_exact(n, x->d, gelu_of_x->d);
        for (int threads = 1; threads <= MAX_THREADS; threads++) {
            memcpy(gelu_of_x->f, x->f, n * sizeof(float));
            engine_gelu_exact(engines[threads], n, gelu_of_x->f);
            numbers_check(gelu_of_x, threads, 3e-7);
        }
        numbers_free_all();
    }
}

static void check_backward(size_t n, bool accumulate) {
    Numbers *x = numbers_random(n, 3.0f), *dy = numbers_random(n, 1.0f), *before = numbers_random(n, 1.0f);
    Numbers *silu = numbers_empty(n);
    if (accumulate) numbers_set(silu, before->f);
    plain_silu_backward_f64(n, x->d, dy->d, silu->d, accumulate);
    for (int threads = 1; threads <= MAX_THREADS; threads++) {
        if (accumulate) memcpy(silu->f, before->f, n * sizeof(float));
        engine_silu_backward(engines[threads], n, x->f, dy->f, silu->f, accumulate);
        numbers_check(silu, threads, 1e-6);
    }
    numbers_free_all();
}

static void test_backward_matches_twins(void **state) {
    (void)state;
    for (int i = 0; i < N_SIZES; i++)
        for (int accumulate = 0; accumulate < 2; accumulate++) check_backward(sizes[i], accumulate);
}

typedef struct Smooth {
    Numbers *x, *y, *dy;
    void (*forward)(size_t n, const double *x, double *y);
} Smooth;

static double objective(void *of) {
    const Smooth *a = of;
    a->forward(a->x->n, a->x->d, a->y->d);
    return numbers_weigh(a->dy, a->y);
}

static void test_twin_slopes(void **state) {
    (void)state;
    Smooth a = {numbers_random(37, 2.0f), numbers_empty(37), numbers_random(37, 1.0f), plain_gelu_forward_f64};
    Numbers *dx = numbers_empty(37);
    plain_gelu_backward_f64(37, a.x->d, a.dy->d, dx->d);
    check_slopes(objective, &a, a.x, dx->d, 1e-8);
    a.forward = plain_silu_forward_f64;
    plain_silu_backward_f64(37, a.x->d, a.dy->d, dx->d, false);
    check_slopes(objective, &a, a.x, dx->d, 1e-8);
    numbers_free_all();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_exp_error),           cmocka_unit_test(test_exp_ends),
        cmocka_unit_test(test_activation_errors),   cmocka_unit_test(test_forward_matches_twins),
        cmocka_unit_test(test_gelu_exact_in_place), cmocka_unit_test(test_backward_matches_twins),
        cmocka_unit_test(test_twin_slopes),
    };
    return cmocka_run_group_tests_name("activation", tests, engines_open, engines_close);
}
