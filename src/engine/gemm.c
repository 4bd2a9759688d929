// The serial product that every matrix kernel of the engine is made of, and the choice of what computes it: LIBXSMM,
// which compiles a kernel for each shape at its first use (its dispatch is thread-safe and caches per thread), else a
// CBLAS that all threads may call at once, else plain C.
#include <omp.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/gemm_plain.h"
#include "engine/internal.h"
#include "engine/simd.h"
#include "engine/tile.h"

#ifdef KINDIT_HAVE_XSMM
#include <immintrin.h>
#include <libxsmm.h>
#endif
#ifdef KINDIT_HAVE_OPENBLAS
#include <cblas.h>
#endif

// m, n and k are positive.
typedef void (*Multiply)(GemmOp op, int m, int n, int k, const float *A, int lda, const float *B, int ldb, float *C,
                         int ldc, bool accumulate);

typedef struct Backend {
    const char *name, *needs;
    bool (*prepare)(void); // makes it ready; false where it cannot be used
    Multiply multiply;
    int (*columns)(void); // gemm_columns
    void (*describe)(char *out, size_t size);
} Backend;

// ---- plain C -------------------------------------------------------------------------------------------------------

static bool prepare_plain(void) {
    return true;
}

static void multiply_plain(GemmOp op, int m, int n, int k, const float *A, int lda, const float *B, int ldb, float *C,
                           int ldc, bool accumulate) {
    size_t row = op == GEMM_TN ? 1 : (size_t)lda, column = op == GEMM_TN ? (size_t)lda : 1;
    gemm_plain(m, n, k, A, row, column, B, (size_t)ldb, C, (size_t)ldc, accumulate);
}

static void describe_plain(char *out, size_t size) {
    snprintf(out, size, "plain C (%s)", gemm_plain_vectors());
}

// ---- CBLAS ---------------------------------------------------------------------------------------------------------

#ifdef KINDIT_HAVE_OPENBLAS
// Which build of OpenBLAS runs is a matter of the system's alternatives. The one without threads gives wrong results
// when several threads call it at once; the one with its own threads must leave them alone.
static bool prepare_cblas(void) {
    if (openblas_get_parallel() == OPENBLAS_SEQUENTIAL) return false;
    if (openblas_get_parallel() == OPENBLAS_THREAD) openblas_set_num_threads(1);
    return true;
}

// The build for OpenMP shares a product out unless it finds itself in a parallel region of several threads, or with a
// limit of one: this limit is the calling thread's own.
static void multiply_cblas(GemmOp op, int m, int n, int k, const float *A, int lda, const float *B, int ldb, float *C,
                           int ldc, bool accumulate) {
    int threads = omp_get_max_threads();
    omp_set_num_threads(1);
    cblas_sgemm(CblasRowMajor, op == GEMM_TN ? CblasTrans : CblasNoTrans, CblasNoTrans, m, n, k, 1.0F, A, lda, B, ldb,
                accumulate ? 1.0F : 0.0F, C, ldc);
    omp_set_num_threads(threads);
}

static int columns_cblas(void) {
    return 32; // it packs what it gets
}

static void describe_cblas(char *out, size_t size) {
    char version[32] = "";
    sscanf(openblas_get_config(), "OpenBLAS %31s", version);
    snprintf(out, size, "OpenBLAS %s (%s)", version, openblas_get_corename());
}
#endif

// ---- LIBXSMM -------------------------------------------------------------------------------------------------------

#ifdef KINDIT_HAVE_XSMM
// A product's shape, and where the last kernels lie: LIBXSMM's own look-up takes as long as a tenth of a small product.
typedef struct XsmmShape {
    int32_t m, n, k, lda, ldb, ldc, op, accumulate;
} XsmmShape;

enum { XSMM_RECENT = 64 };
static _Thread_local struct XsmmRecent {
    XsmmShape shape;
    libxsmm_smmfunction kernel;
} xsmm_recent[XSMM_RECENT];

// LIBXSMM is column-major: row-major C = A B is its C^T = B^T A^T, so the operands swap. NULL where it has no kernel.
static libxsmm_smmfunction dispatch_xsmm(XsmmShape s) {
    const uint32_t hash = (uint32_t)(s.m * 31 + s.n * 17 + s.k * 5 + s.lda * 7 + s.ldc * 3 + s.op + s.accumulate * 2);
    struct XsmmRecent *recent = &xsmm_recent[(hash ^ hash >> 6) % XSMM_RECENT];
    if (recent->kernel && memcmp(&recent->shape, &s, sizeof s) == 0) return recent->kernel;
    const float alpha = 1.0F, beta = s.accumulate ? 1.0F : 0.0F;
    const int flags = s.op == GEMM_TN ? LIBXSMM_GEMM_FLAG_TRANS_B : LIBXSMM_GEMM_FLAG_NONE;
    const int prefetch = LIBXSMM_PREFETCH_NONE;
    *recent = (struct XsmmRecent){
        s, libxsmm_smmdispatch(s.n, s.m, s.k, &s.ldb, &s.lda, &s.ldc, &alpha, &beta, &flags, &prefetch)};
    return recent->kernel;
}

// LIBXSMM leaves the upper halves of the vector registers as they are. What is compiled for SSE, which is all but the
// engine's kernels, runs up to ten times slower until they are cleared.
__attribute__((target("avx"))) static void clear_upper_halves(void) {
    _mm256_zeroupper();
}

static void leave_xsmm(void) {
    if (libxsmm_get_target_archid() >= LIBXSMM_X86_AVX) clear_upper_halves();
}

static bool prepare_xsmm(void) {
    libxsmm_init();
    leave_xsmm();
    return dispatch_xsmm((XsmmShape){16, 16, 16, 16, 16, 16, GEMM_NN, false}) &&
           dispatch_xsmm((XsmmShape){16, 16, 16, 16, 16, 16, GEMM_TN, true});
}

// Its kernels for AVX-512 keep one sum an element, except that those of up to 16 columns and 2 to 11 rows keep several.
// They are given one row at a time: what a sample gets must not depend on how many others are in its batch.
static void multiply_xsmm(GemmOp op, int m, int n, int k, const float *A, int lda, const float *B, int ldb, float *C,
                          int ldc, bool accumulate) {
    const bool splits_sums = op == GEMM_NN && n <= 16 && m < 12 && libxsmm_get_target_archid() > LIBXSMM_X86_AVX2;
    const int rows = splits_sums ? 1 : m;
    libxsmm_smmfunction kernel = dispatch_xsmm((XsmmShape){rows, n, k, lda, ldb, ldc, op, accumulate});
    if (!kernel) {
        multiply_plain(op, m, n, k, A, lda, B, ldb, C, ldc, accumulate);
        return;
    }
    for (int i = 0; i < m; i += rows) kernel(B, A + (size_t)i * (size_t)lda, C + (size_t)i * (size_t)ldc);
    leave_xsmm();
}

static int columns_xsmm(void) {
    return libxsmm_get_target_archid() > LIBXSMM_X86_AVX2 ? 64 : 32;
}

static void describe_xsmm(char *out, size_t size) {
    snprintf(out, size, "libxsmm %s (%s)", LIBXSMM_CONFIG_VERSION, libxsmm_get_target_arch());
}
#endif

// ---- the choice ----------------------------------------------------------------------------------------------------

static const Backend backends[] = {
// best first
#ifdef KINDIT_HAVE_XSMM
    {"libxsmm", "a processor it compiles for", prepare_xsmm, multiply_xsmm, columns_xsmm, describe_xsmm},
#endif
#ifdef KINDIT_HAVE_OPENBLAS
    {"cblas", "an OpenBLAS built for threads or OpenMP", prepare_cblas, multiply_cblas, columns_cblas, describe_cblas},
#endif
    {"c", "nothing", prepare_plain, multiply_plain, gemm_plain_columns, describe_plain},
};
enum { N_BACKENDS = sizeof backends / sizeof *backends };

// All engines of a process share it. Plain C until the first of them chooses.
static const Backend *_Atomic chosen = &backends[N_BACKENDS - 1];
static _Atomic bool rows_kept = true; // by the one that is chosen

// Whether a row's product comes out the same, to the bit, wherever it stands and however many there are: what a sample
// gets must not depend on its batch. Most kernels of OpenBLAS for x86 fail this.
static bool keeps_rows(Multiply multiply) {
    enum { M = 24, N = 31, K = 40 }; // 31 columns: every width of register tile has its turn
    float a[M * K], b[K * N], alone[M * N], together[M * N];
    for (uint32_t i = 0; i < M * K; i++) a[i] = (float)(int32_t)(i * 2654435761u) * 0x1p-31F;
    for (uint32_t i = 0; i < K * N; i++) b[i] = (float)(int32_t)(i * 2246822519u) * 0x1p-31F;
    for (int i = 0; i < M; i++) multiply(GEMM_NN, 1, N, K, a + i * K, K, b, N, alone + i * N, N, false);
    for (int m = 2; m <= M; m += 11) {
        multiply(GEMM_NN, m, N, K, a, K, b, N, together, N, false);
        if (memcmp(together, alone, (size_t)m * N * sizeof *alone) != 0) return false;
    }
    return true;
}

static KinditStatus fail_unknown(KinditContext *ctx, const char *wanted) {
    char names[64] = "";
    for (int i = 0; i < N_BACKENDS; i++) {
        size_t length = strlen(names);
        snprintf(names + length, sizeof names - length, "%s%s", i ? ", " : "", backends[i].name);
    }
    return context_fail(ctx, KINDIT_ERROR_ARGUMENT, "KINDIT_GEMM: expected one of %s, found '%s'", names, wanted);
}

KinditStatus gemm_choose(KinditContext *ctx) {
    const char *wanted = getenv("KINDIT_GEMM");
    const bool any = !wanted || !*wanted;
    for (int i = 0; i < N_BACKENDS; i++) {
        const Backend *backend = &backends[i];
        if (!any && strcmp(wanted, backend->name) != 0) continue;
        const bool ready = backend->prepare(), kept = ready && keeps_rows(backend->multiply);
        if (kept || (ready && !any)) {
            atomic_store(&chosen, backend);
            atomic_store(&rows_kept, kept);
            return KINDIT_OK;
        }
        if (!any) {
            return context_fail(ctx, KINDIT_ERROR_ARGUMENT,
                                "KINDIT_GEMM=%s: this needs %s; leave it unset to have the best that works here",
                                wanted, backend->needs);
        }
    }
    return fail_unknown(ctx, wanted);
}

bool gemm_keeps_rows(void) {
    return atomic_load_explicit(&rows_kept, memory_order_relaxed);
}

int gemm_columns(void) {
    return atomic_load_explicit(&chosen, memory_order_relaxed)->columns();
}

void gemm_describe(char *out, size_t size) {
    atomic_load(&chosen)->describe(out, size);
}

// ---- products ------------------------------------------------------------------------------------------------------

void gemm_tile(GemmOp op, int m, int n, int k, const float *A, int lda, const float *B, int ldb, float *C, int ldc,
               bool accumulate) {
    if (m <= 0 || n <= 0) return;
    if (k <= 0) {
        for (int i = 0; i < m && !accumulate; i++) {
            for (int j = 0; j < n; j++) C[(size_t)i * (size_t)ldc + (size_t)j] = 0.0F;
        }
        return;
    }
    atomic_load_explicit(&chosen, memory_order_relaxed)->multiply(op, m, n, k, A, lda, B, ldb, C, ldc, accumulate);
}

void gemm_wide(GemmOp op, int m, int n, int k, const float *A, int lda, const float *B, int ldb, float *C, int ldc,
               bool accumulate) {
    const int columns = gemm_columns();
    for (int j = 0; j < n; j += columns) {
        gemm_tile(op, m, tile_min(columns, n - j), k, A, lda, B + j, ldb, C + j, ldc, accumulate);
    }
}

// Four rows of four, transposed in vector registers.
ENGINE_INLINE void transpose_square(const float *from, size_t from_stride, float *to, size_t to_stride) {
    typedef float Row __attribute__((vector_size(4 * sizeof(float))));
    Row x[4], y[4];
    for (size_t i = 0; i < 4; i++) memcpy(&x[i], from + i * from_stride, sizeof(Row));
    const Row low01 = __builtin_shufflevector(x[0], x[1], 0, 4, 1, 5);
    const Row low23 = __builtin_shufflevector(x[2], x[3], 0, 4, 1, 5);
    const Row high01 = __builtin_shufflevector(x[0], x[1], 2, 6, 3, 7);
    const Row high23 = __builtin_shufflevector(x[2], x[3], 2, 6, 3, 7);
    y[0] = __builtin_shufflevector(low01, low23, 0, 1, 4, 5);
    y[1] = __builtin_shufflevector(low01, low23, 2, 3, 6, 7);
    y[2] = __builtin_shufflevector(high01, high23, 0, 1, 4, 5);
    y[3] = __builtin_shufflevector(high01, high23, 2, 3, 6, 7);
    for (size_t i = 0; i < 4; i++) memcpy(to + i * to_stride, &y[i], sizeof(Row));
}

ENGINE_CLONES
void gemm_transpose(int rows, int columns, const float *from, int from_stride, float *to, int to_stride) {
    enum { BLOCK = 8 }; // so many source rows at once: their cache lines are used up before they leave the cache
    const size_t in = (size_t)from_stride, out = (size_t)to_stride;
    const int whole_rows = rows - rows % 4, whole_columns = columns - columns % 4;
    for (int r0 = 0; r0 < whole_rows; r0 += BLOCK) {
        for (int c = 0; c < whole_columns; c += 4) {
            for (int r = r0; r < tile_min(r0 + BLOCK, whole_rows); r += 4) {
                transpose_square(from + (size_t)r * in + c, in, to + (size_t)c * out + r, out);
            }
        }
    }
    for (int r = 0; r < rows; r++) { // what the squares leave
        for (int c = r < whole_rows ? whole_columns : 0; c < columns; c++) {
            to[(size_t)c * out + (size_t)r] = from[(size_t)r * in + (size_t)c];
        }
    }
}
