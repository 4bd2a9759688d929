// The training loss on images that training never saw, for comparing models: sample k of n has the same image, timestep
// and noise whoever is measured. Images are drawn from the held-out split (each as often as any other, one more or
// less), timesteps are the middles of n equal parts of the schedule, no label is dropped.
#ifndef TRAIN_HELDOUT_H
#define TRAIN_HELDOUT_H

#include "data/dataset.h"

typedef struct HeldoutLoss {
    double mse, vlb; // means over the samples; the loss is their sum. vlb is 0 without learned sigma
} HeldoutLoss;

// Over n >= 1 samples, `batch` at a time. The model's classes are the data set's, in its order, and all of its tailors
// are in memory. Argument errors: another number of classes, images of another shape, no held-out split. Cancellation
// through the context.
KinditStatus heldout_measure(HeldoutLoss *out, Model *model, const Dataset *dataset, int n, int batch);

#endif
