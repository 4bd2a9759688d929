// Fine-tuning (the paper's Section 3.4 and what it is compared with): a base model goes on to learn the classes of
// another data set, by one of the methods of adapt_methods.h. Whatever the base has that the new model has too, by
// name, is where it starts: all but the classes, whose label rows and tailors are fresh.
#ifndef ADAPT_ADAPT_H
#define ADAPT_ADAPT_H

#include "adapt/adapt_methods.h"
#include "train/trainer.h"

typedef struct AdaptSettings {
    const char *base;         // what model_open takes
    const char *method;       // name of an AdaptMethod
    const char *tailors_from; // classes of the base, comma-separated: class i of the data starts with a copy of the
                              // tailor, label row included, of the i-th of them modulo their number; NULL: fresh ones
    int n_tailor;             // N_T of the new tailors; 0: as many components as the base's
} AdaptSettings;

// A run to be started, or to go on.
typedef struct AdaptPlan {
    const AdaptMethod *method;
    DitConfig config; // of the model to be trained
    TrainSettings
        train;       // what the method and the base's noise schedule ask for, or the run's; the caller may change it
    char data[1024]; // the run's data set
    cJSON *record;   // "adapt" of run.json: method, path (the base), tailors_from; with a frozen learngene also
                     // "learngene", the config that its file has when the base is decomposed
} AdaptPlan;

// An argument error when the method cannot adapt a model of this structure, or there cannot be such tailors; the
// message says what to do. settings->base stands for the model.
KinditStatus adapt_check_base(KinditContext *ctx, const AdaptMethod *method, const DitConfig *base,
                              const AdaptSettings *settings);

// Holds the base, of which headers alone are read, against method and data set. Argument errors: a base that the method
// cannot adapt, images of another size or number of channels, classes to start from that the base lacks.
KinditStatus adapt_plan_new(AdaptPlan *out, KinditContext *ctx, const AdaptSettings *settings, const char *data);
// What the record of a run says; what is set in `settings` (fields may be NULL or 0) is taken instead, so that
// adapt_run refuses what a run cannot change. The base may be gone once there is a checkpoint.
KinditStatus adapt_plan_resumed(AdaptPlan *out, KinditContext *ctx, const AdaptSettings *settings, const char *run);
void adapt_plan_close(AdaptPlan *plan);

// train_run of the plan.
KinditStatus adapt_run(KinditContext *ctx, Engine *engine, const AdaptPlan *plan, const char *run, bool resume,
                       TrainResult *result);

#endif
