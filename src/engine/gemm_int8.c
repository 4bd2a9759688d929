#include "engine/gemm_int8.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "engine/amx.h"
#include "engine/simd.h"
#include "engine/tile.h"

static Int8Operand rows_from(Int8Operand A, int row) {
    return (Int8Operand){A.q + (size_t)row * (size_t)A.ld, A.ld, A.scale + row};
}

static Int8Operand columns_from(Int8Operand B, int column) {
    return (Int8Operand){B.q + 4 * (size_t)column, B.ld, B.scale + column};
}

// ---- plain C -------------------------------------------------------------------------------------------------------

static int32_t sum_products(int k, const int8_t *a, const int8_t *b, int ldb) {
    int32_t sum = 0;
    for (int l = 0; l < k; l++) sum += a[l] * b[(size_t)(l / 4) * 4 * (size_t)ldb + (size_t)(l % 4)];
    return sum;
}

void gemm_int8_plain(int m, int n, int k, Int8Operand A, Int8Operand B, float *C, int ldc, bool accumulate) {
    for (int i = 0; i < m; i++) {
        for (int j = 0; j < n; j++) {
            float *c = C + (size_t)i * (size_t)ldc + (size_t)j;
            int32_t sum = sum_products(k, A.q + (size_t)i * (size_t)A.ld, B.q + 4 * (size_t)j, B.ld);
            *c = (accumulate ? *c : 0.0F) + A.scale[i] * B.scale[j] * (float)sum;
        }
    }
}

// ---- AMX -----------------------------------------------------------------------------------------------------------

enum { BLOCK = 32 }; // rows and columns that AMX sums at once: the sums stay in the first-level cache

ENGINE_CLONES
static void scale_sums(int m, int n, const int32_t *sums, const float *row, const float *column, float *C, int ldc,
                       bool accumulate) {
    for (int i = 0; i < m; i++, sums += BLOCK, C += ldc) {
        if (accumulate) {
#pragma omp simd
            for (int j = 0; j < n; j++) C[j] += row[i] * column[j] * (float)sums[j];
        } else {
#pragma omp simd
            for (int j = 0; j < n; j++) C[j] = row[i] * column[j] * (float)sums[j];
        }
    }
}

static void multiply_amx(int m, int n, int k, Int8Operand A, Int8Operand B, float *C, int ldc, bool accumulate) {
    _Alignas(64) int32_t sums[BLOCK * BLOCK];
    for (int j = 0; j < n; j += BLOCK) {
        for (int i = 0; i < m; i += BLOCK) {
            const int rows = tile_min(BLOCK, m - i), columns = tile_min(BLOCK, n - j);
            const Int8Operand a = rows_from(A, i), b = columns_from(B, j);
            amx_multiply_int8(rows, columns, k / INT8_STEP, a.q, a.ld, b.q, b.ld, sums, BLOCK);
            scale_sums(rows, columns, sums, a.scale, b.scale, C + (size_t)i * (size_t)ldc + j, ldc, accumulate);
        }
    }
}

// ---- AVX-512 VNNI --------------------------------------------------------------------------------------------------

#if defined(__x86_64__)
#include <immintrin.h>
#define TARGET_VNNI __attribute__((target("avx512f,avx512bw,avx512vl,avx512vnni")))

static bool prepare_vnni(void) {
    return __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bw");
}

// The instruction wants one operand unsigned: B goes in as b + 128, and what that adds is taken off beforehand.
TARGET_VNNI ENGINE_INLINE __m512i minus_128_sum(int k, const int8_t *a) {
    __m512i sum = _mm512_setzero_si512();
    for (int l = 0; l < k; l += 64) sum = _mm512_dpbusd_epi32(sum, _mm512_set1_epi8(1), _mm512_loadu_si512(a + l));
    return _mm512_set1_epi32(-128 * _mm512_reduce_add_epi32(sum));
}

TARGET_VNNI ENGINE_INLINE __m512i unsigned_quads(__mmask16 mask, const int8_t *b) {
    return _mm512_xor_si512(_mm512_maskz_loadu_epi32(mask, b), _mm512_set1_epi8(-128));
}

TARGET_VNNI ENGINE_INLINE void put_vnni(__m512i sums, float row, const float *column, __mmask16 mask, float *C,
                                        bool accumulate) {
    __m512 scale = _mm512_mul_ps(_mm512_set1_ps(row), _mm512_maskz_loadu_ps(mask, column));
    __m512 y = _mm512_cvtepi32_ps(sums);
    y = accumulate ? _mm512_fmadd_ps(scale, y, _mm512_maskz_loadu_ps(mask, C)) : _mm512_mul_ps(scale, y);
    _mm512_mask_storeu_ps(C, mask, y);
}

// `rows` rows and `vectors` of 16 columns, constants where this is inlined; the last vector's are those of the mask.
TARGET_VNNI ENGINE_INLINE void block_vnni(int rows, int vectors, __mmask16 mask, int k, Int8Operand A, Int8Operand B,
                                          float *C, int ldc, bool accumulate) {
    enum { MOST_ROWS = 8, MOST_VECTORS = 2 };
    __m512i sums[MOST_ROWS][MOST_VECTORS];
    const __mmask16 first = vectors > 1 ? UINT16_MAX : mask;
    const size_t lda = (size_t)A.ld, ldb = 4 * (size_t)B.ld;
#pragma GCC unroll 8
    for (int i = 0; i < rows; i++) sums[i][0] = sums[i][1] = minus_128_sum(k, A.q + (size_t)i * lda);
    for (int l = 0; l < k; l += 4, B.q += ldb) {
        const __m512i low = unsigned_quads(first, B.q);
        const __m512i high = vectors > 1 ? unsigned_quads(mask, B.q + 64) : low;
#pragma GCC unroll 8
        for (int i = 0; i < rows; i++) {
            int32_t quad;
            memcpy(&quad, A.q + (size_t)i * lda + l, sizeof quad);
            sums[i][0] = _mm512_dpbusd_epi32(sums[i][0], low, _mm512_set1_epi32(quad));
            if (vectors > 1) sums[i][1] = _mm512_dpbusd_epi32(sums[i][1], high, _mm512_set1_epi32(quad));
        }
    }
    for (int i = 0; i < rows; i++, C += ldc) {
        put_vnni(sums[i][0], A.scale[i], B.scale, first, C, accumulate);
        if (vectors > 1) put_vnni(sums[i][1], A.scale[i], B.scale + 16, mask, C + 16, accumulate);
    }
}

TARGET_VNNI ENGINE_INLINE void columns_vnni(int vectors, __mmask16 mask, int m, int k, Int8Operand A, Int8Operand B,
                                            float *C, int ldc, bool accumulate) {
    int i = 0;
    for (; i + 8 <= m; i += 8, C += 8 * (size_t)ldc) {
        block_vnni(8, vectors, mask, k, rows_from(A, i), B, C, ldc, accumulate);
    }
    for (; i < m; i++, C += ldc) block_vnni(1, vectors, mask, k, rows_from(A, i), B, C, ldc, accumulate);
}

TARGET_VNNI static void multiply_vnni(int m, int n, int k, Int8Operand A, Int8Operand B, float *C, int ldc,
                                      bool accumulate) {
    for (int j = 0; j < n; j += 32) {
        const int last = tile_min(n - j, 32) - 1; // in the last vector are columns up to this one
        const __mmask16 mask = (__mmask16)((2U << last % 16) - 1);
        if (last < 16) {
            columns_vnni(1, mask, m, k, A, columns_from(B, j), C + j, ldc, accumulate);
        } else {
            columns_vnni(2, mask, m, k, A, columns_from(B, j), C + j, ldc, accumulate);
        }
    }
}
#else
static bool prepare_vnni(void) {
    return false;
}
#define multiply_vnni gemm_int8_plain // never called
#endif

// ---- ARM dot products ----------------------------------------------------------------------------------------------

#if defined(__aarch64__) && defined(__linux__)
#include <arm_neon.h>
#include <asm/hwcap.h>
#include <sys/auxv.h>
#define TARGET_DOTPROD __attribute__((target("arch=armv8.2-a+dotprod")))

static bool prepare_dotprod(void) {
    return getauxval(AT_HWCAP) & HWCAP_ASIMDDP;
}

// `rows` rows, a constant where this is inlined, and 4 columns of each of 4 vectors.
TARGET_DOTPROD ENGINE_INLINE void block_dotprod(int rows, int k, Int8Operand A, Int8Operand B, float *C, int ldc,
                                                bool accumulate) {
    enum { MOST_ROWS = 4, VECTORS = 4 };
    int32x4_t sums[MOST_ROWS][VECTORS];
    for (int i = 0; i < rows; i++) {
        for (int v = 0; v < VECTORS; v++) sums[i][v] = vdupq_n_s32(0);
    }
    for (int l = 0; l < k; l += 4, B.q += 4 * (size_t)B.ld) {
        int8x16_t b[VECTORS];
        for (int v = 0; v < VECTORS; v++) b[v] = vld1q_s8(B.q + 16 * v);
        for (int i = 0; i < rows; i++) {
            int32_t quad;
            memcpy(&quad, A.q + (size_t)i * (size_t)A.ld + l, sizeof quad);
            const int8x16_t a = vreinterpretq_s8_s32(vdupq_n_s32(quad));
            for (int v = 0; v < VECTORS; v++) sums[i][v] = vdotq_s32(sums[i][v], b[v], a);
        }
    }
    for (int i = 0; i < rows; i++, C += ldc) {
        for (int v = 0; v < VECTORS; v++) {
            const float32x4_t scale = vmulq_n_f32(vld1q_f32(B.scale + 4 * v), A.scale[i]);
            const float32x4_t start = accumulate ? vld1q_f32(C + 4 * v) : vdupq_n_f32(0);
            vst1q_f32(C + 4 * v, vfmaq_f32(start, scale, vcvtq_f32_s32(sums[i][v])));
        }
    }
}

TARGET_DOTPROD static void multiply_dotprod(int m, int n, int k, Int8Operand A, Int8Operand B, float *C, int ldc,
                                            bool accumulate) {
    const int whole = n / 16 * 16;
    for (int j = 0; j < whole; j += 16) {
        const Int8Operand b = columns_from(B, j);
        float *c = C + j;
        int i = 0;
        for (; i + 4 <= m; i += 4, c += 4 * (size_t)ldc) block_dotprod(4, k, rows_from(A, i), b, c, ldc, accumulate);
        for (; i < m; i++, c += ldc) block_dotprod(1, k, rows_from(A, i), b, c, ldc, accumulate);
    }
    gemm_int8_plain(m, n - whole, k, A, columns_from(B, whole), C + whole, ldc, accumulate);
}
#else
static bool prepare_dotprod(void) {
    return false;
}
#define multiply_dotprod gemm_int8_plain // never called
#endif

// ---- the choice ----------------------------------------------------------------------------------------------------

typedef struct Backend {
    const char *name, *description;
    bool (*prepare)(void);
    void (*multiply)(int m, int n, int k, Int8Operand A, Int8Operand B, float *C, int ldc, bool accumulate);
} Backend;

static bool prepare_none(void) {
    return true;
}

static const Backend backends[] = {
    {"amx", "AMX", amx_prepare, multiply_amx},
    {"vnni", "AVX-512 VNNI", prepare_vnni, multiply_vnni},
    {"dotprod", "ARM dot products", prepare_dotprod, multiply_dotprod},
    {"none", "none", prepare_none, NULL},
};
enum { N_BACKENDS = sizeof backends / sizeof *backends };

static const Backend *_Atomic chosen = &backends[N_BACKENDS - 1]; // all engines of a process share it

KinditStatus gemm_int8_choose(KinditContext *ctx) {
    const char *wanted = getenv("KINDIT_INT8");
    const bool any = !wanted || !*wanted;
    for (int i = 0; i < N_BACKENDS; i++) {
        if (!any && strcmp(wanted, backends[i].name) != 0) continue;
        if (backends[i].prepare()) {
            atomic_store(&chosen, &backends[i]);
            return KINDIT_OK;
        }
        if (any) continue;
        return context_fail(ctx, KINDIT_ERROR_ARGUMENT,
                            "KINDIT_INT8=%s: this processor or system has no such products; leave it unset to have "
                            "what there is",
                            wanted);
    }
    return context_fail(ctx, KINDIT_ERROR_ARGUMENT, "KINDIT_INT8: expected amx, vnni, dotprod or none, found '%s'",
                        wanted);
}

static const Backend *backend(void) {
    return atomic_load_explicit(&chosen, memory_order_relaxed);
}

bool gemm_int8_is_native(void) {
    return backend()->multiply;
}

const char *gemm_int8_description(void) {
    return backend()->description;
}

void gemm_int8(int m, int n, int k, Int8Operand A, Int8Operand B, float *C, int ldc, bool accumulate) {
    if (m > 0 && n > 0) backend()->multiply(m, n, k, A, B, C, ldc, accumulate);
}
