// Counter-based random numbers (Philox 4x32-10, Random123): a value is a pure function of its key, so results depend
// neither on thread count nor on what was drawn before, and a resumed run needs no generator state.
#ifndef BASE_RNG_H
#define BASE_RNG_H

#include <stddef.h>
#include <stdint.h>

// What a stream is for; part of the key, so that no two uses ever share numbers.
typedef enum RngPurpose {
    RNG_INIT = 1,      // initial weights: sample = parameter number, step = class + 1 (0: shared)
    RNG_SHUFFLE,       // order of the data set: step = epoch
    RNG_LABEL_DROPOUT, // sample = index in the run's stream of samples
    RNG_TIMESTEP,
    RNG_NOISE,
    RNG_SAMPLE_START, // x_T of sample i
    RNG_SAMPLE_STEP,  // ancestral noise of sample i at sampler step `step`
    RNG_DATA,         // splits and the like
    RNG_TEST,
    RNG_HELDOUT, // noise that held-out images are measured with
    RNG_CHOICE,  // singular vectors of a matrix: sample = its number among the model's
    RNG_SHIFT    // by how many pixels an image is moved: sample = index in the run's stream of samples
} RngPurpose;

typedef struct RngKey {
    uint64_t seed;
    uint64_t sample;
    uint32_t step;
    RngPurpose purpose;
} RngKey;

// The i-th block of four 32-bit words of the stream `key`.
void rng_block(RngKey key, uint32_t block, uint32_t out[4]);

uint32_t rng_below(RngKey key, uint32_t index,
                   uint32_t bound);                      // uniform in 0..bound-1, unbiased to 2^-32 (64-bit multiply)
float rng_uniform(RngKey key, uint32_t index);           // in [0, 1), 24 bits
void rng_fill_uniform(RngKey key, float *out, size_t n); // element i is rng_uniform(key, i)
void rng_fill_normal(RngKey key, float *out, size_t n);  // Box-Muller in double, rounded to float

// order[0..n-1] = a permutation of 0..n-1 (Fisher-Yates).
void rng_permute(RngKey key, uint32_t *order, uint32_t n);

#endif
