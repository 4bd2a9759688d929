// Products of bf16 operands by the processor's own instructions against their plain twin: every tail of the tiles,
// strides beyond the width, and nothing written outside. Skipped where the processor has none.
#include <stdio.h>

#include "matrices.h"

#include "engine/tile.h"

enum { MARGIN = 3, MOST = 70 };

static void skip_where_there_is_none(void) {
    if (!gemm_bf16_is_native()) skip();
}

// k real terms, the rest of the last step zeros, as packing leaves them.
static void clear_beyond(uint16_t *rows, int n, int ld, int k, int padded) {
    for (int i = 0; i < n; i++) {
        for (int l = k; l < padded; l++) rows[i * ld + l] = 0;
    }
}

static void clear_pairs(uint16_t *pairs, int ld, int k, int padded) {
    for (int l = k; l < padded; l++) {
        for (int j = 0; j < ld; j++) pairs[2 * (l / 2 * ld + j) + l % 2] = 0;
    }
}

static void check(int m, int n, int k, bool accumulate) {
    const int padded = tile_round(k, BF16_STEP), lda = padded + 2 * MARGIN, ldb = n + MARGIN, ldc = n + MARGIN;
    Numbers A = numbers_random((size_t)(lda * m), 1), B = numbers_random((size_t)(ldb * padded), 2);
    Numbers C = numbers_random((size_t)(ldc * m), 3), twin = numbers_random((size_t)(ldc * m), 3);
    numbers_as(&A, ENGINE_BF16), numbers_as(&B, ENGINE_BF16);
    clear_beyond(A.h, m, lda, k, padded);
    clear_pairs(B.h, ldb, k, padded);
    for (int i = 0; i < m && !accumulate; i++) {
        for (int j = 0; j < n; j++) C.f[i * ldc + j] = NAN; // must be overwritten, never read
    }
    amx_begin();
    gemm_bf16(m, n, padded, A.h, lda, B.h, ldb, C.f, ldc, accumulate);
    amx_end();
    gemm_bf16_plain(m, n, padded, A.h, lda, B.h, ldb, twin.f, ldc, accumulate);
    for (size_t i = 0; i < twin.n; i++) twin.d[i] = twin.f[i];
    memcpy(twin.f, C.f, twin.n * sizeof(float));
    assert_close(&twin, k, "C"); // the margin too: it must keep its numbers
    numbers_free(&A), numbers_free(&B), numbers_free(&C), numbers_free(&twin);
}

static void test_shapes(void **state) {
    (void)state;
    skip_where_there_is_none();
    const int m[] = {1, 2, 15, 16, 17, 32, 33, MOST}, n[] = {1, 2, 15, 16, 24, 32, 33, MOST},
              k[] = {1, 31, 32, 100, 192};
    for (size_t a = 0; a < sizeof m / sizeof *m; a++) {
        for (size_t b = 0; b < sizeof n / sizeof *n; b++) {
            for (size_t c = 0; c < sizeof k / sizeof *k; c++) {
                check(m[a], n[b], k[c], false);
                check(m[a], n[b], k[c], true);
            }
        }
    }
}

// B in two places: to the bit the sum of two products.
static void test_joined(void **state) {
    (void)state;
    skip_where_there_is_none();
    enum { N = 40, K = 5 * BF16_STEP };
    Numbers A = numbers_random((size_t)MOST * K, 1), B = numbers_random((size_t)K * N, 2);
    Numbers one = numbers_zero((size_t)MOST * N), two = numbers_zero((size_t)MOST * N);
    numbers_as(&A, ENGINE_BF16), numbers_as(&B, ENGINE_BF16);
    amx_begin();
    for (int k1 = 0; k1 <= K; k1 += BF16_STEP) { // the rest first in memory
        const uint16_t *rest = B.h, *first = B.h + (size_t)(K - k1) * N;
        gemm_bf16(MOST, N, k1, A.h, K, first, N, two.f, N, false);
        gemm_bf16(MOST, N, K - k1, A.h + k1, K, rest, N, two.f, N, true);
        gemm_bf16_joined(MOST, N, K, A.h, K, first, N, k1, rest, one.f, N, false);
        assert_memory_equal(one.f, two.f, (size_t)(MOST * N) * sizeof(float));
    }
    amx_end();
    numbers_free(&A), numbers_free(&B), numbers_free(&one), numbers_free(&two);
}

// B in panels: to the bit what it gives lying in rows, for whatever part of its rows.
static void test_panels(void **state) {
    (void)state;
    skip_where_there_is_none();
    enum { N = 2 * BF16_PANEL + 44, STEPS = 3, K = STEPS * BF16_STEP, COUNT = MOST * N };
    Numbers A = numbers_random((size_t)MOST * K, 1), B = numbers_random((size_t)K * N, 2);
    Numbers panels = numbers_zero((size_t)K * N), rows = numbers_random(COUNT, 3), found = numbers_random(COUNT, 3);
    numbers_as(&A, ENGINE_BF16), numbers_as(&B, ENGINE_BF16);
    for (int pair = 0; pair < K / 2; pair++) {
        for (int j = 0; j < N; j++) {
            const int first = j / BF16_PANEL * BF16_PANEL, width = tile_min(BF16_PANEL, N - first);
            memcpy(panels.h + first * K + 2 * (pair * width + j - first), B.h + 2 * (pair * N + j), 2 * sizeof *B.h);
        }
    }
    amx_begin();
    for (int i = 0; i < STEPS; i++) {
        const int first = i * BF16_STEP, k = K - first;
        gemm_bf16(MOST, N, k, A.h + first, K, B.h + first * N, N, rows.f, N, i % 2 == 0);
        gemm_bf16_panels(MOST, N, k, A.h + first, K, panels.h, K, first, found.f, N, i % 2 == 0);
        assert_memory_equal(found.f, rows.f, COUNT * sizeof(float));
    }
    amx_end();
    numbers_free(&A), numbers_free(&B), numbers_free(&panels), numbers_free(&rows), numbers_free(&found);
}

// A row's product is the same, to the bit, wherever it stands and however many there are.
static void test_rows_keep_their_bits(void **state) {
    (void)state;
    skip_where_there_is_none();
    enum { N = 40, K = 96 };
    Numbers A = numbers_random((size_t)MOST * K, 1), B = numbers_random((size_t)K * N, 2);
    Numbers alone = numbers_zero((size_t)MOST * N), together = numbers_zero((size_t)MOST * N);
    numbers_as(&A, ENGINE_BF16), numbers_as(&B, ENGINE_BF16);
    amx_begin();
    for (int i = 0; i < MOST; i++) gemm_bf16(1, N, K, A.h + i * K, K, B.h, N, alone.f + i * N, N, false);
    for (int m = 2; m <= MOST; m += 17) {
        gemm_bf16(m, N, K, A.h, K, B.h, N, together.f, N, false);
        assert_memory_equal(together.f, alone.f, (size_t)(m * N) * sizeof(float));
    }
    amx_end();
    numbers_free(&A), numbers_free(&B), numbers_free(&alone), numbers_free(&together);
}

// The plain twin itself, in double.
static void test_twin(void **state) {
    (void)state;
    enum { M = 5, N = 9, K = 32 };
    Numbers A = numbers_random((size_t)M * K, 1), B = numbers_random((size_t)K * N, 2), C = numbers_zero((size_t)M * N);
    numbers_as(&A, ENGINE_BF16), numbers_as(&B, ENGINE_BF16);
    gemm_bf16_plain(M, N, K, A.h, K, B.h, N, C.f, N, false);
    for (int i = 0; i < M; i++) {
        for (int j = 0; j < N; j++) {
            for (int l = 0; l < K; l++) C.d[i * N + j] += A.d[i * K + l] * B.d[2 * (l / 2 * N + j) + l % 2];
        }
    }
    assert_close(&C, K, "C");
    numbers_free(&A), numbers_free(&B), numbers_free(&C);
}

// fp32 can always be asked for; what is unknown is refused.
static void test_choice(void **state) {
    (void)state;
    KinditContext ctx = {0};
    char kept[16];
    const char *before = getenv("KINDIT_BF16");
    snprintf(kept, sizeof kept, "%s", before ? before : "");
    setenv("KINDIT_BF16", "fp32", 1);
    assert_int_equal(gemm_bf16_choose(&ctx), KINDIT_OK);
    assert_false(gemm_bf16_is_native());
    setenv("KINDIT_BF16", "abacus", 1);
    assert_int_equal(gemm_bf16_choose(&ctx), KINDIT_ERROR_ARGUMENT);
    assert_non_null(strstr(ctx.message, "'abacus'"));
    setenv("KINDIT_BF16", kept, 1); // empty is as good as unset
    assert_int_equal(gemm_bf16_choose(&ctx), KINDIT_OK);
}

static int choose(void **state) {
    (void)state;
    KinditContext ctx = {0};
    return gemm_bf16_choose(&ctx) ? -1 : 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shapes), cmocka_unit_test(test_joined),
        cmocka_unit_test(test_panels), cmocka_unit_test(test_rows_keep_their_bits),
        cmocka_unit_test(test_twin),   cmocka_unit_test(test_choice),
    };
    return cmocka_run_group_tests(tests, choose, NULL);
}
