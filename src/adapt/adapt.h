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
    int keep_blocks;          // blocks of the base that a method of layers starts with; 0: half of them, rounded up
    int64_t budget;           // laptop: parameters of the new model at most, in place of keep_blocks; 0: none
    int64_t pseudo_steps;     // auto-lg: steps of the model that blocks are held against; 0: 500
    AdapterConfig adapter;    // rank, alpha, blocks, cayley_terms; 0: see adapt_configure
    int n_learngene;          // N_G of svd-lora; 0: the usual share of the width
} AdaptSettings;

// A run to be started, or to go on.
typedef struct AdaptPlan {
    const AdaptMethod *method;
    DitConfig config; // of the model to be trained
    TrainSettings
        train;       // what the method and the base's noise schedule ask for, or the run's; the caller may change it
    char data[1024]; // the run's data set
    cJSON *record;   // "adapt" of run.json: method, path (the base), tailors_from; with a frozen learngene also
                     // "learngene", the config that its file has when the base is decomposed; of a method of layers
                     // "keep_blocks", "budget" and "pseudo_steps", and once the run has begun "blocks" (block_map.h)
} AdaptPlan;

// An argument error when the method cannot adapt a model of this structure, or there cannot be such tailors; the
// message says what to do. settings->base stands for the model.
KinditStatus adapt_check_base(KinditContext *ctx, const AdaptMethod *method, const DitConfig *base,
                              const AdaptSettings *settings);

// *config, of the base, becomes that of the model to be trained on n_classes. An argument error: settings that the
// method does not have, more blocks than there are, a budget smaller than a model of one block. An adapter's rank is by
// default what tailors of the usual size would have in all (the base's own, where it has some), at most the width;
// LoHa's half of that; alpha the rank; OFT's number of blocks that which trains no less than LoRA of that rank would,
// or the next lower that divides.
KinditStatus adapt_configure(DitConfig *config, KinditContext *ctx, const AdaptSettings *settings,
                             const AdaptMethod *method, int n_classes);
// What is set replaces what the config has.
void adapt_reconfigure(DitConfig *config, const AdaptSettings *settings);
// The number of OFT's blocks before it is made to divide.
int adapt_blocks(const DitConfig *base, int n_classes);

// Holds the base, of which headers alone are read, against method and data set. Argument errors: a base that the method
// cannot adapt, images of another size or number of channels, classes to start from that the base lacks.
KinditStatus adapt_plan_new(AdaptPlan *out, KinditContext *ctx, const AdaptSettings *settings, const char *data);
// What the record of a run says; what is set in `settings` (fields may be NULL or 0) is taken instead, so that
// adapt_run refuses what a run cannot change. The base may be gone once there is a checkpoint.
KinditStatus adapt_plan_resumed(AdaptPlan *out, KinditContext *ctx, const AdaptSettings *settings, const char *run);
void adapt_plan_close(AdaptPlan *plan);

// train_run of the plan, after choosing blocks where its method does that. Laptop's base must be there to the end.
KinditStatus adapt_run(KinditContext *ctx, Engine *engine, const AdaptPlan *plan, const char *run, bool resume,
                       TrainResult *result);

#endif
