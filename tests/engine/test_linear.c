// The dense product against its double twin, and the twin against finite differences.
#include "matrices.h"

#include "engine/plain_linear.h"

typedef struct Case {
    int n, m1, m2;
} Case;

static const Case cases[] = {{1, 1, 1},    {1, 7, 5},     {3, 16, 33},   {64, 64, 64},  {65, 63, 130},  {70, 300, 3},
                             {5, 192, 50}, {129, 200, 9}, {300, 70, 65}, {700, 24, 40}, {1030, 260, 70}};
enum { N_CASES = sizeof cases / sizeof *cases };

typedef struct Layer {
    Numbers x, W, bias, dy, y, dx, dW, dbias;
} Layer;

static Layer layer_random(Case c) {
    size_t n = (size_t)c.n, m1 = (size_t)c.m1, m2 = (size_t)c.m2;
    return (Layer){.x = numbers_random(n * m1, 1),
                   .W = numbers_random(m1 * m2, 2),
                   .bias = numbers_random(m2, 3),
                   .dy = numbers_random(n * m2, 4),
                   .y = numbers_random(n * m2, 5),
                   .dx = numbers_random(n * m1, 6),
                   .dW = numbers_random(m1 * m2, 7),
                   .dbias = numbers_random(m2, 8)};
}

static void layer_free(Layer *l) {
    Numbers *all[] = {&l->x, &l->W, &l->bias, &l->dy, &l->y, &l->dx, &l->dW, &l->dbias};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) numbers_free(all[i]);
}

static void run(Engine *engine, Case c, Layer *l, bool with_bias, bool accumulate) {
    Activation x = activation_f32(l->x.f), dy = activation_f32(l->dy.f);
    engine_linear_forward(engine, c.n, c.m1, c.m2, x, l->W.f, with_bias ? l->bias.f : NULL, activation_f32(l->y.f));
    engine_linear_backward(engine, c.n, c.m1, c.m2, x, l->W.f, dy, activation_f32(l->dx.f), accumulate, l->dW.f,
                           l->dbias.f);
}

static void test_against_twin(void **state) {
    (void)state;
    KinditContext ctx;
    for (int i = 0; i < N_CASES; i++) {
        Case c = cases[i];
        Engine *engine = engine_with_threads(&ctx, 2, engine_linear_scratch(c.n, c.m1, c.m2));
        for (int variant = 0; variant < 2; variant++) {
            Layer l = layer_random(c);
            run(engine, c, &l, variant, variant);
            plain_linear_forward_f64(c.n, c.m1, c.m2, l.x.d, l.W.d, variant ? l.bias.d : NULL, l.y.d);
            plain_linear_backward_f64(c.n, c.m1, c.m2, l.x.d, l.W.d, l.dy.d, l.dx.d, variant, l.dW.d, l.dbias.d);
            assert_close(&l.y, c.m1, "y");
            assert_close(&l.dx, c.m2, "dx");
            assert_close(&l.dW, c.n, "dW");
            assert_close(&l.dbias, c.n, "dbias");
            layer_free(&l);
        }
        engine_close(&engine);
    }
}

static void test_float_twin(void **state) {
    (void)state;
    Case c = {9, 21, 13};
    Layer l = layer_random(c);
    plain_linear_forward_f32(c.n, c.m1, c.m2, l.x.f, l.W.f, l.bias.f, l.y.f);
    plain_linear_forward_f64(c.n, c.m1, c.m2, l.x.d, l.W.d, l.bias.d, l.y.d);
    plain_linear_backward_f32(c.n, c.m1, c.m2, l.x.f, l.W.f, l.dy.f, l.dx.f, true, l.dW.f, l.dbias.f);
    plain_linear_backward_f64(c.n, c.m1, c.m2, l.x.d, l.W.d, l.dy.d, l.dx.d, true, l.dW.d, l.dbias.d);
    assert_close(&l.y, c.m1, "y");
    assert_close(&l.dx, c.m2, "dx");
    assert_close(&l.dW, c.n, "dW");
    layer_free(&l);
}

// What is not asked for is not written, and what is asked for does not depend on it.
static void test_parts_of_backward(void **state) {
    (void)state;
    Case c = {100, 40, 30};
    KinditContext ctx;
    Engine *engine = engine_with_threads(&ctx, 2, engine_linear_scratch(c.n, c.m1, c.m2));
    Layer all = layer_random(c), part = layer_random(c);
    run(engine, c, &all, true, false);
    Activation x = activation_f32(part.x.f), dy = activation_f32(part.dy.f), dx = activation_f32(part.dx.f), none = {0};
    engine_linear_backward(engine, c.n, c.m1, c.m2, x, part.W.f, dy, dx, false, NULL, NULL);
    engine_linear_backward(engine, c.n, c.m1, c.m2, x, part.W.f, dy, none, false, part.dW.f, NULL);
    engine_linear_backward(engine, c.n, c.m1, c.m2, x, part.W.f, dy, none, false, NULL, part.dbias.f);
    assert_memory_equal(all.dx.f, part.dx.f, all.dx.n * sizeof(float));
    assert_memory_equal(all.dW.f, part.dW.f, all.dW.n * sizeof(float));
    assert_memory_equal(all.dbias.f, part.dbias.f, all.dbias.n * sizeof(float));
    layer_free(&all);
    layer_free(&part);
    engine_close(&engine);
}

static void test_threads_change_no_bit(void **state) {
    (void)state;
    KinditContext ctx;
    for (int i = 0; i < N_CASES; i++) {
        Case c = cases[i];
        Layer one = layer_random(c);
        for (int threads = 1; threads <= 3; threads++) {
            Layer l = layer_random(c);
            Engine *engine = engine_with_threads(&ctx, threads, engine_linear_scratch(c.n, c.m1, c.m2));
            run(engine, c, threads == 1 ? &one : &l, true, true);
            engine_close(&engine);
            if (threads > 1) {
                assert_memory_equal(one.y.f, l.y.f, l.y.n * sizeof(float));
                assert_memory_equal(one.dx.f, l.dx.f, l.dx.n * sizeof(float));
                assert_memory_equal(one.dW.f, l.dW.f, l.dW.n * sizeof(float));
                assert_memory_equal(one.dbias.f, l.dbias.f, l.dbias.n * sizeof(float));
            }
            layer_free(&l);
        }
        layer_free(&one);
    }
}

static double loss(Case c, const Layer *l, Numbers *y) {
    double sum = 0;
    plain_linear_forward_f64(c.n, c.m1, c.m2, l->x.d, l->W.d, l->bias.d, y->d);
    for (size_t i = 0; i < y->n; i++) sum += y->d[i] * l->dy.d[i];
    return sum;
}

// The loss sum(y * dy) is linear in each parameter: the central difference is exact up to rounding.
static void test_twin_against_differences(void **state) {
    (void)state;
    Case c = {6, 5, 4};
    Layer l = layer_random(c);
    Numbers y = numbers_zero(l.y.n), gradients[] = {numbers_zero(l.x.n), numbers_zero(l.W.n), numbers_zero(l.bias.n)};
    Numbers *parameters[] = {&l.x, &l.W, &l.bias};
    plain_linear_backward_f64(c.n, c.m1, c.m2, l.x.d, l.W.d, l.dy.d, gradients[0].d, false, gradients[1].d,
                              gradients[2].d);
    for (int p = 0; p < 3; p++) {
        for (size_t i = 0; i < parameters[p]->n; i++) {
            double *value = &parameters[p]->d[i], kept = *value, step = 1e-3;
            *value = kept + step;
            double high = loss(c, &l, &y);
            *value = kept - step;
            double low = loss(c, &l, &y);
            *value = kept;
            assert_true(fabs((high - low) / (2 * step) - gradients[p].d[i]) < 1e-10);
        }
        numbers_free(&gradients[p]);
    }
    numbers_free(&y);
    layer_free(&l);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_against_twin),
        cmocka_unit_test(test_float_twin),
        cmocka_unit_test(test_parts_of_backward),
        cmocka_unit_test(test_threads_change_no_bit),
        cmocka_unit_test(test_twin_against_differences),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
