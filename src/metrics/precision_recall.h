// Improved precision and recall (Kynkaanniemi et al. 2019): the share of samples that fall among the reference images,
// and of reference images that fall among the samples. A vector is among a set when it lies in a ball around one of the
// set's vectors that reaches to that vector's k-th nearest neighbour in the set, itself not counted.
#ifndef METRICS_PRECISION_RECALL_H
#define METRICS_PRECISION_RECALL_H

#include "engine/engine.h"
#include "metrics/feature_rows.h"

typedef struct PrecisionRecallSettings {
    int k;       // ADM's evaluator and torch-fidelity: 3; dgm-eval: 5
    bool strict; // the ball without its surface: `<`, as dgm-eval (prdc), where the others have `<=`
} PrecisionRecallSettings;

enum { PRECISION_RECALL_MAX_K = 64 };

typedef struct PrecisionRecall {
    double precision, recall;
} PrecisionRecall;

// Every comparison is of distances in double, whatever the engine: the same answer on any machine. Argument errors:
// different widths; k or fewer vectors in a set; k out of 1 .. PRECISION_RECALL_MAX_K. Numeric error: a feature that is
// not finite. Time grows as the square of the sets: 2 d (n1^2 + n2^2 + 2 n1 n2) operations.
KinditStatus precision_recall(PrecisionRecall *out, KinditContext *ctx, Engine *engine, const FeatureRows *reference,
                              const FeatureRows *samples, PrecisionRecallSettings settings);

#endif
