// Where a run folder keeps its checkpoints: RUN/checkpoints/step-N, each complete or absent (train/checkpoint.h says
// what is in one). The model layer knows it because a run opens as the model of its newest checkpoint.
#ifndef MODEL_MODEL_RUN_H
#define MODEL_MODEL_RUN_H

#include "base/context.h"

// RUN/checkpoints/step-N.
KinditStatus model_run_path(char out[1024], KinditContext *ctx, const char *run, int64_t step);

// The N of "step-N", -1 for any other name: a checkpoint still being written has ".tmp" after it.
int64_t model_run_step(const char *name);

// Calls `visit` with the name and path of each folder among the checkpoints, in no order, until it fails. No folder of
// checkpoints is the same as an empty one.
typedef KinditStatus ModelRunVisit(KinditContext *ctx, const char *name, const char *path, void *data);
KinditStatus model_run_visit(KinditContext *ctx, const char *run, ModelRunVisit *visit, void *data);

// The newest complete checkpoint: its step, or -1 when there is none.
KinditStatus model_run_newest(KinditContext *ctx, const char *run, int64_t *step);

#endif
