#include "metrics/probability.h"

#include "base/memory.h"
#include "metrics/softmax.h"

// False: the probabilities are all alike.
static bool add_image(ProbabilityStatistics *sums, int k, const double *log_p) {
    double entropy = 0, second = 0, fourth = 0;
    for (int i = 0; i < k; i++) {
        const double p = exp(log_p[i]), square = (p - 1.0 / k) * (p - 1.0 / k);
        entropy -= p * log_p[i];
        second += square / k;
        fourth += square * square / k;
    }
    sums->entropy += entropy;
    sums->variance += second;
    sums->kurtosis += fourth / (second * second) - 3;
    return second * second > 0;
}

static KinditStatus add_images(ProbabilityStatistics *sums, KinditContext *ctx, const FeatureRows *logits,
                               double *log_p) {
    for (int64_t i = 0; i < logits->n; i++) {
        if (!softmax_log(logits->width, logits->row[i], log_p))
            return context_fail(ctx, KINDIT_ERROR_NUMERIC, "a logit of image %lld is not finite", (long long)i);
        if (!add_image(sums, logits->width, log_p))
            return context_fail(ctx, KINDIT_ERROR_NUMERIC,
                                "image %lld: all classes are equally likely, which has no kurtosis", (long long)i);
    }
    return KINDIT_OK;
}

KinditStatus probability_statistics(ProbabilityStatistics *out, KinditContext *ctx, const FeatureRows *logits) {
    double *log_p;
    *out = (ProbabilityStatistics){.n = logits->n};
    if (logits->n < 1 || logits->width < 2)
        return context_fail(ctx, KINDIT_ERROR_ARGUMENT,
                            "probabilities of %d classes for %lld images: expected at least 2 classes and an image",
                            logits->width, (long long)logits->n);
    TRY(memory_alloc(ctx, (size_t)logits->width, sizeof *log_p, &log_p));
    KinditStatus status = add_images(out, ctx, logits, log_p);
    memory_free(&log_p);
    out->entropy /= (double)logits->n;
    out->variance /= (double)logits->n;
    out->kurtosis /= (double)logits->n;
    return status;
}
