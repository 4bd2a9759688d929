// 1-nearest-neighbour class accuracy in pixel space: is a sample's nearest real image of its own class?
#ifndef METRICS_NEAREST_H
#define METRICS_NEAREST_H

#include "data/dataset.h"
#include "engine/engine.h"

typedef struct NearestResult {
    int64_t n, correct;
    int64_t *per_class_n, *per_class_correct; // [n_classes], owned
    int n_classes;
} NearestResult;

// queries (n, H, W, C) uint8 with labels in the data set's numbering, against the range `reference` of `dataset`;
// squared Euclidean distance, exact, ties to the lower index. Blocked over both; progress through the context.
KinditStatus nearest_measure(NearestResult *out, KinditContext *ctx, Engine *engine, const Dataset *dataset,
                             DatasetSplit reference, int64_t n, const uint8_t *queries, const int *labels);
void nearest_close(NearestResult *result);

#endif
