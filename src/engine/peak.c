// The machine: its vectors, and its own limits, measured now: what the speed of the kernels is a fraction of.
#include "base/clock.h"
#include "engine/amx.h"
#include "engine/gemm_bf16.h"
#include "engine/internal.h"
#include "engine/simd.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

// ---- vectors -------------------------------------------------------------------------------------------------------

const char *engine_vectors(void) {
#if defined(ENGINE_HAS_CLONES)
    return __builtin_cpu_supports("x86-64-v4")   ? "x86-64-v4"
           : __builtin_cpu_supports("x86-64-v3") ? "x86-64-v3"
                                                 : "x86-64";
#elif defined(__AVX512VL__)
    return "x86-64-v4";
#elif defined(__AVX2__)
    return "x86-64-v3";
#elif defined(__x86_64__)
    return "x86-64";
#elif defined(__ARM_NEON)
    return "NEON";
#else
    return "scalar";
#endif
}

// ---- arithmetic ----------------------------------------------------------------------------------------------------

// A loop of independent fused multiply-adds, enough of them in flight to hide their latency. Returns a value that
// depends on all of them; *flops receives the work done.

enum { CHAINS = 12, STEPS = 200000 };

typedef float (*PeakLoop)(double *flops);

static float peak_portable(double *flops) {
    enum { LANES = 4 };
    float sum[CHAINS][LANES] = {{0}};
    volatile float one = 1.0F;
    float scale = one * 0.999F, shift = one * 0.001F;
    for (int step = 0; step < STEPS; step++) {
        for (int i = 0; i < CHAINS; i++) {
            for (int j = 0; j < LANES; j++) sum[i][j] = sum[i][j] * scale + shift;
        }
    }
    float total = 0;
    for (int i = 0; i < CHAINS; i++) {
        for (int j = 0; j < LANES; j++) total += sum[i][j];
    }
    *flops = 2.0 * CHAINS * LANES * STEPS;
    return total;
}

#if defined(__x86_64__)
__attribute__((target("avx2,fma"))) static float peak_avx2(double *flops) {
    __m256 sum[CHAINS], total = _mm256_setzero_ps();
    const __m256 scale = _mm256_set1_ps(0.999F), shift = _mm256_set1_ps(0.001F);
    for (int i = 0; i < CHAINS; i++) sum[i] = total;
    for (int step = 0; step < STEPS; step++) {
        for (int i = 0; i < CHAINS; i++) sum[i] = _mm256_fmadd_ps(sum[i], scale, shift);
    }
    for (int i = 0; i < CHAINS; i++) total = _mm256_add_ps(total, sum[i]);
    *flops = 2.0 * CHAINS * 8 * STEPS;
    return _mm256_cvtss_f32(total);
}

__attribute__((target("avx512f"))) static float peak_avx512(double *flops) {
    __m512 sum[CHAINS], total = _mm512_setzero_ps();
    const __m512 scale = _mm512_set1_ps(0.999F), shift = _mm512_set1_ps(0.001F);
    for (int i = 0; i < CHAINS; i++) sum[i] = total;
    for (int step = 0; step < STEPS; step++) {
        for (int i = 0; i < CHAINS; i++) sum[i] = _mm512_fmadd_ps(sum[i], scale, shift);
    }
    for (int i = 0; i < CHAINS; i++) total = _mm512_add_ps(total, sum[i]);
    *flops = 2.0 * CHAINS * 16 * STEPS;
    return _mm512_cvtss_f32(total);
}
#endif

static PeakLoop choose_loop(EngineType type) {
    if (type == ENGINE_BF16 && gemm_bf16_is_native()) return amx_peak_bf16;
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx512f")) return peak_avx512;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return peak_avx2;
#endif
    return peak_portable;
}

double engine_measure_peak(Engine *engine, EngineType type) {
    enum { ROUNDS = 20 };
    PeakLoop loop = choose_loop(type);
    volatile float sink; // keeps the loops from being dropped
    double best = 0;
    for (int round = 0; round < ROUNDS; round++) {
        double total = 0, begin = clock_seconds();
        float values = 0;
#pragma omp parallel num_threads(engine->threads) reduction(+ : total, values)
        {
            double flops = 0;
            values += loop(&flops);
            total += flops;
        }
        sink = values;
        double speed = total / (clock_seconds() - begin);
        if (speed > best) best = speed;
    }
    (void)sink;
    return best;
}

// ---- memory --------------------------------------------------------------------------------------------------------

double engine_measure_bandwidth(Engine *engine) {
    enum { ROUNDS = 5, LENGTH = 16 << 20, PARTS = 1024 }; // three arrays of 64 MiB: beyond the caches
    float *a = NULL, *b = NULL, *c = NULL;
    double best = 0;
    if (engine_alloc(engine, LENGTH, &a) || engine_alloc(engine, LENGTH, &b) || engine_alloc(engine, LENGTH, &c)) {
        goto done;
    }
    engine_zero(engine, b, LENGTH); // memory that was never written is one page of zeros, which stays in cache
    engine_zero(engine, c, LENGTH);
    for (int round = 0; round < ROUNDS; round++) {
        double begin = clock_seconds();
#pragma omp parallel for num_threads(engine->threads) schedule(static)
        for (int part = 0; part < PARTS; part++) {
            enum { SIZE = LENGTH / PARTS };
            const size_t first = (size_t)part * SIZE;
            for (size_t i = first; i < first + SIZE; i++) a[i] = b[i] + 0.5F * c[i];
        }
        double speed = 3.0 * sizeof(float) * LENGTH / (clock_seconds() - begin);
        if (speed > best) best = speed;
    }
done:
    engine_free(engine, &a);
    engine_free(engine, &b);
    engine_free(engine, &c);
    return best;
}
