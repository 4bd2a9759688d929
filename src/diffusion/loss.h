// The training loss: mean squared error of epsilon, plus (learned sigma) the variational bound in bits with epsilon
// detached.
#ifndef DIFFUSION_LOSS_H
#define DIFFUSION_LOSS_H

#include "diffusion/schedule.h"
#include "engine/engine.h"

// Coefficient arrays for engine_loss and engine_noise, for up to `capacity` samples.
typedef struct DiffusionBatch {
    int capacity;
    float *sqrt_alpha_bar, *sqrt_one_minus; // (B) x_t = sqrt(abar) x0 + sqrt(1 - abar) eps
    LossTerms terms;                        // points into `block`
    float *block;
    int *is_first;
} DiffusionBatch;

KinditStatus loss_batch_create(DiffusionBatch *out, KinditContext *ctx, int capacity);
void loss_batch_close(DiffusionBatch *batch);
void loss_batch_fill(DiffusionBatch *batch, const Schedule *schedule, const int *t,
                     int n); // t: indices into the schedule

#endif
