// A checkpoint: the folder checkpoints/step-N, complete or absent (written as step-N.tmp, synced, renamed).
//   config.json, model.safetensors       EMA weights and frozen ones: itself a loadable model
//   weights.safetensors                  the weights in training, frozen ones excepted
//   m, v, ema .safetensors               the optimiser's vectors, under the names of the weights they belong to
//   state.safetensors                    step (1), tailor_steps (n_classes), tailor_last (n_classes), int64
//   run.json                             the run's record
#ifndef TRAIN_CHECKPOINT_H
#define TRAIN_CHECKPOINT_H

#include "model/model_file.h"
#include "train/optimizer.h"

// Writes checkpoint optimizer->step, unless it is there: a run is a function of its record, so it would be the same.
// `record` is what run.json holds; its "settings" become "training" in the model's config. On failure nothing is left.
KinditStatus checkpoint_write(KinditContext *ctx, const char *run, const Model *model, const Optimizer *optimizer,
                              const cJSON *record);
// Restores weights and optimiser of checkpoint `step` into a model and optimiser of the same structure.
KinditStatus checkpoint_read(KinditContext *ctx, const char *run, int64_t step, Model *model, Optimizer *optimizer);
// Removes all but the newest `keep` (0: none of them), and leftovers of interrupted writes and removals.
KinditStatus checkpoint_prune(KinditContext *ctx, const char *run, int keep);

#endif
