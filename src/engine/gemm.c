// The serial product that every matrix kernel of the engine is made of. LIBXSMM compiles a kernel for each shape at its
// first use and keeps it (its dispatch is thread-safe and caches per thread); where it cannot, plain C takes over.
// CBLAS is no choice here: tiles are computed by all threads at once, and not every BLAS build allows that.
#include <stdio.h>

#include "engine/internal.h"
#include "engine/simd.h"
#include "engine/tile.h"

#ifdef KINDIT_HAVE_XSMM
#include <libxsmm.h>
#endif

// C (m, n) = [C +] A B; A(i, l) = A[i * row + l * column], B and C row-major. Register tiles of ROWS x COLUMNS that
// compilers vectorise.
ENGINE_CLONES
static void multiply_plain(int m, int n, int k, const float *A, size_t row, size_t column, const float *B, size_t ldb,
                           float *C, size_t ldc, bool accumulate) {
    enum { ROWS = 4, COLUMNS = 16 };
    for (int i0 = 0; i0 < m; i0 += ROWS) {
        int rows = tile_min(ROWS, m - i0);
        for (int j0 = 0; j0 < n; j0 += COLUMNS) {
            int columns = tile_min(COLUMNS, n - j0);
            float sum[ROWS][COLUMNS] = {{0}};
            for (int l = 0; l < k; l++) {
                const float *b = B + (size_t)l * ldb + j0;
                const float *a = A + (size_t)i0 * row + (size_t)l * column;
                if (rows == ROWS && columns == COLUMNS) {
                    for (int i = 0; i < ROWS; i++) {
                        for (int j = 0; j < COLUMNS; j++) sum[i][j] += a[(size_t)i * row] * b[j];
                    }
                } else {
                    for (int i = 0; i < rows; i++) {
                        for (int j = 0; j < columns; j++) sum[i][j] += a[(size_t)i * row] * b[j];
                    }
                }
            }
            for (int i = 0; i < rows; i++) {
                float *c = C + (size_t)(i0 + i) * ldc + j0;
                for (int j = 0; j < columns; j++) c[j] = accumulate ? c[j] + sum[i][j] : sum[i][j];
            }
        }
    }
}

// False where LIBXSMM has no kernel. It is column-major: row-major C = A B is its C^T = B^T A^T, so the operands swap.
// Its kernels for AVX-512 keep one sum an element, except that those of up to 16 columns and 2 to 11 rows keep several.
// They are given one row at a time: what a sample gets must not depend on how many others are in its batch.
static bool multiply_jit(GemmOp op, int m, int n, int k, const float *A, int lda, const float *B, int ldb, float *C,
                         int ldc, bool accumulate) {
#ifdef KINDIT_HAVE_XSMM
    const float alpha = 1.0F, beta = accumulate ? 1.0F : 0.0F;
    const int flags = op == GEMM_TN ? LIBXSMM_GEMM_FLAG_TRANS_B : LIBXSMM_GEMM_FLAG_NONE;
    const int prefetch = LIBXSMM_PREFETCH_NONE;
    const bool splits_sums = op == GEMM_NN && n <= 16 && m < 12 && libxsmm_get_target_archid() > LIBXSMM_X86_AVX2;
    const int rows = splits_sums ? 1 : m;
    libxsmm_smmfunction kernel = libxsmm_smmdispatch(n, rows, k, &ldb, &lda, &ldc, &alpha, &beta, &flags, &prefetch);
    if (!kernel) return false;
    for (int i = 0; i < m; i += rows) kernel(B, A + (size_t)i * (size_t)lda, C + (size_t)i * (size_t)ldc);
    return true;
#else
    (void)op, (void)m, (void)n, (void)k, (void)A, (void)lda, (void)B, (void)ldb, (void)C, (void)ldc, (void)accumulate;
    return false;
#endif
}

static void multiply(GemmOp op, int m, int n, int k, const float *A, int lda, const float *B, int ldb, float *C,
                     int ldc, bool accumulate) {
    if (multiply_jit(op, m, n, k, A, lda, B, ldb, C, ldc, accumulate)) return;
    size_t row = op == GEMM_TN ? 1 : (size_t)lda, column = op == GEMM_TN ? (size_t)lda : 1;
    multiply_plain(m, n, k, A, row, column, B, (size_t)ldb, C, (size_t)ldc, accumulate);
}

void gemm_tile(GemmOp op, int m, int n, int k, const float *A, int lda, const float *B, int ldb, float *C, int ldc,
               bool accumulate) {
    if (m <= 0 || n <= 0) return;
    if (k <= 0) {
        for (int i = 0; i < m && !accumulate; i++) {
            for (int j = 0; j < n; j++) C[(size_t)i * (size_t)ldc + (size_t)j] = 0.0F;
        }
        return;
    }
    if (op != GEMM_NT) {
        multiply(op, m, n, k, A, lda, B, ldb, C, ldc, accumulate);
        return;
    }
    // Kernels want B by rows: transpose it block by block.
    enum { WIDTH = 64, DEPTH = 128 };
    _Alignas(64) float block[WIDTH * DEPTH];
    for (int j = 0; j < n; j += WIDTH) {
        int width = tile_min(WIDTH, n - j);
        for (int l = 0; l < k; l += DEPTH) {
            int depth = tile_min(DEPTH, k - l);
            gemm_transpose(width, depth, B + (size_t)j * (size_t)ldb + l, ldb, block, width);
            multiply(GEMM_NN, m, width, depth, A + l, lda, block, width, C + j, ldc, accumulate || l > 0);
        }
    }
}

ENGINE_CLONES
void gemm_transpose(int rows, int columns, const float *from, int from_stride, float *to, int to_stride) {
    enum { BLOCK = 8 }; // so many source rows at once: their cache lines are used up before they leave the cache
    for (int r0 = 0; r0 < rows; r0 += BLOCK) {
        int count = tile_min(BLOCK, rows - r0);
        const float *source = from + (size_t)r0 * (size_t)from_stride;
        for (int c = 0; c < columns; c++) {
            float *line = to + (size_t)c * (size_t)to_stride + r0;
            for (int r = 0; r < count; r++) line[r] = source[(size_t)r * (size_t)from_stride + (size_t)c];
        }
    }
}

void gemm_describe(char *out, size_t size) {
#ifdef KINDIT_HAVE_XSMM
    libxsmm_init();
    snprintf(out, size, "libxsmm %s (%s)", LIBXSMM_CONFIG_VERSION, libxsmm_get_target_arch());
#else
    snprintf(out, size, "plain C");
#endif
}
