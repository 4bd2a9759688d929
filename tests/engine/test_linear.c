// The dense product against its double twin, and the twin against finite differences.
#include "matrices.h"

#include "engine/plain_linear.h"
#include "engine/plain_ops.h"

typedef struct Case {
    int n, m1, m2;
} Case;

static const Case cases[] = {{1, 1, 1},     {1, 7, 5},     {3, 16, 33},     {64, 64, 64},
                             {65, 63, 130}, {70, 300, 3},  {5, 192, 50},    {129, 200, 9},
                             {300, 70, 65}, {700, 24, 40}, {1030, 260, 70}, {24, 1030, 1100}};
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

// How the rows are stored, and whether the product reads GELU of its operand.
typedef struct Types {
    EngineType x, y, dy, dx;
    bool gelu;
} Types;

static const Types all_types[] = {
    {ENGINE_F32, ENGINE_F32, ENGINE_F32, ENGINE_F32, false},
    {ENGINE_F32, ENGINE_F32, ENGINE_F32, ENGINE_F32, true},
    {ENGINE_BF16, ENGINE_BF16, ENGINE_BF16, ENGINE_BF16, false},
    {ENGINE_BF16, ENGINE_BF16, ENGINE_BF16, ENGINE_BF16, true},
    {ENGINE_BF16, ENGINE_F32, ENGINE_F32, ENGINE_BF16, false},
    {ENGINE_F32, ENGINE_BF16, ENGINE_BF16, ENGINE_F32, true},
};
enum { N_TYPES = sizeof all_types / sizeof *all_types };

static void run_as(Engine *engine, Case c, Layer *l, const Types *types, bool with_bias, bool accumulate) {
    Activation x = numbers_as(&l->x, types->x), dx = numbers_as(&l->dx, types->dx);
    x.gelu = types->gelu;
    engine_linear_forward(engine, c.n, c.m1, c.m2, x, l->W.f, with_bias ? l->bias.f : NULL, numbers_as(&l->y, types->y),
                          NULL);
    engine_linear_backward(engine, c.n, c.m1, c.m2, x, l->W.f, numbers_as(&l->dy, types->dy), dx, accumulate, l->dW.f,
                           l->dbias.f);
    numbers_fetch(&l->y, types->y);
    numbers_fetch(&l->dx, types->dx);
}

static void run(Engine *engine, Case c, Layer *l, bool with_bias, bool accumulate) {
    run_as(engine, c, l, &all_types[0], with_bias, accumulate);
}

// x, dy and dx as the types keep them; weights as the rows they meet.
static void run_twin(Case c, Layer *l, const Types *types, bool with_bias, bool accumulate) {
    Numbers rounded = numbers_random(l->W.n, 2), read = numbers_zero(l->x.n), dread = numbers_zero(l->x.n);
    numbers_round(&rounded);
    memcpy(read.d, l->x.d, l->x.n * sizeof(double));
    if (types->gelu) plain_gelu_forward_f64(l->x.n, l->x.d, read.d);
    const double *of_x = types->x == ENGINE_BF16 ? rounded.d : l->W.d;
    const double *of_dy = types->dy == ENGINE_BF16 ? rounded.d : l->W.d;
    plain_linear_forward_f64(c.n, c.m1, c.m2, read.d, of_x, with_bias ? l->bias.d : NULL, l->y.d);
    plain_linear_backward_f64(c.n, c.m1, c.m2, read.d, of_dy, l->dy.d, dread.d, false, l->dW.d, l->dbias.d);
    if (types->gelu) plain_gelu_backward_f64(l->x.n, l->x.d, dread.d, dread.d);
    for (size_t i = 0; i < l->dx.n; i++) l->dx.d[i] = (accumulate ? l->dx.d[i] : 0) + dread.d[i];
    numbers_free(&rounded);
    numbers_free(&read);
    numbers_free(&dread);
}

static void test_against_twin(void **state) {
    (void)state;
    KinditContext ctx;
    for (int i = 0; i < N_CASES * N_TYPES; i++) {
        Case c = cases[i / N_TYPES];
        const Types *types = &all_types[i % N_TYPES];
        const bool more = (i / N_TYPES + i % N_TYPES) % 2; // bias and sums that are added to: every other pair
        Engine *engine = engine_with_threads(&ctx, 2, engine_linear_scratch(c.n, c.m1, c.m2));
        Layer l = layer_random(c);
        run_as(engine, c, &l, types, more, more);
        run_twin(c, &l, types, more, more);
        const bool rounded = types->gelu && rounds_operands(types->x);
        assert_close_rounded(&l.y, types->y, c.m1, rounded, "y");
        assert_close_as(&l.dx, types->dx, c.m2, "dx");
        assert_close_rounded(&l.dW, ENGINE_F32, c.n, rounded, "dW");
        assert_close(&l.dbias, c.n, "dbias");
        layer_free(&l);
        engine_close(&engine);
    }
}

// What is stored through GELU is GELU of what is stored without it: x is fp32, so that the sums are the same.
static void test_stored_through_gelu(void **state) {
    (void)state;
    KinditContext ctx;
    for (int i = 0; i < 2 * N_CASES; i++) {
        Case c = cases[i / 2];
        const EngineType type = i % 2 ? ENGINE_BF16 : ENGINE_F32;
        Engine *engine = engine_with_threads(&ctx, 2, engine_linear_scratch(c.n, c.m1, c.m2));
        Layer l = layer_random(c), through = layer_random(c);
        Activation y = numbers_as(&through.y, type);
        y.gelu = true;
        engine_linear_forward(engine, c.n, c.m1, c.m2, activation_f32(l.x.f), l.W.f, l.bias.f, activation_f32(l.y.f),
                              NULL);
        engine_linear_forward(engine, c.n, c.m1, c.m2, activation_f32(l.x.f), l.W.f, l.bias.f, y, NULL);
        assert_through_gelu(&through.y, type, &l.y, "y");
        layer_free(&l);
        layer_free(&through);
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
    for (int i = 0; i < N_CASES * N_TYPES; i++) {
        if ((i / N_TYPES + i % N_TYPES) % 3) continue; // two types a case, all of them in three
        Case c = cases[i / N_TYPES];
        Layer one = layer_random(c);
        for (int threads = 1; threads <= 3; threads++) {
            Layer l = layer_random(c);
            Engine *engine = engine_with_threads(&ctx, threads, engine_linear_scratch(c.n, c.m1, c.m2));
            run_as(engine, c, threads == 1 ? &one : &l, &all_types[i % N_TYPES], true, true);
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

// A row's result does not depend on the rows beside it: any number of rows gives the first ones the same bits.
static void test_rows_are_independent(void **state) {
    (void)state;
    skip_where_blas_is_forced();
    KinditContext ctx;
    for (int i = 0; i < N_TYPES; i++) {
        Case c = {300, 200, 70};
        Layer all = layer_random(c);
        Engine *engine = engine_with_threads(&ctx, 2, engine_linear_scratch(c.n, c.m1, c.m2));
        run_as(engine, c, &all, &all_types[i], true, false);
        for (c.n = 1; c.n < 300; c.n = c.n * 3 + 1) {
            Layer few = layer_random(c);
            run_as(engine, c, &few, &all_types[i], true, false);
            assert_memory_equal(all.y.f, few.y.f, few.y.n * sizeof(float));
            layer_free(&few);
        }
        layer_free(&all);
        engine_close(&engine);
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

// Weights packed beforehand give the bits of weights packed at the call, and the matrix itself is not read.
static void test_prepared_weights_are_enough(void **state) {
    (void)state;
    skip_where_blas_is_forced(); // it gives a product of few rows, taken from W itself, other bits
    for (int i = 0; i < N_CASES; i++) {
        const Case c = cases[i];
        const size_t n = (size_t)c.n * (size_t)c.m2;
        Layer l = layer_random(c);
        EnginePack pack = {0};
        float *y = test_malloc(n * sizeof *y);
        KinditContext ctx;
        Engine *engine = engine_with_threads(&ctx, 2, engine_linear_scratch(c.n, c.m1, c.m2));
        assert_int_equal(engine_alloc(engine, engine_linear_pack(c.m1, c.m2), &pack.weights), KINDIT_OK);
        engine_linear_prepare(engine, c.m1, c.m2, ENGINE_F32, l.W.f, &pack);
        assert_true(pack.ready);
        engine_linear_forward(engine, c.n, c.m1, c.m2, activation_f32(l.x.f), NULL, l.bias.f, activation_f32(y), &pack);
        engine_linear_forward(engine, c.n, c.m1, c.m2, activation_f32(l.x.f), l.W.f, l.bias.f, activation_f32(l.y.f),
                              NULL);
        assert_memory_equal(y, l.y.f, n * sizeof *y);
        engine_free(engine, &pack.weights);
        engine_close(&engine);
        test_free(y);
        layer_free(&l);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_against_twin),
        cmocka_unit_test(test_stored_through_gelu),
        cmocka_unit_test(test_float_twin),
        cmocka_unit_test(test_parts_of_backward),
        cmocka_unit_test(test_threads_change_no_bit),
        cmocka_unit_test(test_rows_are_independent),
        cmocka_unit_test(test_twin_against_differences),
        cmocka_unit_test(test_prepared_weights_are_enough),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
