// How sure a classifier is of images: the activation statistics of the paper's Table 5.
#ifndef METRICS_PROBABILITY_H
#define METRICS_PROBABILITY_H

#include "metrics/feature_rows.h"

// Of the vector p of K probabilities of an image, averaged over images:
//     entropy   - sum p log p, natural logarithm: from 0 (sure) to log K (no idea)
//     variance  m2, where m_j = 1/K sum (p - 1/K)^j: from 0 to 1/K - 1/K^2 (numpy's var)
//     kurtosis  m4 / m2^2 - 3, in excess of the normal distribution's (scipy.stats.kurtosis): the higher, the fewer
//               classes have the probability
typedef struct ProbabilityStatistics {
    int64_t n;
    double entropy, variance, kurtosis;
} ProbabilityStatistics;

// logits: rows of a classifier's. Numeric errors: a logit that is not finite; probabilities all alike, which have no
// kurtosis. Argument errors: no image; a single class.
KinditStatus probability_statistics(ProbabilityStatistics *out, KinditContext *ctx, const FeatureRows *logits);

#endif
