// The Frechet distance between two normal distributions (Heusel et al. 2017): FID on Inception's pooled features, sFID
// on its spatial ones, FDD on DINOv2's.
#ifndef METRICS_FRECHET_H
#define METRICS_FRECHET_H

#include "metrics/statistics.h"

typedef struct FrechetResult {
    double distance;        // mean_term + covariance_term
    double mean_term;       // |m1 - m2|^2
    double covariance_term; // tr(S1 + S2 - 2 (S1 S2)^(1/2)), not below 0
    int rank[2];            // of S1 and S2, up to the rounding of features: below d with few images, or when features
                            // depend on each other, as those of a last layer norm do
} FrechetResult;

// tr (S1 S2)^(1/2) is the sum of the square roots of the eigenvalues of S1^(1/2) S2 S1^(1/2), which is symmetric: it
// exists, is real and needs no small number on the diagonal, whatever the ranks. `a` is of the samples and `b` of the
// reference in messages alone. Argument error: different widths.
// Numeric error: not finite, or not covariances (a negative eigenvalue beyond rounding).
KinditStatus frechet_distance(FrechetResult *out, KinditContext *ctx, const Statistics *a, const Statistics *b);

#endif
