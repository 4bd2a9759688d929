// What adapting to a task takes, counted without allocating the model; in the accounting of the paper's Table 2.
#ifndef ADAPT_ADAPT_COUNT_H
#define ADAPT_ADAPT_COUNT_H

#include "adapt/adapt.h"

typedef struct AdaptCount {
    int64_t trainable_params;
    double flops_per_image; // 2 a multiply-add, linear layers alone, the tailors of all of the task's classes open;
                            // of an adapter what the paper's program multiplies, which is more than ours
} AdaptCount;

// base: the structure of the model to adapt, which the method must take; settings: what of the adapter is not left to
// adapt_configure, but OFT's blocks need not divide; n_classes: of the task.
KinditStatus adapt_count(AdaptCount *out, KinditContext *ctx, const AdaptMethod *method, const DitConfig *base,
                         const AdaptSettings *settings, int n_classes);

#endif
