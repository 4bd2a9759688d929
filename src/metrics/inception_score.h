// The Inception Score (Salimans et al. 2016): exp of the mean Kullback-Leibler divergence of p(y|x) from the mean p(y),
// taken over parts of the images and averaged.
#ifndef METRICS_INCEPTION_SCORE_H
#define METRICS_INCEPTION_SCORE_H

#include "metrics/feature_rows.h"

// How images are split, in the order they have: parts of `size` images, the last one shorter (ADM's evaluator: 5000),
// or `n` parts as equal as can be (torch-fidelity, dgm-eval: 10). One of the two is 0.
typedef struct ScoreSplits {
    int64_t size, n;
} ScoreSplits;

typedef struct InceptionScore {
    double mean, deviation; // over the parts; deviation 0 when there is one
    int64_t n_splits;
} InceptionScore;

// logits: rows of the classifier's, of Inception without its final bias. Argument errors: fewer images than parts.
// Numeric error: a logit that is not finite.
KinditStatus inception_score(InceptionScore *out, KinditContext *ctx, const FeatureRows *logits, ScoreSplits splits);

#endif
