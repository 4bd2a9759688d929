// Vector code from plain C: one binary for any x86-64, the fast instructions where the processor has them.
#ifndef ENGINE_SIMD_H
#define ENGINE_SIMD_H

#include <stddef.h>

// A function marked ENGINE_CLONES is compiled for AVX-512, for AVX2 + FMA and for the baseline, and the processor picks
// one at load time. Sanitizers are left out: the choice runs before their runtime is up. So are compilers that lack
// these targets (clang): they get the baseline, or what -march says. Notes for those who use it:
// - what it calls is not cloned with it, unless it is inlined: helpers are ENGINE_INLINE;
// - an OpenMP parallel region inside is not cloned either: mark the function for one tile that the region calls.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && __GNUC__ >= 12 &&                               \
    !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define ENGINE_CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#define ENGINE_HAS_CLONES
#else
#define ENGINE_CLONES
#endif

// A loop under `omp simd` that stays scalar (at -O1, under a sanitizer) is slower, not wrong: no reason to stop a
// build.
#ifdef __clang__
#pragma clang diagnostic ignored "-Wpass-failed"
#endif

#define ENGINE_INLINE static inline __attribute__((always_inline))

// Asks memory for so many bytes from `at` on, before their turn: a core goes on meanwhile.
ENGINE_INLINE void simd_fetch(const void *at, size_t bytes) {
    enum { LINE = 64 };
    for (size_t i = 0; i < bytes; i += LINE) __builtin_prefetch((const char *)at + i);
}

#endif
