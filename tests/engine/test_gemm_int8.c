// Products of 8-bit integers by the processor's own instructions against their plain twin: every tail of the tiles,
// strides beyond the width, and nothing written outside. Skipped where the processor has none.
#include <stdio.h>

#include "matrices.h"

#include "engine/gemm_int8.h"
#include "engine/tile.h"

enum { MARGIN = 3, MOST = 70 };

static void skip_where_there_is_none(void) {
    if (!gemm_int8_is_native()) skip();
}

// An operand with memory of its own: n bytes, and a scale for each row or column.
typedef struct Bytes {
    int8_t *q;
    Numbers scale;
} Bytes;

// -127 .. 127 and, among them, many of the extremes.
static Bytes bytes_random(size_t n, int scales, uint64_t stream) {
    Numbers x = numbers_random(n, stream);
    Bytes bytes = {.scale = numbers_random((size_t)scales, stream + 100)};
    assert_int_equal(memory_alloc(NULL, n, 1, &bytes.q), KINDIT_OK);
    for (size_t i = 0; i < n; i++) {
        float value = 200 * x.f[i];
        bytes.q[i] = (int8_t)(value < -127 ? -127 : value > 127 ? 127 : value);
    }
    numbers_free(&x);
    return bytes;
}

static void bytes_free(Bytes *bytes) {
    memory_free(&bytes->q);
    numbers_free(&bytes->scale);
}

static Int8Operand operand_of(const Bytes *bytes, int ld) {
    return (Int8Operand){bytes->q, ld, bytes->scale.f};
}

// Sums are exact; their scaling and the addition to C round each once in either, or the addition once in all.
static void check(int m, int n, int k, bool accumulate) {
    const int padded = tile_round(k, INT8_STEP), lda = padded + MARGIN, ldb = n + MARGIN, ldc = n + MARGIN;
    Bytes A = bytes_random((size_t)lda * (size_t)m, m, 1);
    Bytes B = bytes_random((size_t)ldb * (size_t)padded, n, 2);
    Numbers C = numbers_random((size_t)(ldc * m), 3), twin = numbers_random((size_t)(ldc * m), 3);
    memset(B.q + (size_t)ldb * (size_t)k, 0,
           (size_t)ldb * (size_t)(padded - k)); // beyond the last term A holds anything
    for (int i = 0; i < m && !accumulate; i++) {
        for (int j = 0; j < n; j++) C.f[i * ldc + j] = NAN; // must be overwritten, never read
    }
    amx_begin();
    gemm_int8(m, n, k, operand_of(&A, lda), operand_of(&B, ldb), C.f, ldc, accumulate);
    amx_end();
    gemm_int8_plain(m, n, k, operand_of(&A, lda), operand_of(&B, ldb), twin.f, ldc, accumulate);
    for (int i = 0; i < m * ldc; i++) {
        double largest = i % ldc < n ? fabs(C.f[i]) + fabs(twin.f[i]) + fabs(accumulate ? C.d[i] : 0) : 0;
        if (!(fabs((double)C.f[i] - twin.f[i]) <= 2 * FLT_EPSILON * largest)) { // the margin keeps its bits
            fail_msg("(%d, %d, %d) C[%d]: expected %.9g, found %.9g", m, n, k, i, (double)twin.f[i], (double)C.f[i]);
        }
    }
    bytes_free(&A), bytes_free(&B), numbers_free(&C), numbers_free(&twin);
}

static void test_shapes(void **state) {
    (void)state;
    skip_where_there_is_none();
    const int m[] = {1, 2, 7, 8, 9, 16, 17, 32, 33, MOST}, n[] = {1, 2, 15, 16, 17, 24, 32, 33, MOST},
              k[] = {4, 64, 84, 192};
    for (size_t a = 0; a < sizeof m / sizeof *m; a++) {
        for (size_t b = 0; b < sizeof n / sizeof *n; b++) {
            for (size_t c = 0; c < sizeof k / sizeof *k; c++) {
                check(m[a], n[b], k[c], false);
                check(m[a], n[b], k[c], true);
            }
        }
    }
}

// The largest sums there can be, of either sign, come out to the last bit: 127^2 times the terms is below 2^30 in size
// and has a factor that leaves at most 24 bits.
static void test_extremes(void **state) {
    (void)state;
    skip_where_there_is_none();
    enum { M = 3, N = 20, K = INT8_MOST_TERMS };
    int8_t *a, *b;
    float one[N], C[M * N];
    assert_int_equal(memory_alloc(NULL, (size_t)M * K, 1, &a), KINDIT_OK);
    assert_int_equal(memory_alloc(NULL, (size_t)N * K, 1, &b), KINDIT_OK);
    for (int i = 0; i < N; i++) one[i] = 1;
    for (int sign = -1; sign <= 1; sign += 2) {
        memset(a, 127, (size_t)M * K);
        memset(b, sign * 127, (size_t)N * K);
        amx_begin();
        gemm_int8(M, N, K, (Int8Operand){a, K, one}, (Int8Operand){b, N, one}, C, N, false);
        amx_end();
        for (int i = 0; i < M * N; i++) assert_true(C[i] == (float)sign * 127 * 127 * K);
    }
    memory_free(&a), memory_free(&b);
}

// A row's product is the same, to the bit, wherever it stands and however many there are.
static void test_rows_keep_their_bits(void **state) {
    (void)state;
    skip_where_there_is_none();
    enum { N = 40, K = 128 };
    Bytes A = bytes_random((size_t)MOST * K, MOST, 1), B = bytes_random((size_t)N * K, N, 2);
    Numbers alone = numbers_zero((size_t)MOST * N), together = numbers_zero((size_t)MOST * N);
    amx_begin();
    for (int i = 0; i < MOST; i++) {
        Int8Operand row = {A.q + (size_t)i * K, K, A.scale.f + i};
        gemm_int8(1, N, K, row, operand_of(&B, N), alone.f + i * N, N, false);
    }
    for (int m = 2; m <= MOST; m += 17) {
        gemm_int8(m, N, K, operand_of(&A, K), operand_of(&B, N), together.f, N, false);
        assert_memory_equal(together.f, alone.f, (size_t)(m * N) * sizeof(float));
    }
    amx_end();
    bytes_free(&A), bytes_free(&B), numbers_free(&alone), numbers_free(&together);
}

// The plain twin itself, in double: exact but for the roundings of a handful of multiplications.
static void test_twin(void **state) {
    (void)state;
    enum { M = 5, N = 9, K = 64 };
    Bytes A = bytes_random((size_t)M * K, M, 1), B = bytes_random((size_t)N * K, N, 2);
    float C[M * N];
    gemm_int8_plain(M, N, K, operand_of(&A, K), operand_of(&B, N), C, N, false);
    for (int i = 0; i < M; i++) {
        for (int j = 0; j < N; j++) {
            double sum = 0;
            for (int l = 0; l < K; l++) sum += A.q[i * K + l] * B.q[4 * (l / 4 * N + j) + l % 4];
            sum *= A.scale.d[i] * B.scale.d[j];
            assert_true(fabs(C[i * N + j] - sum) <= 2 * FLT_EPSILON * fabs(sum));
        }
    }
    bytes_free(&A), bytes_free(&B);
}

// None can always be asked for; what is unknown is refused.
static void test_choice(void **state) {
    (void)state;
    KinditContext ctx = {0};
    char kept[16];
    const char *before = getenv("KINDIT_INT8");
    snprintf(kept, sizeof kept, "%s", before ? before : "");
    setenv("KINDIT_INT8", "none", 1);
    assert_int_equal(gemm_int8_choose(&ctx), KINDIT_OK);
    assert_false(gemm_int8_is_native());
    setenv("KINDIT_INT8", "abacus", 1);
    assert_int_equal(gemm_int8_choose(&ctx), KINDIT_ERROR_ARGUMENT);
    assert_non_null(strstr(ctx.message, "'abacus'"));
    setenv("KINDIT_INT8", kept, 1); // empty is as good as unset
    assert_int_equal(gemm_int8_choose(&ctx), KINDIT_OK);
}

static int choose(void **state) {
    (void)state;
    KinditContext ctx = {0};
    return gemm_int8_choose(&ctx) ? -1 : 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shapes), cmocka_unit_test(test_extremes), cmocka_unit_test(test_rows_keep_their_bits),
        cmocka_unit_test(test_twin),   cmocka_unit_test(test_choice),
    };
    return cmocka_run_group_tests(tests, choose, NULL);
}
