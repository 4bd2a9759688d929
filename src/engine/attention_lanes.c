// The work on scores between the products of attention: exponentials are powers of 2.
#include <math.h>
#include <string.h>

#include "base/bf16.h"
#include "engine/attention.h"
#include "engine/simd.h"

#define LN_2 0.693147181F

// Asks for row i of each buffer; next NULL: nothing. Between the vectors of other work, since a core waits for only a
// few dozen cache lines at a time.
ENGINE_INLINE void next_fetch(const NextRows *next, int i) {
    for (int a = 0; next && a < next->count; a++) {
        simd_fetch(next->of[a].first + (size_t)i * next->of[a].stride, next->of[a].bytes);
    }
}

void softmax_start(RunningSoftmax *softmax) {
    for (int l = 0; l < QUERY_TILE; l++) softmax->highest[l] = -INFINITY, softmax->sum[l] = 0;
}

// 2^(x - high) for x <= high, with a relative error below 2e-7 and exact for x = high; where x is lower than
// high - EXP2_RANGE, what it is there: nothing beside the highest, and no denormals. NaN stays NaN. 2^y = 2^n 2^r with
// |r| <= 1/2, the latter by a minimax polynomial.
#define EXP2_RANGE 100.0F
ENGINE_INLINE float exp2_below(float x, float high) {
    float low = high - EXP2_RANGE; // not a constant: one would make compilers branch over all the rest
    float y = (low > x ? low : x) - high;
    const float magic = 12582912.0F; // 1.5 * 2^23: added, it leaves the nearest integer in the low bits
    float shifted = y + magic, r = y - (shifted - magic);
    float p = 1.3264727e-3F;
    p = p * r + 9.6715130e-3F;
    p = p * r + 5.5507336e-2F;
    p = p * r + 2.4022242e-1F;
    p = p * r + 6.9314700e-1F;
    p = p * r + 1.0F;
    uint32_t exponent, bits;
    memcpy(&exponent, &shifted, sizeof exponent);
    memcpy(&bits, &p, sizeof bits);
    bits += exponent << 23;
    memcpy(&p, &bits, sizeof p);
    return p;
}

// log2 x for a normal x > 0, NaN for NaN; error below 1.5e-7 max(1, |log2 x|). x = 2^n m with m from sqrt(1/2) to
// sqrt(2), log m = 2 artanh t with t = (m - 1) / (m + 1).
ENGINE_INLINE float log2_positive(float x) {
    const uint32_t sqrt_half = 0x3F3504F3U, bias = 127;
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    uint32_t exponent = (bits - sqrt_half + (bias << 23)) >> 23;
    bits -= (exponent - bias) << 23;
    float m;
    memcpy(&m, &bits, sizeof m);
    float t = (m - 1.0F) / (m + 1.0F), s = t * t;
    float series = 1.0F + s * (1.0F / 3 + s * (1.0F / 5 + s * (1.0F / 7 + s * (1.0F / 9))));
    return (float)((int)exponent - (int)bias) + 2 * LOG2_E * t * series + (x - x);
}

// Rows of two keys, or of the last one, as fp32 in place or as pairs of bf16.
ENGINE_INLINE void exponentials(bool half, bool both, int lanes, float scale, const float *high, float *row, float *sum,
                                uint32_t *pairs) {
#pragma omp simd
    for (int l = 0; l < lanes; l++) {
        const float even = exp2_below(scale * row[l], high[l]);
        const float odd = both ? exp2_below(scale * row[lanes + l], high[l]) : 0;
        sum[l] += even;
        if (both) sum[l] += odd;
        if (half) {
            pairs[l] = bf16_pair(bf16_from_float(even), bf16_from_float(odd));
        } else {
            row[l] = even;
            if (both) row[lanes + l] = odd;
        }
    }
}

ENGINE_CLONES
void softmax_block(int keys, int lanes, float scale, float *scores, uint16_t *pairs, RunningSoftmax *softmax,
                   const NextRows *next, int first) {
    float *highest = softmax->highest, *sum = softmax->sum, *keep = softmax->keep, high[QUERY_TILE];
#pragma omp simd
    for (int l = 0; l < lanes; l++) keep[l] = scale * highest[l];
    for (int i = 0; i < keys; i++) {
        const float *row = scores + (size_t)i * (size_t)lanes;
#pragma omp simd
        for (int l = 0; l < lanes; l++) highest[l] = row[l] > highest[l] ? row[l] : highest[l];
    }
#pragma omp simd
    for (int l = 0; l < lanes; l++) {
        high[l] = scale * highest[l];
        keep[l] = exp2_below(keep[l], high[l]);
        sum[l] *= keep[l];
    }
    uint32_t *out = (uint32_t *)(void *)pairs;
    for (int i = 0; i < keys; i += 2) {
        float *row = scores + (size_t)i * (size_t)lanes;
        const bool both = i + 1 < keys;
        next_fetch(next, first + i);
        if (both) next_fetch(next, first + i + 1);
        if (out && both) exponentials(true, true, lanes, scale, high, row, sum, out);
        if (out && !both) exponentials(true, false, lanes, scale, high, row, sum, out);
        if (!out && both) exponentials(false, true, lanes, scale, high, row, sum, out);
        if (!out && !both) exponentials(false, false, lanes, scale, high, row, sum, out);
        if (out) out += lanes;
    }
}

ENGINE_CLONES
void softmax_finish(int n, float scale, const RunningSoftmax *softmax, float *inverse, float *lse) {
#pragma omp simd
    for (int i = 0; i < n; i++) {
        inverse[i] = 1.0F / softmax->sum[i];
        lse[i] = scale * softmax->highest[i] + LN_2 * log2_positive(softmax->sum[i]);
    }
}

ENGINE_CLONES
void probability_block(int keys, int lanes, float scale, const float *lse, float *scores, uint16_t *rows,
                       const NextRows *next, int first) {
    for (int i = 0; i < keys; i++) {
        float *row = scores + (size_t)i * (size_t)lanes;
        next_fetch(next, first + i);
#pragma omp simd
        for (int l = 0; l < lanes; l++) row[l] = exp2_below(scale * row[l], lse[l]);
        if (!rows) continue;
#pragma omp simd
        for (int l = 0; l < lanes; l++) rows[i * lanes + l] = bf16_from_float(row[l]);
    }
}

ENGINE_CLONES
void attention_dot_rows(int n, int d, const float *x, const float *y, float *delta) {
    for (int i = 0; i < n; i++, x += d, y += d) {
        float sum = 0;
#pragma omp simd reduction(+ : sum)
        for (int c = 0; c < d; c++) sum += x[c] * y[c];
        delta[i] = sum;
    }
}

// Rows of two keys, or of the last one, as fp32 in place or as bf16, both in rows and in pairs.
ENGINE_INLINE void score_gradients(bool half, bool both, int lanes, float scale, const float *delta,
                                   const float *probabilities, float *gradients, uint16_t *rows, uint32_t *pairs) {
#pragma omp simd
    for (int l = 0; l < lanes; l++) {
        const float even = scale * probabilities[l] * (gradients[l] - delta[l]);
        const float odd = both ? scale * probabilities[lanes + l] * (gradients[lanes + l] - delta[l]) : 0;
        if (half) {
            rows[l] = bf16_from_float(even);
            if (both) rows[lanes + l] = bf16_from_float(odd);
            pairs[l] = bf16_pair(bf16_from_float(even), bf16_from_float(odd));
        } else {
            gradients[l] = even;
            if (both) gradients[lanes + l] = odd;
        }
    }
}

ENGINE_CLONES
void softmax_block_backward(int keys, int lanes, float scale, const float *delta, const float *probabilities,
                            float *gradients, const HalfScores *halves, const NextRows *next, int first) {
    uint16_t *rows = halves ? halves->rows : NULL;
    uint32_t *pairs = halves ? (uint32_t *)(void *)halves->pairs : NULL;
    for (int i = 0; i < keys; i += 2, probabilities += 2 * lanes, gradients += 2 * lanes) {
        const bool both = i + 1 < keys;
        next_fetch(next, first + i);
        if (both) next_fetch(next, first + i + 1);
        if (rows && both) score_gradients(true, true, lanes, scale, delta, probabilities, gradients, rows, pairs);
        if (rows && !both) score_gradients(true, false, lanes, scale, delta, probabilities, gradients, rows, pairs);
        if (!rows && both) score_gradients(false, true, lanes, scale, delta, probabilities, gradients, rows, pairs);
        if (!rows && !both) score_gradients(false, false, lanes, scale, delta, probabilities, gradients, rows, pairs);
        if (rows) rows += 2 * lanes, pairs += lanes;
    }
}
