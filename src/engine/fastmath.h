// exp and what follows from it, in C that compilers turn into vector code (no calls, branches or table look-ups).
#ifndef ENGINE_FASTMATH_H
#define ENGINE_FASTMATH_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "engine/simd.h"

// Bound on the relative error of fast_exp for |x| <= 87.
#define FAST_EXP_ERROR 2.5e-7

// x held to [-87, 87], x = n ln 2 + r with |r| <= ln 2 / 2: returns r, *power = 2^n. NaN gives a *power of NaN.
ENGINE_INLINE float fast_exp_reduce(float x, float *power) {
    const bool nan = x != x;
    // Floats of one sign are ordered as their bits are. Compared as floats, with a constant for a result, a branch that
    // skips the rest would be worth taking to a compiler, and no loop would be vectorised.
    const int32_t highest = 0x42AE0000;  // 87
    const uint32_t lowest = 0xC2AE0000u; // -87, above which lie the negative numbers beyond
    int32_t ordered;
    memcpy(&ordered, &x, sizeof ordered);
    ordered = ordered < highest ? ordered : highest;
    uint32_t bits = (uint32_t)ordered < lowest ? (uint32_t)ordered : lowest;
    memcpy(&x, &bits, sizeof x);
    // Adding 1.5 * 2^23 rounds to an integer and leaves it in the low bits; 127 more makes it the exponent of 2^n.
    const float magic = 12582912.0f + 127.0f;
    const float shifted = x * 1.44269504f + magic, n = shifted - magic;
    memcpy(&bits, &shifted, sizeof bits);
    bits = bits << 23 | -(uint32_t)nan;
    memcpy(power, &bits, sizeof *power);
    return (x - n * 0.693359375f) + n * 2.12194440e-4f; // ln 2 in two parts, of which the first has few bits
}

// e^x with a relative error below FAST_EXP_ERROR for |x| <= 87, exact for 0; beyond, e^87 or e^-87 (neither infinity
// nor a denormal). NaN stays NaN. e^r is 1 + r + r^2 q(r), q the minimax polynomial of degree 3 (error 1.1e-7).
ENGINE_INLINE float fast_exp(float x) {
    float power, r = fast_exp_reduce(x, &power), square = r * r;
    float q = (0.00831252016f * r + 0.0418901568f) * square + (0.166671146f * r + 0.499992315f);
    return (q * square + (r + 1.0f)) * power;
}

// x sigmoid(x) with a relative error below 3e-7 for |x| <= 87, and its slope (error below 3e-7). Slopes write 1 -
// sigmoid as e^-x sigmoid, which does not cancel.
ENGINE_INLINE float fast_silu(float x) {
    return x / (1.0f + fast_exp(-x));
}

ENGINE_INLINE float fast_silu_slope(float x) {
    float e = fast_exp(-x), s = 1.0f / (1.0f + e);
    return s + s * (e * s) * x;
}

// GELU's tanh form through the logistic function, 0.5 x (1 + tanh u) = x sigmoid(2u) with 2u = a (x + b x^3): this
// keeps a small relative error in the tails too: below 3e-6 for x > -5 (the rounding of 2u, which the exponential
// magnifies), 3e-7 of max(1, |y|) everywhere. The slope's error is below 5e-7.
#define FAST_GELU_A 1.5957691216f // 2 sqrt(2 / pi)
#define FAST_GELU_B 0.044715f

ENGINE_INLINE float fast_gelu(float x) {
    return x / (1.0f + fast_exp(x * (-FAST_GELU_A - FAST_GELU_A * FAST_GELU_B * (x * x))));
}

ENGINE_INLINE float fast_gelu_slope(float x) {
    float square = x * x;
    float e = fast_exp(x * (-FAST_GELU_A - FAST_GELU_A * FAST_GELU_B * square)), s = 1.0f / (1.0f + e);
    return s + s * (e * s) * (x * (FAST_GELU_A + 3.0f * FAST_GELU_A * FAST_GELU_B * square));
}

// GELU's exact form, x Phi(x) with Phi the normal distribution, as max(x, 0) - |x| Phi(-|x|), which does not cancel;
// Phi's tail is e^(-x^2 / 2) times a polynomial (Abramowitz and Stegun 1964, 7.1.26: error below 7.5e-8 |x|).
ENGINE_INLINE float fast_gelu_exact(float x) {
    float size = x < 0 ? -x : x, t = 1.0f / (1.0f + 0.23164189f * size); // 0.3275911 / sqrt(2)
    float polynomial =
        ((((1.061405429f * t - 1.453152027f) * t + 1.421413741f) * t - 0.284496736f) * t + 0.254829592f) * t;
    return (x > 0 ? x : 0) - size * (0.5f * polynomial * fast_exp(-0.5f * x * x));
}

#endif
