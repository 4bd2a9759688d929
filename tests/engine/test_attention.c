// Attention against its twin in double over odd shapes, its gradient by finite differences, threads, scratch.
#include "engine/numbers.h"

#include "engine/internal.h"

// q, k, v are `in` + 0, 1, 2 times `offset`: inside one fused row, or one whole buffer after the other.
typedef struct Attention {
    int batch, tokens, width, heads, stride;
    size_t offset;
    Numbers *in, *out, *lse, *dout, *din;
} Attention;

static Attention attention(int batch, int tokens, int heads, int head_width, bool fused, float scale) {
    int width = heads * head_width;
    size_t n = (size_t)(batch * tokens * width);
    return (Attention){batch,
                       tokens,
                       width,
                       heads,
                       fused ? 3 * width : width,
                       fused ? (size_t)width : n,
                       numbers_random(3 * n, scale),
                       numbers_empty(n),
                       numbers_empty((size_t)(batch * heads * tokens)),
                       numbers_random(n, 1.0f),
                       numbers_empty(3 * n)};
}

static void run_forward(Engine *engine, const Attention *a) {
    Activation q = activation_f32(a->in->f), k = activation_at(q, a->offset), v = activation_at(k, a->offset);
    engine_attention_forward(engine, a->batch, a->tokens, a->width, a->heads, a->stride, q, k, v,
                             activation_f32(a->out->f), a->lse->f);
}

static void run_backward(Engine *engine, const Attention *a) {
    Activation q = activation_f32(a->in->f), k = activation_at(q, a->offset), v = activation_at(k, a->offset);
    Activation dq = activation_f32(a->din->f), dk = activation_at(dq, a->offset), dv = activation_at(dk, a->offset);
    engine_attention_backward(engine, a->batch, a->tokens, a->width, a->heads, a->stride, q, k, v,
                              activation_f32(a->out->f), a->lse->f, activation_f32(a->dout->f), dq, dk, dv);
}

static void run_twin_forward(const Attention *a) {
    plain_attention_forward_f64(a->batch, a->tokens, a->width, a->heads, a->stride, a->in->d, a->in->d + a->offset,
                                a->in->d + 2 * a->offset, a->out->d, a->lse->d);
}

static void run_twin_backward(const Attention *a) {
    double *q = a->in->d, *dq = a->din->d;
    plain_attention_backward_f64(a->batch, a->tokens, a->width, a->heads, a->stride, q, q + a->offset,
                                 q + 2 * a->offset, a->out->d, a->lse->d, a->dout->d, dq, dq + a->offset,
                                 dq + 2 * a->offset);
}

static void reserve(Engine *engine, const Attention *a) {
    for (int backward = 0; backward < 2; backward++)
        assert_int_equal(engine_reserve(engine, engine_attention_scratch(engine_threads(engine), a->batch, a->tokens,
                                                                         a->width, a->heads, backward)),
                         KINDIT_OK);
}

static void check_shape(int batch, int tokens, int heads, int head_width, bool fused, float scale) {
    Attention a = attention(batch, tokens, heads, head_width, fused, scale);
    run_twin_forward(&a);
    run_twin_backward(&a);
    for (int threads = 1; threads <= MAX_THREADS; threads++) {
        reserve(engines[threads], &a);
        run_forward(engines[threads], &a);
        numbers_check(a.out, threads, 2e-6);
        numbers_check(a.lse, threads, 1e-6);
        run_backward(engines[threads], &a);
        numbers_check(a.din, threads, 5e-6);
    }
    numbers_free_all();
}

static void test_matches_twin(void **state) {
    (void)state;
    const int shapes[][4] = {// batch, tokens, heads, head width
                             {1, 1, 1, 1},   {2, 1, 3, 18},   {3, 5, 2, 24},   {2, 16, 3, 64}, {3, 49, 2, 72},
                             {1, 64, 6, 18}, {2, 256, 2, 64}, {1, 257, 2, 24}, {1, 600, 1, 16}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (int fused = 0; fused < 2; fused++)
            check_shape(shapes[i][0], shapes[i][1], shapes[i][2], shapes[i][3], fused, 1.0f);
}

// Scores in the hundreds: softmax is all but one-hot, and exp must neither overflow nor lose the largest.
static void test_large_scores(void **state) {
    (void)state;
    Attention a = attention(2, 300, 2, 24, true, 12.0f);
    run_twin_forward(&a);
    reserve(engines[1], &a);
    run_forward(engines[1], &a);
    numbers_check(a.lse, 1, 1e-6);
    numbers_check(a.out, 1, 3e-5); // scores of 500 have an error of 3e-5 in float, which the exponential passes on
    numbers_free_all();
}

static double forward_objective(void *of) {
    const Attention *a = of;
    run_twin_forward(a);
    return numbers_weigh(a->dout, a->out);
}

static void test_twin_slopes(void **state) {
    (void)state;
    for (int fused = 0; fused < 2; fused++) {
        Attention a = attention(2, 7, 2, 6, fused, 1.0f);
        run_twin_forward(&a);
        run_twin_backward(&a);
        check_slopes(forward_objective, &a, a.in, a.din->d, 1e-7);
        numbers_free_all();
    }
}

// A NaN in one value row must reach the output of its sample and head, and no other.
static void test_nan_stays_in_its_head(void **state) {
    (void)state;
    Attention a = attention(2, 20, 2, 8, false, 1.0f);
    a.in->f[5 * 16 + 3] = NAN; // q of sample 0, token 5, head 0
    reserve(engines[2], &a);
    run_forward(engines[2], &a);
    for (size_t i = 0; i < a.out->n; i++) assert_int_equal(isnan(a.out->f[i]) != 0, i / 16 == 5 && i % 16 < 8);
    numbers_free_all();
}

static void test_scratch_is_enough(void **state) {
    (void)state;
    const int shapes[][4] = {{3, 1, 1, 5}, {2, 49, 3, 18}, {2, 270, 2, 24}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (int backward = 0; backward < 2; backward++) {
            Attention a = attention(shapes[i][0], shapes[i][1], shapes[i][2], shapes[i][3], true, 1.0f);
            size_t size = engine_attention_scratch(3, a.batch, a.tokens, a.width, a.heads, backward);
            assert_int_equal(engine_reserve(engines[3], size + 1), KINDIT_OK);
            engines[3]->scratch[size] = 12345.0f;
            if (backward)
                run_backward(engines[3], &a);
            else
                run_forward(engines[3], &a);
            assert_true(engines[3]->scratch[size] == 12345.0f);
            numbers_free_all();
        }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_matches_twin),      cmocka_unit_test(test_large_scores),
        cmocka_unit_test(test_twin_slopes),       cmocka_unit_test(test_nan_stays_in_its_head),
        cmocka_unit_test(test_scratch_is_enough),
    };
    return cmocka_run_group_tests_name("attention", tests, engines_open, engines_close);
}
