// exp and what follows from it, in C that compilers turn into vector code (no calls, branches or table look-ups).
#ifndef ENGINE_FASTMATH_H
#define ENGINE_FASTMATH_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "engine/simd.h"

// Bounds on the relative error for |x| <= 87.
#define FAST_EXP_ERROR 1e-7
#define FAST_SIGMOID_ERROR 2e-7

// e^x with a relative error below FAST_EXP_ERROR for |x| <= 87; beyond, e^87 or e^-87 (neither infinity nor a
// denormal). NaN stays NaN. x = n ln 2 + r with |r| <= ln 2 / 2, then e^r by a minimax polynomial (Cephes expf) and 2^n
// through the exponent bits.
ENGINE_INLINE float fast_exp(float x) {
    // One limit for both signs: clamped to a constant, a branch that skips the rest would be worth taking to a
    // compiler.
    float size = fabsf(x);
    x = copysignf(size > 87.0f ? 87.0f : size, x);
    // Adding 1.5 * 2^23 rounds to an integer and leaves it in the low bits: no conversion, hence nothing undefined for
    // NaN.
    const float magic = 12582912.0f;
    float shifted = x * 1.44269504f + magic;
    float n = shifted - magic;
    float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = (p * r) * r + r + 1.0f;
    uint32_t bits;
    memcpy(&bits, &shifted, sizeof bits);
    bits = (bits - 0x4B400000u + 127u) << 23;
    float power;
    memcpy(&power, &bits, sizeof power);
    return p * power;
}

// 1 / (1 + e^-x)
ENGINE_INLINE float fast_sigmoid(float x) {
    return 1.0f / (1.0f + fast_exp(-x));
}

// GELU's tanh form through the logistic function, 0.5 x (1 + tanh u) = x sigmoid(2u) with 2u = a (x + b x^3): this
// keeps a small relative error in the tails too: below 3e-6 for x > -5 (the rounding of 2u, which the exponential
// magnifies), 2e-7 of max(1, |y|) everywhere.
#define FAST_GELU_A 1.5957691216f // 2 sqrt(2 / pi)
#define FAST_GELU_B 0.044715f

ENGINE_INLINE float fast_gelu(float x) {
    return x * fast_sigmoid(FAST_GELU_A * (x + FAST_GELU_B * x * x * x));
}

// d gelu / dx; 1 - sigmoid is written as e^-x sigmoid, which does not cancel.
ENGINE_INLINE float fast_gelu_slope(float x) {
    float square = x * x;
    float e = fast_exp(-FAST_GELU_A * (x + FAST_GELU_B * square * x)), s = 1.0f / (1.0f + e);
    return s + x * s * (e * s) * FAST_GELU_A * (1.0f + 3.0f * FAST_GELU_B * square);
}

#endif
