// Figures and recipe of a comparison, as data.
#include <string.h>

#include "cli/eval.h"
#include "cli/sample_options.h"

// The Frechet distance is called by the features it is of: others than Inception's make no FID.
static void add_frechet(const VisionInfo *network, double value, EvalFigure *out) {
    const bool inception = strncmp(network->name, "inception", 9) == 0, dino = strncmp(network->name, "dinov2", 6) == 0;
    *out = inception ? (EvalFigure){"fid", "FID", value}
           : dino    ? (EvalFigure){"fdd", "FDD", value}
                     : (EvalFigure){"fd", "FD (own features)", value};
}

int eval_figures(const Evaluation *evaluation, const VisionInfo *network, EvalFigure out[EVAL_FIGURES]) {
    int n = 0;
    if (evaluation->metrics & METRIC_FRECHET) add_frechet(network, evaluation->frechet.distance, &out[n++]);
    if (evaluation->metrics & METRIC_SPATIAL) out[n++] = (EvalFigure){"sfid", "sFID", evaluation->spatial.distance};
    if (evaluation->metrics & METRIC_SCORE) {
        out[n++] = (EvalFigure){"is", "Inception Score", evaluation->score.mean};
        out[n++] = (EvalFigure){"is_deviation", "  its deviation", evaluation->score.deviation};
    }
    if (evaluation->metrics & METRIC_PRECISION_RECALL) {
        out[n++] = (EvalFigure){"precision", "precision", evaluation->precision_recall.precision};
        out[n++] = (EvalFigure){"recall", "recall", evaluation->precision_recall.recall};
    }
    if (evaluation->metrics & METRIC_PROBABILITY) {
        out[n++] = (EvalFigure){"entropy", "entropy", evaluation->probability.entropy};
        out[n++] = (EvalFigure){"variance", "variance", evaluation->probability.variance};
        out[n++] = (EvalFigure){"kurtosis", "kurtosis", evaluation->probability.kurtosis};
    }
    return n;
}

// The keys are the same whatever the samples are, so that records have the same columns.
static void add_drawing(cJSON *json, const Side *samples) {
    if (samples->model) {
        sample_options_add_json(json);
        return;
    }
    cJSON *names = cJSON_CreateObject();
    const cJSON *item;
    sample_options_add_json(names);
    cJSON_ArrayForEach(item, names) cJSON_AddNullToObject(json, item->string);
    cJSON_Delete(names);
}

cJSON *eval_recipe(const Looker *looker, const Side *samples, const Side *reference) {
    const VisionInfo *info = vision_info(looker->network);
    cJSON *json = cJSON_CreateObject();
    cJSON_AddStringToObject(json, "version", KINDIT_VERSION);
    cJSON_AddStringToObject(json, "samples", samples->path);
    cJSON_AddStringToObject(json, "samples_sha256", samples->hash);
    cJSON_AddNumberToObject(json, "n", (double)samples->n);
    cJSON_AddNumberToObject(json, "n_classes", samples->n_classes);
    add_drawing(json, samples);
    cJSON_AddStringToObject(json, "reference", reference->path ? reference->path : "");
    cJSON_AddStringToObject(json, "reference_sha256", reference->hash);
    cJSON_AddNumberToObject(json, "n_reference", (double)reference->n);
    cJSON_AddStringToObject(json, "network", info->name);
    cJSON_AddStringToObject(json, "network_sha256", info->sha256);
    cJSON_AddStringToObject(json, "profile", profile_name(looker->profile));
    return json;
}
