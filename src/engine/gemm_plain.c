#include "engine/gemm_plain.h"

#include <string.h>

#include "engine/simd.h"
#include "engine/tile.h"

#ifdef __clang__
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

// Any processor: vectors of 4 floats; as many of them as leave registers for B and A.
#define TILE(name) name##_any
#define TILE_TARGET
#define TILE_LANES 4
#define TILE_ROWS 6
#ifdef __aarch64__
#define TILE_VECTORS 4
#else
#define TILE_VECTORS 2
#endif
#include "engine/gemm_plain.inc"

#ifdef __x86_64__
#define TILE(name) name##_avx2
#define TILE_TARGET __attribute__((target("avx2,fma")))
#define TILE_LANES 8
#define TILE_ROWS 6
#define TILE_VECTORS 2
#include "engine/gemm_plain.inc"

#define TILE(name) name##_avx512
#ifdef __clang__ // each says in its own way that vectors of 512 bits are wanted whole
#define TILE_TARGET __attribute__((target("avx512f,avx512vl"), min_vector_width(512)))
#else
#define TILE_TARGET __attribute__((target("avx512f,avx512vl,prefer-vector-width=512")))
#endif
#define TILE_LANES 16
#define TILE_ROWS 6 // they read half of what 12 rows of 2 vectors do: a core's other half is often a neighbour's
#define TILE_VECTORS 4
#include "engine/gemm_plain.inc"

static bool has_avx512(void) {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl");
}

static bool has_avx2(void) {
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}
#endif

void gemm_plain(int m, int n, int k, const float *A, size_t row, size_t column, const float *B, size_t ldb, float *C,
                size_t ldc, bool accumulate) {
#ifdef __x86_64__
    if (has_avx512()) {
        multiply_avx512(m, n, k, A, row, column, B, ldb, C, ldc, accumulate);
        return;
    }
    if (has_avx2()) {
        multiply_avx2(m, n, k, A, row, column, B, ldb, C, ldc, accumulate);
        return;
    }
#endif
    multiply_any(m, n, k, A, row, column, B, ldb, C, ldc, accumulate);
}

int gemm_plain_columns(void) {
#ifdef __x86_64__
    if (has_avx512()) return 64;
#endif
    return 32;
}

const char *gemm_plain_vectors(void) {
#if defined(__x86_64__)
    return has_avx512() ? "AVX-512" : has_avx2() ? "AVX2" : "SSE2";
#elif defined(__aarch64__)
    return "NEON";
#else
    return "scalar";
#endif
}
