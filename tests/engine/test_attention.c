// Attention against its twin in double over odd shapes, rows in fp32 and in bf16, its gradient by finite differences,
// large scores, threads, scratch.
#include "engine/numbers.h"

#include "engine/gemm_bf16.h"
#include "engine/internal.h"

typedef struct Types {
    EngineType in, k, out, dout, din; // in: of q and v
} Types;

static const Types all_f32;
static const Types all_bf16 = {ENGINE_BF16, ENGINE_BF16, ENGINE_BF16, ENGINE_BF16, ENGINE_BF16};

// q, k, v are `in` + 0, 1, 2 times `offset`: inside one fused row, or one whole buffer after the other.
typedef struct Attention {
    int batch, tokens, width, heads, stride;
    size_t offset;
    Numbers *in, *out, *lse, *dout, *din;
    Activation rows_q, rows_k, rows_v, rows_out, rows_dout, rows_din;
} Attention;

// Scores are normal numbers of standard deviation scale^2.
static Attention attention(int batch, int tokens, int heads, int head_width, bool fused, float scale,
                           const Types *types) {
    int width = heads * head_width;
    size_t n = (size_t)(batch * tokens * width);
    Attention a = {.batch = batch, .tokens = tokens, .width = width, .heads = heads};
    a.stride = fused ? 3 * width : width, a.offset = fused ? (size_t)width : n;
    a.in = numbers_random(3 * n, scale), a.out = numbers_empty(n);
    a.lse = numbers_empty((size_t)(batch * heads * tokens));
    a.dout = numbers_random(n, 1.0f), a.din = numbers_empty(3 * n);
    a.rows_q = rows_in(a.in, types->in);
    a.rows_k = activation_at(types->k == types->in ? a.rows_q : rows_in(a.in, types->k), a.offset);
    a.rows_v = activation_at(a.rows_q, 2 * a.offset);
    a.rows_out = rows_out(a.out, types->out), a.rows_din = rows_out(a.din, types->din);
    a.rows_dout = rows_in(a.dout, types->dout);
    return a;
}

static void run_forward(Engine *engine, const Attention *a) {
    engine_attention_forward(engine, a->batch, a->tokens, a->width, a->heads, a->stride, a->rows_q, a->rows_k,
                             a->rows_v, a->rows_out, a->lse->f);
}

static void run_backward(Engine *engine, const Attention *a) {
    Activation dq = a->rows_din, dk = activation_at(dq, a->offset), dv = activation_at(dk, a->offset);
    engine_attention_backward(engine, a->batch, a->tokens, a->width, a->heads, a->stride, a->rows_q, a->rows_k,
                              a->rows_v, a->rows_out, a->lse->f, a->rows_dout, dq, dk, dv);
}

static void run_twin_forward(const Attention *a) {
    plain_attention_forward_f64(a->batch, a->tokens, a->width, a->heads, a->stride, a->in->d, a->in->d + a->offset,
                                a->in->d + 2 * a->offset, a->out->d, a->lse->d);
}

// `out`: what forward stored, rounded if in bf16.
static void run_twin_backward(const Attention *a, const double *out) {
    double *q = a->in->d, *dq = a->din->d;
    plain_attention_backward_f64(a->batch, a->tokens, a->width, a->heads, a->stride, q, q + a->offset,
                                 q + 2 * a->offset, out, a->lse->d, a->dout->d, dq, dq + a->offset, dq + 2 * a->offset);
}

static void reserve(Engine *engine, const Attention *a) {
    for (int backward = 0; backward < 2; backward++)
        assert_int_equal(engine_reserve(engine, engine_attention_scratch(engine_threads(engine), a->batch, a->tokens,
                                                                         a->width, a->heads, backward)),
                         KINDIT_OK);
}

// Products of bf16 round probabilities, and backward their gradients as well, to 2^-9 of each; all else is fp32.
static double rounding_of(const Types *types) {
    return types->in == ENGINE_BF16 && types->k == ENGINE_BF16 && gemm_bf16_is_native() ? 0x1p-8 : 0;
}

// Sums, exponentials and their arguments are fp32: bounds for scores of a few units. Where results are stored in bf16,
// check_rows adds that rounding.
static void check_shape(const int *shape, bool fused, const Types *types) {
    Attention a = attention(shape[0], shape[1], shape[2], shape[3], fused, 1.0f, types);
    Numbers *stored = numbers_empty(a.out->n);
    run_twin_forward(&a);
    for (int threads = 1; threads <= MAX_THREADS; threads++) {
        reserve(engines[threads], &a);
        run_forward(engines[threads], &a);
        check_rows(a.out, a.rows_out, threads, 2e-6 + rounding_of(types));
        numbers_check(a.lse, threads, 1e-6);
        if (threads == 1) {
            numbers_set(stored, a.out->f);
            run_twin_backward(&a, stored->d);
        }
        run_backward(engines[threads], &a);
        check_rows(a.din, a.rows_din, threads, 5e-6 + 2 * rounding_of(types));
    }
    numbers_free_all();
}

static void test_matches_twin(void **state) {
    (void)state;
    const EngineType F = ENGINE_F32, H = ENGINE_BF16;
    const int shapes[][4] = {// batch, tokens, heads, head width
                             {1, 1, 1, 1},    {2, 1, 3, 8},   {2, 3, 2, 72},   {3, 17, 2, 48},  {2, 49, 3, 18},
                             {2, 64, 3, 32},  {1, 64, 2, 64}, {1, 100, 2, 8},  {1, 100, 1, 72}, {1, 128, 1, 24},
                             {1, 256, 1, 64}, {2, 257, 1, 7}, {1, 200, 2, 32}, {1, 140, 1, 48}, {1, 520, 1, 8}};
    const Types types[] = {{F, F, F, F, F}, {H, H, H, H, H}, {H, H, H, F, H}, {F, H, F, H, F}, {H, F, F, F, H}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (size_t t = 0; t < sizeof types / sizeof *types; t++) {
            if (t < 2 || i % 3 == t % 3) check_shape(shapes[i], (i + t) % 2, &types[t]); // mixed ones take turns
            if (t == 0) check_shape(shapes[i], (i + 1) % 2, &types[t]);
        }
}

// Scores in the hundreds: softmax is all but one-hot, and exp must neither overflow nor lose the largest.
static void test_large_scores(void **state) {
    (void)state;
    Attention a = attention(2, 300, 2, 24, true, 12.0f, &all_f32);
    run_twin_forward(&a);
    reserve(engines[1], &a);
    run_forward(engines[1], &a);
    numbers_check(a.lse, 1, 1e-6);
    numbers_check(a.out, 1, 3e-5); // scores of 500 have an error of 3e-5 in float, which the exponential passes on
    numbers_free_all();
}

// Scores to 1e4 and beyond, of either sign, which float has to 1e-3: so much the exponential passes on, to gradients
// times a q or k of 100.
static void test_huge_scores(void **state) {
    (void)state;
    Attention a = attention(1, 130, 2, 32, true, 100.0f, &all_f32);
    run_twin_forward(&a);
    run_twin_backward(&a, a.out->d);
    reserve(engines[1], &a);
    run_forward(engines[1], &a);
    numbers_check(a.lse, 1, 1e-6);
    numbers_check(a.out, 1, 1e-3); // times the largest value, 400
    run_backward(engines[1], &a);
    numbers_check(a.din, 1, 1e-2);
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
        Attention a = attention(2, 7, 2, 6, fused, 1.0f, &all_f32);
        run_twin_forward(&a);
        run_twin_backward(&a, a.out->d);
        check_slopes(forward_objective, &a, a.in, a.din->d, 1e-7);
        numbers_free_all();
    }
}

// A NaN in one query must reach the output of its row and head, and no other.
static void check_nan(const Types *types) {
    Attention a = attention(2, 20, 2, 8, false, 1.0f, types);
    const size_t query = 5 * 16 + 3; // q of sample 0, token 5, head 0
    a.in->f[query] = NAN;
    if (types->in == ENGINE_BF16) ((uint16_t *)a.rows_q.data)[query] = bf16_from_float(NAN);
    reserve(engines[2], &a);
    run_forward(engines[2], &a);
    const uint16_t *half = a.rows_out.data;
    for (size_t i = 0; i < a.out->n; i++) {
        float out = types->out == ENGINE_BF16 ? bf16_to_float(half[i]) : a.out->f[i];
        assert_int_equal(isnan(out) != 0, i / 16 == 5 && i % 16 < 8);
    }
    for (size_t i = 0; i < a.lse->n; i++) assert_int_equal(isnan(a.lse->f[i]) != 0, i == 5);
    numbers_free_all();
}

static void test_nan_stays_in_its_row(void **state) {
    (void)state;
    check_nan(&all_f32);
    check_nan(&all_bf16);
}

// What a sample gets is the same, to the bit, without the others of its batch.
static void check_apart(const Types *types) {
    Attention a = attention(3, 100, 2, 24, true, 1.0f, types);
    size_t n = a.out->n / 3, size = engine_type_size(types->out);
    reserve(engines[2], &a);
    run_forward(engines[2], &a);
    memcpy(a.dout->f, a.rows_out.data, 3 * n * size);
    a.batch = 1;
    a.rows_q = activation_at(a.rows_q, 3 * n);
    a.rows_k = activation_at(a.rows_k, 3 * n);
    a.rows_v = activation_at(a.rows_v, 3 * n);
    run_forward(engines[1], &a);
    assert_memory_equal(a.rows_out.data, (const char *)a.dout->f + n * size, n * size);
    numbers_free_all();
}

static void test_sample_apart_from_its_batch(void **state) {
    (void)state;
    check_apart(&all_f32);
    check_apart(&all_bf16);
}

static void test_scratch_is_enough(void **state) {
    (void)state;
    const int shapes[][4] = {{3, 1, 1, 5}, {2, 49, 3, 18}, {2, 270, 2, 24}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (int run = 0; run < 4; run++) {
            const bool backward = run % 2;
            Attention a = attention(shapes[i][0], shapes[i][1], shapes[i][2], shapes[i][3], true, 1.0f,
                                    run < 2 ? &all_f32 : &all_bf16);
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
        cmocka_unit_test(test_matches_twin),         cmocka_unit_test(test_large_scores),
        cmocka_unit_test(test_huge_scores),          cmocka_unit_test(test_twin_slopes),
        cmocka_unit_test(test_nan_stays_in_its_row), cmocka_unit_test(test_sample_apart_from_its_batch),
        cmocka_unit_test(test_scratch_is_enough),
    };
    return cmocka_run_group_tests_name("attention", tests, engines_open, engines_close);
}
