#include "base/rng.h"

#include <Random123/philox.h>
#include <math.h>

// Philox takes a 64-bit key and a 128-bit counter: the key is the seed with the purpose in its top byte (XOR, so that
// purposes of one seed never meet), the counter is (block, step, sample).
void rng_block(RngKey key, uint32_t block, uint32_t out[4]) {
    philox4x32_key_t philox_key = {{(uint32_t)key.seed, (uint32_t)(key.seed >> 32) ^ ((uint32_t)key.purpose << 24)}};
    philox4x32_ctr_t counter = {{block, key.step, (uint32_t)key.sample, (uint32_t)(key.sample >> 32)}};
    philox4x32_ctr_t words = philox4x32_R(10, counter, philox_key);
    for (int i = 0; i < 4; i++) out[i] = words.v[i];
}

static uint32_t rng_word(RngKey key, uint32_t index) {
    uint32_t words[4];
    rng_block(key, index / 4, words);
    return words[index % 4];
}

static float uniform_from_word(uint32_t word) {
    return (float)(word >> 8) * 0x1p-24f;
}

static uint32_t below_from_word(uint32_t word, uint32_t bound) {
    return (uint32_t)(((uint64_t)word * bound) >> 32);
}

uint32_t rng_below(RngKey key, uint32_t index, uint32_t bound) {
    return below_from_word(rng_word(key, index), bound);
}

float rng_uniform(RngKey key, uint32_t index) {
    return uniform_from_word(rng_word(key, index));
}

void rng_fill_uniform(RngKey key, float *out, size_t n) {
    uint32_t words[4];
    for (size_t i = 0; i < n; i += 4) {
        rng_block(key, (uint32_t)(i / 4), words);
        for (size_t j = 0; j < 4 && i + j < n; j++) out[i + j] = uniform_from_word(words[j]);
    }
}

void rng_fill_normal(RngKey key, float *out, size_t n) {
    const double two_pi = 6.283185307179586476925;
    uint32_t words[4];
    for (size_t i = 0; i < n; i += 4) {
        rng_block(key, (uint32_t)(i / 4), words);
        for (size_t j = 0; j < 4 && i + j < n; j += 2) {
            double radius = sqrt(-2.0 * log((words[j] + 0.5) * 0x1p-32)); // the half keeps log away from zero
            double angle = two_pi * (words[j + 1] * 0x1p-32);
            out[i + j] = (float)(radius * cos(angle));
            if (i + j + 1 < n) out[i + j + 1] = (float)(radius * sin(angle));
        }
    }
}

void rng_permute(RngKey key, uint32_t *order, uint32_t n) {
    uint32_t words[4];
    for (uint32_t i = 0; i < n; i++) { // the inside-out form: fills and shuffles in one pass
        if (i % 4 == 0) rng_block(key, i / 4, words);
        uint32_t j = below_from_word(words[i % 4], i + 1);
        if (j != i) order[i] = order[j];
        order[j] = i;
    }
}
