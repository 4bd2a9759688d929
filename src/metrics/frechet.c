#include "metrics/frechet.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "engine/symmetric.h"

// An eigenvalue below this share of the largest is rounding: files of other programs may hold covariances that were
// float once.
static double rounding(int d, double largest) {
    return (double)d * FLT_EPSILON * largest;
}

static KinditStatus check(KinditContext *ctx, const Statistics *statistics, const char *which) {
    const size_t d = (size_t)statistics->d;
    for (size_t i = 0; i < d; i++) {
        bool good = isfinite(statistics->mean[i]);
        for (size_t j = 0; j < d && good; j++) good = isfinite(statistics->covariance[i * d + j]);
        if (!good)
            return context_fail(ctx, KINDIT_ERROR_NUMERIC, "statistics of the %s: feature %zu is not finite", which, i);
    }
    return KINDIT_OK;
}

// A variance that the rounding of features, which are floats, leaves of none.
static double float_noise(const Statistics *s) {
    double largest = 0;
    for (size_t i = 0; i < (size_t)s->d; i++) {
        const double square = s->mean[i] * s->mean[i] + s->covariance[i * (size_t)s->d + i];
        if (square > largest) largest = square;
    }
    return (double)FLT_EPSILON * FLT_EPSILON * largest;
}

// Rising eigenvalues of what shall be a covariance: its rank, and what is below 0 set to it.
static KinditStatus clean_eigenvalues(KinditContext *ctx, const Statistics *s, double *values, const char *which,
                                      int *rank) {
    const int d = s->d;
    const double limit = rounding(d, values[d - 1]);
    const double nothing = fmax((double)d * DBL_EPSILON * values[d - 1], float_noise(s));
    if (values[0] < -limit || values[d - 1] < 0)
        return context_fail(ctx, KINDIT_ERROR_NUMERIC,
                            "statistics of the %s: no covariance, for its smallest eigenvalue is %g (the largest %g)",
                            which, values[0], values[d - 1]);
    *rank = 0;
    for (int i = 0; i < d; i++) {
        if (values[i] < 0) values[i] = 0;
        *rank += values[i] > nothing;
    }
    return KINDIT_OK;
}

// root = the rows sqrt(value) * vector of S: S = root^T root.
static KinditStatus take_root(KinditContext *ctx, const Statistics *s, double *root, double *values, int *rank) {
    const size_t d = (size_t)s->d;
    memcpy(root, s->covariance, d * d * sizeof *root);
    TRY(symmetric_eigen(ctx, s->d, root, values));
    TRY(clean_eigenvalues(ctx, s, values, "samples", rank));
    for (size_t k = 0; k < d; k++)
        for (size_t i = 0; i < d; i++) root[k * d + i] *= sqrt(values[k]);
    return KINDIT_OK;
}

static double trace(const Statistics *s) {
    double sum = 0;
    for (size_t i = 0; i < (size_t)s->d; i++) sum += s->covariance[i * (size_t)s->d + i];
    return sum;
}

// root S2 root^T has the eigenvalues of S1^(1/2) S2 S1^(1/2).
static KinditStatus measure(FrechetResult *out, KinditContext *ctx, const Statistics *a, const Statistics *b,
                            double *root, double *product, double *values) {
    const int d = a->d;
    double roots = 0;
    TRY(take_root(ctx, a, root, values, &out->rank[0]));
    TRY(symmetric_sandwich(ctx, d, root, b->covariance, product));
    memcpy(root, b->covariance, (size_t)d * (size_t)d * sizeof *root);
    TRY(symmetric_eigenvalues(ctx, d, root, values));
    TRY(clean_eigenvalues(ctx, b, values, "reference", &out->rank[1]));
    TRY(symmetric_eigenvalues(ctx, d, product, values));
    for (int i = 0; i < d; i++)
        if (values[i] > 0) roots += sqrt(values[i]);
    for (int i = 0; i < d; i++) out->mean_term += (a->mean[i] - b->mean[i]) * (a->mean[i] - b->mean[i]);
    out->covariance_term = fmax(0, trace(a) + trace(b) - 2 * roots);
    out->distance = out->mean_term + out->covariance_term;
    return KINDIT_OK;
}

KinditStatus frechet_distance(FrechetResult *out, KinditContext *ctx, const Statistics *a, const Statistics *b) {
    double *root = NULL, *product = NULL, *values = NULL;
    *out = (FrechetResult){0};
    if (a->d != b->d)
        return context_fail(ctx, KINDIT_ERROR_ARGUMENT,
                            "the sets have %d and %d features: both must come from the same network", a->d, b->d);
    TRY(check(ctx, a, "samples"));
    TRY(check(ctx, b, "reference"));
    const size_t d = (size_t)a->d;
    KinditStatus status = memory_alloc(ctx, d, d * sizeof *root, &root);
    if (!status) status = memory_alloc(ctx, d, d * sizeof *product, &product);
    if (!status) status = memory_alloc(ctx, d, sizeof *values, &values);
    if (!status) status = measure(out, ctx, a, b, root, product, values);
    memory_free(&root);
    memory_free(&product);
    memory_free(&values);
    return status;
}
