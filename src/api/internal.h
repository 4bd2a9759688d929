// What the public names stand for.
#ifndef API_INTERNAL_H
#define API_INTERNAL_H

#include "diffusion/sampler.h"
#include "model/model_tailors.h"
#include "train/trainer.h"

struct KinditModel {
    KinditContext *ctx; // borrowed
    Engine *engine;
    Model *model;
};

// The plan for n_per_class images of each of n_classes classes, at most settings->batch at once, as many as the
// context's limit allows; KINDIT_ERROR_MEMORY when it does not allow one, in a message that says what would do.
KinditStatus api_plan_memory(KinditMemoryPlan *out, const KinditModel *model, SamplerSettings *settings, int n_classes,
                             int n_per_class);

// What the public settings say of a run, over what *train holds; an lr or label_dropout below 0 says nothing.
void api_train_settings(TrainSettings *train, const KinditTrainSettings *settings);
// *result (or NULL) from what a run that ended with `status` reached; the model's path when there is one. Returns
// `status`, or what naming the path failed with.
KinditStatus api_train_result(KinditTrainResult *result, KinditContext *ctx, KinditStatus status, const char *run,
                              const TrainResult *reached);

#endif
