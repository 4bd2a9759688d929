// The gated product starts with the variance of DiT's Xavier-uniform matrix, for every factored layer alike.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
// cmocka needs the four above
#include <cmocka.h>

#include "model/dit.h"

static double matrix_variance(const double *W, size_t n) {
    double sum = 0, squares = 0;
    for (size_t i = 0; i < n; i++) {
        sum += W[i];
        squares += W[i] * W[i];
    }
    return squares / (double)n - (sum / (double)n) * (sum / (double)n);
}

static DitConfig test_config(void) {
    DitConfig config = dit_config_default();
    config.image_size = 8;
    config.channels = 1;
    config.width = 192;
    config.depth = 1;
    config.heads = 6;
    config.n_classes = 3;
    config.n_learngene = 62;
    config.n_tailor = 2;
    return config;
}

typedef struct Fixture {
    KinditContext *ctx;
    Engine *engine;
    Dit *dit;
    ParamSet params;
} Fixture;

static void fixture_open(Fixture *f, const DitConfig *config) {
    assert_int_equal(kindit_context_create(&f->ctx, NULL), KINDIT_OK);
    assert_int_equal(engine_create(&f->engine, f->ctx), KINDIT_OK);
    assert_int_equal(dit_create(&f->dit, f->ctx, config), KINDIT_OK);
    assert_int_equal(params_alloc(&f->params, f->engine, f->ctx, &f->dit->layout, config->n_classes), KINDIT_OK);
    assert_int_equal(dit_init(f->dit, &f->params, 7), KINDIT_OK);
}

static void fixture_close(Fixture *f) {
    params_close(&f->params);
    dit_close(&f->dit);
    engine_close(&f->engine);
    kindit_context_close(&f->ctx);
}

// Both vectors in host memory.
static float *fixture_download(const Fixture *f, const float *vector, size_t n) {
    float *host = malloc(n * sizeof *host);
    assert_non_null(host);
    engine_download(f->engine, host, vector, n);
    return host;
}

// Relative tolerance 6 %: the entries of W share factors, so their sample variance fluctuates by about
// sqrt(2/m1 + 2/m2 + 2/R) / sqrt(R) ~ 3 %; the seed is fixed.
static void check_variance(const Linear *linear, const float *shared, const float *tailor, double share) {
    size_t n = (size_t)linear->m1 * (size_t)linear->m2;
    double *W = malloc(n * sizeof *W);
    assert_non_null(W);
    assert_int_equal(linear->kind->merge(linear, NULL, shared, tailor, W), KINDIT_OK);
    double expected = share * 2.0 / (linear->m1 + linear->fan_out);
    assert_float_equal(matrix_variance(W, n) / expected, 1.0, 0.06);
    free(W);
}

static void test_gated_variance(void **state) {
    (void)state;
    Fixture f = {0};
    DitConfig config = test_config();
    fixture_open(&f, &config);
    float *shared = fixture_download(&f, f.params.shared, f.dit->layout.n_shared);
    float *tailor = fixture_download(&f, f.params.tailor[1], f.dit->layout.n_tailor);
    const DitBlock *block = &f.dit->blocks[0];
    const Linear *layers[] = {&block->q, &block->k, &block->v, &block->o, &block->in, &block->out};
    for (size_t i = 0; i < 6; i++) {
        assert_ptr_equal(layers[i]->kind, &linear_factored);
        check_variance(layers[i], shared, tailor, 1.0);
        check_variance(layers[i], shared, NULL, 62.0 / 64.0); // the learngene alone: its share of the components
    }
    free(tailor);
    free(shared);
    fixture_close(&f);
}

static void test_dense_variance(void **state) {
    (void)state;
    Fixture f = {0};
    DitConfig config = test_config();
    config.factored = false;
    config.n_learngene = config.n_tailor = 0;
    fixture_open(&f, &config);
    float *shared = fixture_download(&f, f.params.shared, f.dit->layout.n_shared);
    assert_int_equal(f.dit->blocks[0].q.m2, 3 * 192);
    check_variance(&f.dit->blocks[0].q, shared, NULL, 1.0);
    check_variance(&f.dit->blocks[0].in, shared, NULL, 1.0);
    free(shared);
    fixture_close(&f);
}

// adaLN and the final layer start at zero as in DiT, also when adaLN is factored.
static void test_zero_layers(void **state) {
    (void)state;
    Fixture f = {0};
    DitConfig config = test_config();
    config.factor_adaln = true;
    fixture_open(&f, &config);
    float *shared = fixture_download(&f, f.params.shared, f.dit->layout.n_shared);
    float *tailor = fixture_download(&f, f.params.tailor[0], f.dit->layout.n_tailor);
    const Linear *layers[] = {&f.dit->blocks[0].adaln, &f.dit->final_adaln, &f.dit->final_linear};
    for (size_t i = 0; i < 3; i++) {
        size_t n = (size_t)layers[i]->m1 * (size_t)layers[i]->m2;
        double *W = malloc(n * sizeof *W);
        assert_non_null(W);
        assert_int_equal(layers[i]->kind->merge(layers[i], NULL, shared, tailor, W), KINDIT_OK);
        for (size_t k = 0; k < n; k++) assert_true(W[k] == 0);
        free(W);
    }
    free(tailor);
    free(shared);
    fixture_close(&f);
}

// Tailor c's numbers depend on the seed and on c, not on how many classes there are.
static void test_tailors_differ(void **state) {
    (void)state;
    Fixture f = {0}, g = {0};
    DitConfig config = test_config();
    fixture_open(&f, &config);
    config.n_classes = 2;
    fixture_open(&g, &config);
    size_t n = f.dit->layout.n_tailor;
    float *a = fixture_download(&f, f.params.tailor[1], n), *b = fixture_download(&g, g.params.tailor[1], n);
    float *c = fixture_download(&f, f.params.tailor[0], n);
    assert_memory_equal(a, b, n * sizeof *a);
    assert_memory_not_equal(a, c, n * sizeof *a);
    free(c);
    free(b);
    free(a);
    fixture_close(&g);
    fixture_close(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gated_variance),
        cmocka_unit_test(test_dense_variance),
        cmocka_unit_test(test_zero_layers),
        cmocka_unit_test(test_tailors_differ),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
