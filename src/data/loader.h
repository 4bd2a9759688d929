// Batches of a split, endlessly: epoch e is a permutation keyed by (seed, e). Sample number k of a run is a pure
// function of (seed, k), so resuming needs nothing but k.
#ifndef DATA_LOADER_H
#define DATA_LOADER_H

#include "data/dataset.h"
#include "engine/engine.h"

typedef struct Loader {
    const Dataset *dataset;
    DatasetSplit split;
    uint64_t seed;
    int shift;       // each image is moved by up to so many pixels in each direction; 0, as created: none is
    int64_t epoch;   // of the permutation now held, -1 none
    uint32_t *order; // [split.count]
    uint8_t *pixels; // staging for one batch
    float *latents;
} Loader;

KinditStatus loader_create(Loader *out, KinditContext *ctx, const Dataset *dataset, DatasetSplit split, uint64_t seed,
                           int max_batch);
void loader_close(Loader *loader);
// Samples first .. first + n - 1 of the run: x (n, C, S, S) engine memory in [-1, 1], labels (n) host. What an image
// that is moved leaves free takes the nearest of its pixels; latents are not moved.
void loader_read(Loader *loader, Engine *engine, int64_t first, int n, float *x, int *labels);

#endif
