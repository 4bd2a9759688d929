// Runs of the methods of layers, which start with some of the base's blocks.
#ifndef ADAPT_LAYERS_H
#define ADAPT_LAYERS_H

#include "adapt/adapt.h"
#include "adapt/block_map.h"

// *config, of the base but for the new number of classes, becomes that of the model that the method trains: of laptop
// less deep. An argument error: settings that the method does not have, more blocks than there are, a budget smaller
// than a model of one block.
KinditStatus layers_configure(DitConfig *config, KinditContext *ctx, const AdaptSettings *settings,
                              const AdaptMethod *method);
// How many blocks of the base, of this config with the new number of classes, a method of layers keeps.
KinditStatus layers_keep(int *n_keep, KinditContext *ctx, const AdaptSettings *settings, const DitConfig *config);

// Gives `model`, whose weights are fresh (dit_init), the blocks of the base that the record of the run lists, and what
// the base has outside of them: of the label table the null row, and the rows of classes with the same id.
KinditStatus layers_start(const cJSON *record, const Model *base, Model *model);

// train_run of this job of the plan. A new run chooses its blocks first, and its record says which they are; one that
// is resumed goes by its record. Of laptop the base is there to the end, and teaches.
KinditStatus layers_run(KinditContext *ctx, Engine *engine, const AdaptPlan *plan, const TrainJob *job, const char *run,
                        bool resume, TrainResult *result);

#endif
