#include "metrics/inception_score.h"

#include <string.h>

#include "base/memory.h"
#include "metrics/softmax.h"

// The mean divergence is the mean of sum p log p, less sum q log q of the mean q.
static KinditStatus score_part(double *out, KinditContext *ctx, const FeatureRows *logits, int64_t first, int64_t end,
                               double *log_p, double *mean) {
    const int k = logits->width;
    const double n = (double)(end - first);
    double divergence = 0;
    memset(mean, 0, (size_t)k * sizeof *mean);
    for (int64_t i = first; i < end; i++) {
        double own = 0;
        if (!softmax_log(k, logits->row[i], log_p))
            return context_fail(ctx, KINDIT_ERROR_NUMERIC, "a logit of image %lld is not finite", (long long)i);
        for (int c = 0; c < k; c++) {
            const double p = exp(log_p[c]);
            own += p * log_p[c];
            mean[c] += p;
        }
        divergence += own / n;
    }
    for (int c = 0; c < k; c++)
        if (mean[c] > 0) divergence -= mean[c] / n * log(mean[c] / n);
    *out = exp(divergence);
    return KINDIT_OK;
}

static KinditStatus score_parts(InceptionScore *out, KinditContext *ctx, const FeatureRows *logits, ScoreSplits splits,
                                double *log_p, double *mean) {
    double sum = 0, squares = 0;
    out->n_splits = splits.n ? splits.n : (logits->n + splits.size - 1) / splits.size;
    for (int64_t s = 0; s < out->n_splits; s++) {
        int64_t first = splits.n ? s * logits->n / splits.n : s * splits.size;
        int64_t end = splits.n ? (s + 1) * logits->n / splits.n : first + splits.size;
        double score = 0;
        TRY(score_part(&score, ctx, logits, first, end < logits->n ? end : logits->n, log_p, mean));
        sum += score;
        squares += score * score;
    }
    const double n = (double)out->n_splits;
    out->mean = sum / n;
    out->deviation = out->n_splits > 1 ? sqrt(fmax(0, squares / n - out->mean * out->mean)) : 0;
    return KINDIT_OK;
}

KinditStatus inception_score(InceptionScore *out, KinditContext *ctx, const FeatureRows *logits, ScoreSplits splits) {
    double *log_p = NULL, *mean = NULL;
    const int64_t least = splits.n > 0 ? splits.n : 1;
    *out = (InceptionScore){0};
    if (logits->n < least || (splits.n < 1 && splits.size < 1))
        return context_fail(ctx, KINDIT_ERROR_ARGUMENT, "an Inception Score over %lld parts of %lld images cannot be",
                            (long long)least, (long long)logits->n);
    KinditStatus status = memory_alloc(ctx, (size_t)logits->width, sizeof *log_p, &log_p);
    if (!status) status = memory_alloc(ctx, (size_t)logits->width, sizeof *mean, &mean);
    if (!status) status = score_parts(out, ctx, logits, splits, log_p, mean);
    memory_free(&log_p);
    memory_free(&mean);
    return status;
}
