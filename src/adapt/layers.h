// Runs of the methods of layers, which start with some of the base's blocks.
#ifndef ADAPT_LAYERS_H
#define ADAPT_LAYERS_H

#include "adapt/adapt.h"
#include "adapt/block_map.h"

// train_run of this job of the plan. A new run chooses its blocks first, and its record says which they are; one that
// is resumed goes by its record. Of laptop the base is there to the end, and teaches.
KinditStatus layers_run(KinditContext *ctx, Engine *engine, const AdaptPlan *plan, const TrainJob *job, const char *run,
                        bool resume, TrainResult *result);

#endif
