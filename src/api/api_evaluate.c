#include <math.h>

#include "metrics/side.h"

KinditEvaluateSettings kindit_evaluate_settings_default(void) {
    return (KinditEvaluateSettings){.drawing = kindit_sample_settings_default()};
}

static KinditEvaluation public_evaluation(const Evaluation *found) {
    const bool neighbours = found->metrics & METRIC_PRECISION_RECALL, probability = found->metrics & METRIC_PROBABILITY;
    return (KinditEvaluation){
        .n_samples = found->n_samples,
        .n_reference = found->n_reference,
        .frechet = found->metrics & METRIC_FRECHET ? found->frechet.distance : NAN,
        .spatial = found->metrics & METRIC_SPATIAL ? found->spatial.distance : NAN,
        .inception_score = found->metrics & METRIC_SCORE ? found->score.mean : NAN,
        .precision = neighbours ? found->precision_recall.precision : NAN,
        .recall = neighbours ? found->precision_recall.recall : NAN,
        .entropy = probability ? found->probability.entropy : NAN,
        .variance = probability ? found->probability.variance : NAN,
        .kurtosis = probability ? found->probability.kurtosis : NAN,
        .biased = evaluate_is_biased(found),
    };
}

static KinditStatus measure(Evaluation *out, const Looker *looker, Side *samples, Side *reference,
                            const KinditEvaluateSettings *settings) {
    TRY(side_open(samples, looker, settings->samples, &settings->drawing, SOURCE_TRAIN, settings->n));
    if (settings->reference) {
        TRY(side_open_reference(reference, looker, settings->reference,
                                settings->heldout ? SOURCE_HELDOUT : SOURCE_TRAIN));
        TRY(side_extract(reference, looker, "reference"));
    }
    TRY(side_extract(samples, looker, "samples"));
    const EvaluateRequest request = side_request(looker, samples, reference);
    return evaluate(out, looker->ctx, looker->engine, &request);
}

KinditStatus kindit_evaluate(KinditContext *ctx, const KinditEvaluateSettings *settings, KinditEvaluation *out) {
    Looker looker;
    Side samples = {0}, reference = {0};
    Evaluation found = {0};
    if (!settings->samples || !settings->network)
        return context_fail(ctx, KINDIT_ERROR_ARGUMENT, "samples and network are both needed");
    TRY(looker_open(&looker, ctx, settings->network, settings->profile, settings->cache));
    KinditStatus status = measure(&found, &looker, &samples, &reference, settings);
    side_close(&samples);
    side_close(&reference);
    looker_close(&looker);
    if (!status) *out = public_evaluation(&found);
    return status;
}
