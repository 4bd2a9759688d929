// The samples of a run: image, label (or none), timestep and noise, each a function of the run's seed and the sample's
// number. A classifier's are image and label alone.
#ifndef TRAIN_TRAIN_BATCH_H
#define TRAIN_TRAIN_BATCH_H

#include "data/loader.h"
#include "train/trainer.h"

typedef struct TrainBatch {
    Engine *engine;
    const TrainSettings *settings; // borrowed
    Loader loader;
    float *x0, *noise; // (settings->batch, C, S, S) engine memory; without noise: NULL, as are keys and t
    RngKey *keys;      // [batch]
    int *t, *labels;   // [batch] index of the timestep; class, or their number where the label is dropped
} TrainBatch;

// noised: with timesteps, noise and dropped labels, as diffusion has them. On failure nothing is held. The data set
// must outlive it.
KinditStatus train_batch_create(TrainBatch *out, KinditContext *ctx, Engine *engine, const Dataset *dataset,
                                const TrainSettings *settings, bool noised);
void train_batch_close(TrainBatch *batch);
// Samples first .. first + settings->batch - 1 of the run.
void train_batch_read(TrainBatch *batch, int64_t first);

#endif
