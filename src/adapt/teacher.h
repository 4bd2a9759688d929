// Normalised feature distillation (LAPTOP-Diff, Zhang et al. 2024): the base, frozen, computes the same batch forward,
// and the new model's stream after each of its blocks is pulled to the base's after the block that it started as. The
// loss is the mean over blocks and samples of || student - teacher ||^2 / || teacher ||^2.
#ifndef ADAPT_TEACHER_H
#define ADAPT_TEACHER_H

#include "adapt/block_map.h"
#include "train/train_step.h"
#include "train/trainer.h"

typedef struct Teacher {
    const Model *base; // borrowed
    DitWorkspace *workspace;
    const float *stream[BLOCK_MAP_MOST];
    float *output;     // (batch, C or 2C, S, S) engine memory
    int *row, *labels; // of each class of the data in the base; of each sample
    TrainGuide guide;  // the trainer's: valid while the teacher stays where it is
} Teacher;

// For batches of settings->batch samples of this data set, of a model whose blocks start as `map` says; fresh ones are
// not taught. On failure nothing is held.
KinditStatus teacher_open(Teacher *out, KinditContext *ctx, const Model *base, const Dataset *dataset,
                          const TrainSettings *settings, const BlockMap *map);
void teacher_close(Teacher *teacher);

#endif
