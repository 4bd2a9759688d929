// Size against quality: `kindit assemble --sweep`.
#ifndef CLI_SWEEP_H
#define CLI_SWEEP_H

#include "kind/assemble.h"

typedef struct SweepSettings {
    const char *folder; // made; receives sweep.csv and sweep.svg
    const char *data;   // the data set whose training images say what class a sample looks like
    int n_per_class;    // samples of each class at each point
    const StorageType *types;
    int n_types;
} SweepSettings;

// Cuts the model down to 8/8 .. 4/8 of its learngene x all, half, quarter, ... of each tailor's components x each type,
// every one written, read and drawn from (DDIM, 25 steps, seed 0), and measures the samples' class accuracy by nearest
// neighbours (metrics/nearest.h). Prints a row as soon as it is known; the files appear at the end.
KinditStatus sweep_run(const Assembly *assembly, const SweepSettings *settings);

#endif
