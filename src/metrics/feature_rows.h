// What the metrics measure: vectors of one width, one an image, wherever each lies. A part of a set (a class, another
// order) is a list of pointers to the same vectors.
#ifndef METRICS_FEATURE_ROWS_H
#define METRICS_FEATURE_ROWS_H

#include "base/context.h"

typedef struct FeatureRows {
    int64_t n;
    int width;
    const float *const *row; // [n], each (width)
} FeatureRows;

#endif
