// The serial product, by whatever computes it: both forms, every tail, strides beyond the width, and nothing
// written outside; and the large one that is made of it.
#include <stdio.h>
#ifdef __x86_64__
#include <cpuid.h>
#endif

#include "matrices.h"

#include "engine/gemm_large.h"
#include "engine/rows.h"

enum { MARGIN = 3 }; // extra stride

static int choose(void **state) {
    (void)state;
    KinditContext ctx = {0};
    return gemm_choose(&ctx) || gemm_bf16_choose(&ctx) ? -1 : 0;
}

static double element(GemmOp op, const Numbers *A, int lda, const Numbers *B, int ldb, int i, int j, int l) {
    double a = op == GEMM_TN ? A->d[l * lda + i] : A->d[i * lda + l];
    return a * B->d[l * ldb + j];
}

static void round_numbers(Numbers *x) {
    rows_round(x->n, x->f);
    for (size_t i = 0; i < x->n; i++) x->d[i] = (double)x->f[i];
}

// threads 0: one tile; else the large product, of bf16 by numbers that are such already.
static void check(GemmOp op, int m, int n, int k, bool accumulate, int threads, EngineType type) {
    int lda = (op == GEMM_TN ? m : k) + MARGIN, ldb = n + MARGIN, ldc = n + MARGIN;
    Numbers A = numbers_random((size_t)(lda * (op == GEMM_TN ? k : m) + 1), 1);
    Numbers B = numbers_random((size_t)(ldb * k + 1), 2);
    Numbers C = numbers_random((size_t)(ldc * m), 3);
    if (type == ENGINE_BF16) {
        round_numbers(&A);
        round_numbers(&B);
    }
    for (int i = 0; i < m; i++) {
        for (int j = 0; j < n; j++) {
            double *c = &C.d[i * ldc + j];
            if (!accumulate) *c = 0;
            for (int l = 0; l < k; l++) *c += element(op, &A, lda, &B, ldb, i, j, l);
            if (!accumulate) C.f[i * ldc + j] = NAN; // must be overwritten, never read
        }
    }
    float *work = malloc(gemm_large_work(n, k) * sizeof *work);
    assert_non_null(work);
    if (threads > 0)
        gemm_large(threads, type, m, n, k, A.f, lda, B.f, ldb, C.f, ldc, accumulate, work);
    else
        gemm_tile(op, m, n, k, A.f, lda, B.f, ldb, C.f, ldc, accumulate);
    assert_close(&C, k, "C"); // the margin too: it must keep its numbers
    free(work);
    numbers_free(&A);
    numbers_free(&B);
    numbers_free(&C);
}

static void test_shapes(void **state) {
    (void)state;
    const int m[] = {1, 2, 5, 16, 33, 64}, n[] = {1, 2, 7, 8, 24, 65, 112, 130}, k[] = {0, 1, 3, 31, 64, 193, 300};
    for (size_t a = 0; a < sizeof m / sizeof *m; a++) {
        for (size_t b = 0; b < sizeof n / sizeof *n; b++) {
            for (size_t c = 0; c < sizeof k / sizeof *k; c++) {
                for (int op = GEMM_NN; op <= GEMM_TN; op++) {
                    check((GemmOp)op, m[a], n[b], k[c], false, 0, ENGINE_F32);
                    check((GemmOp)op, m[a], n[b], k[c], true, 0, ENGINE_F32);
                }
            }
        }
    }
}

static void test_large(void **state) {
    (void)state;
    const int m[] = {1, 130, 513}, n[] = {5, 97, 200}, k[] = {3, 256, 300};
    for (size_t a = 0; a < sizeof m / sizeof *m; a++) {
        for (size_t b = 0; b < sizeof n / sizeof *n; b++) {
            for (size_t c = 0; c < sizeof k / sizeof *k; c++) {
                check(GEMM_NN, m[a], n[b], k[c], false, 1, ENGINE_F32);
                check(GEMM_NN, m[a], n[b], k[c], true, 3, ENGINE_F32);
                check(GEMM_NN, m[a], n[b], k[c], true, 2, ENGINE_BF16);
            }
        }
    }
}

// A row's product is the same, to the bit, wherever it stands and however many there are.
static void check_rows(int n, int k) {
    enum { MOST = 64 };
    const int rows[] = {2, 3, 5, 6, 7, 11, 12, 17, MOST};
    Numbers A = numbers_random((size_t)(MOST * k), 1), B = numbers_random((size_t)(k * n), 2);
    Numbers alone = numbers_zero((size_t)(MOST * n)), together = numbers_zero((size_t)(MOST * n));
    for (int i = 0; i < MOST; i++) gemm_tile(GEMM_NN, 1, n, k, A.f + i * k, k, B.f, n, alone.f + i * n, n, false);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        gemm_tile(GEMM_NN, rows[i], n, k, A.f, k, B.f, n, together.f, n, false);
        assert_memory_equal(together.f, alone.f, (size_t)(rows[i] * n) * sizeof(float));
    }
    numbers_free(&A);
    numbers_free(&B);
    numbers_free(&alone);
    numbers_free(&together);
}

static void test_rows_keep_their_bits(void **state) {
    (void)state;
    skip_where_blas_is_forced();
    const int n[] = {1, 2, 7, 8, 17, 24, 31, 32, 48, 64}, k[] = {1, 3, 16, 31, 82, 192, 256};
    for (size_t i = 0; i < sizeof n / sizeof *n; i++) {
        for (size_t j = 0; j < sizeof k / sizeof *k; j++) check_rows(n[i], k[j]);
    }
}

// Whether the upper halves of the vector registers are in use; false where the processor does not say.
static bool upper_halves_in_use(void) {
#ifdef __x86_64__
    unsigned a, b, c, d, in_use;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_OSXSAVE)) return false;
    if (!__get_cpuid_count(0xD, 1, &a, &b, &c, &d) || !(a & 4)) return false; // XGETBV 1
    __asm__ volatile("xgetbv" : "=a"(in_use), "=d"(d) : "c"(1));
    return in_use & 4;
#else
    return false;
#endif
}

// Else all code for SSE that runs next crawls.
static void test_clears_upper_halves(void **state) {
    (void)state;
    float a[64 * 40] = {0}, b[40 * 32] = {0}, c[64 * 32];
    gemm_tile(GEMM_NN, 64, 32, 40, a, 40, b, 32, c, 32, false);
    assert_false(upper_halves_in_use());
    choose(NULL);
    assert_false(upper_halves_in_use());
}

// What the environment asks for is what computes; what is unknown is refused, with the names that are known.
static void test_choice(void **state) {
    (void)state;
    KinditContext ctx = {0};
    char kept[16], described[128];
    const char *before = getenv("KINDIT_GEMM");
    snprintf(kept, sizeof kept, "%s", before ? before : "");
    setenv("KINDIT_GEMM", "c", 1);
    assert_int_equal(gemm_choose(&ctx), KINDIT_OK);
    gemm_describe(described, sizeof described);
    assert_non_null(strstr(described, "plain C"));
    setenv("KINDIT_GEMM", "abacus", 1);
    Engine *engine = NULL;
    assert_int_equal(engine_create(&engine, &ctx), KINDIT_ERROR_ARGUMENT);
    assert_null(engine);
    assert_non_null(strstr(ctx.message, "'abacus'"));
    assert_non_null(strstr(ctx.message, ", c,"));
    setenv("KINDIT_GEMM", kept, 1); // empty is as good as unset
    assert_int_equal(gemm_choose(&ctx), KINDIT_OK);
}

static void test_transpose(void **state) {
    (void)state;
    enum { ROWS = 19, COLUMNS = 37, FROM = 40, TO = 21 };
    Numbers from = numbers_random((size_t)ROWS * FROM, 1), to = numbers_random((size_t)COLUMNS * TO, 2);
    gemm_transpose(ROWS, COLUMNS, from.f, FROM, to.f, TO);
    for (int c = 0; c < COLUMNS; c++) {
        for (int r = 0; r < TO; r++) {
            double expected = r < ROWS ? from.d[r * FROM + c] : to.d[c * TO + r];
            assert_true((double)to.f[c * TO + r] == expected);
        }
    }
    numbers_free(&from);
    numbers_free(&to);
}

static void test_handle(void **state) {
    (void)state;
    KinditContext ctx;
    Engine *engine = engine_with_threads(&ctx, 3, 100);
    assert_int_equal(engine_threads(engine), 3);
    assert_true(strlen(engine_describe(engine)) > 0);
    size_t before = engine_allocated(engine);
    assert_true(before >= 400);
    float *buffer = NULL;
    assert_int_equal(engine_alloc(engine, 70000, &buffer), KINDIT_OK);
    assert_int_equal((uintptr_t)buffer % 64, 0);
    assert_true(engine_allocated(engine) >= before + 280000);
    assert_true(engine_sum_squares(engine, 70000, buffer) == 0);
    Numbers x = numbers_random(70000, 1);
    engine_upload(engine, buffer, x.f, x.n);
    assert_true(engine_all_finite(engine, buffer, x.n));
    double sum = 0;
    for (size_t i = 0; i < x.n; i++) sum += x.d[i] * x.d[i];
    assert_true(fabs(engine_sum_squares(engine, x.n, buffer) - sum) < 1e-9 * sum);
    x.f[69999] = INFINITY;
    engine_upload(engine, buffer, x.f, x.n);
    assert_false(engine_all_finite(engine, buffer, x.n));
    x.f[69999] = NAN;
    engine_upload(engine, buffer, x.f, x.n);
    assert_false(engine_all_finite(engine, buffer, x.n));
    assert_true(engine_all_finite(engine, buffer, x.n - 1));
    engine_free(engine, &buffer);
    assert_null(buffer);
    assert_int_equal(engine_allocated(engine), before);
    assert_int_equal(engine_alloc(engine, SIZE_MAX / 2, &buffer), KINDIT_ERROR_MEMORY);
    assert_int_equal(engine_allocated(engine), before);
    numbers_free(&x);
    engine_close(&engine);
    assert_null(engine);
    ctx.settings.threads = -1;
    assert_int_equal(engine_create(&engine, &ctx), KINDIT_ERROR_ARGUMENT);
}

static void test_sum_squares_ignores_threads(void **state) {
    (void)state;
    enum { N = 9000000 }; // several lots of parts
    Numbers x = numbers_random(N, 1);
    KinditContext ctx;
    double expected = 0;
    for (int threads = 1; threads <= 3; threads++) {
        Engine *engine = engine_with_threads(&ctx, threads, 0);
        double sum = engine_sum_squares(engine, N, x.f);
        if (threads == 1) expected = sum;
        assert_true(sum == expected);
        engine_close(&engine);
    }
    numbers_free(&x);
}

static void test_profile(void **state) {
    (void)state;
    KinditContext ctx;
    EngineProfile profile[N_KERNELS];
    Engine *engine = engine_with_threads(&ctx, 1, engine_linear_scratch(4, 5, 6));
    Numbers x = numbers_random(20, 1), W = numbers_random(30, 2), y = numbers_zero(24);
    engine_linear_forward(engine, 4, 5, 6, activation_f32(x.f), W.f, NULL, activation_f32(y.f), NULL);
    assert_int_equal(engine_profile_read(engine, profile, N_KERNELS), 0); // off by default
    engine_profile_enable(engine, true);
    for (int i = 0; i < 3; i++)
        engine_linear_forward(engine, 4, 5, 6, activation_f32(x.f), W.f, NULL, activation_f32(y.f), NULL);
    engine_zero(engine, y.f, y.n);
    assert_int_equal(engine_profile_read(engine, profile, N_KERNELS), 2);
    assert_true(profile[0].seconds >= profile[1].seconds);
    const EngineProfile *linear = &profile[strcmp(profile[0].name, "linear forward") != 0];
    assert_string_equal(linear->name, "linear forward");
    assert_int_equal(linear->calls, 3);
    assert_true(linear->flops == 3 * 2 * 4 * 5 * 6);
    engine_profile_reset(engine);
    assert_int_equal(engine_profile_read(engine, profile, N_KERNELS), 0);
    numbers_free(&x);
    numbers_free(&W);
    numbers_free(&y);
    engine_close(&engine);
}

static void test_limits_are_positive(void **state) {
    (void)state;
    KinditContext ctx;
    Engine *engine = engine_with_threads(&ctx, 1, 0);
    assert_true(engine_measure_peak(engine, ENGINE_F32) > 1e8);
    assert_true(engine_measure_peak(engine, ENGINE_BF16) > 1e8);
    assert_true(engine_measure_bandwidth(engine) > 1e8);
    assert_int_equal(engine_allocated(engine), 0);
    engine_close(&engine);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shapes),
        cmocka_unit_test(test_large),
        cmocka_unit_test(test_rows_keep_their_bits),
        cmocka_unit_test(test_clears_upper_halves),
        cmocka_unit_test(test_choice),
        cmocka_unit_test(test_transpose),
        cmocka_unit_test(test_handle),
        cmocka_unit_test(test_sum_squares_ignores_threads),
        cmocka_unit_test(test_profile),
        cmocka_unit_test(test_limits_are_positive),
    };
    return cmocka_run_group_tests(tests, choose, NULL);
}
