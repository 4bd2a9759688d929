#include "metrics/evaluate.h"

#include <stdarg.h>
#include <stdio.h>

#include "base/memory.h"

static const struct {
    ScoreSplits splits;
    PrecisionRecallSettings neighbours;
} conventions[PROFILE_COUNT] = {
    [PROFILE_ADM] = {{.size = 5000}, {.k = 3}},
    [PROFILE_PYTORCH_FID] = {{.n = 10}, {.k = 3}}, // torch-fidelity's, for pytorch-fid has neither
    [PROFILE_DGM_EVAL] = {{.n = 10}, {.k = 5, .strict = true}},
    [PROFILE_NATIVE] = {{.size = 5000}, {.k = 3}},
};

void evaluate_conventions(VisionProfile profile, EvaluateRequest *request) {
    request->splits = conventions[profile].splits;
    request->neighbours = conventions[profile].neighbours;
}

static bool has(const EvaluatePart *part, FeatureKind kind) {
    return part->set && feature_set_width(part->set, kind) > 0;
}

unsigned evaluate_possible(const EvaluateRequest *request) {
    const EvaluatePart *samples = &request->samples, *reference = &request->reference;
    const StatisticsFile *file = request->statistics;
    unsigned possible = 0;
    if (has(samples, FEATURE_POOLED) && (has(reference, FEATURE_POOLED) || file)) possible |= METRIC_FRECHET;
    if (has(samples, FEATURE_SPATIAL) && (has(reference, FEATURE_SPATIAL) || (file && file->spatial.d)))
        possible |= METRIC_SPATIAL;
    if (has(samples, FEATURE_POOLED) && has(reference, FEATURE_POOLED)) possible |= METRIC_PRECISION_RECALL;
    if (has(samples, FEATURE_LOGITS)) possible |= METRIC_SCORE | METRIC_PROBABILITY;
    return possible;
}

KinditStatus evaluate_check(KinditContext *ctx, const EvaluateRequest *request) {
    static const struct {
        Metric metric;
        const char *name, *needs;
    } needs[] = {
        {METRIC_FRECHET, "the Frechet distance", "a reference"},
        {METRIC_SPATIAL, "sFID", "a network with spatial features, and a reference with them (mu_s, sigma_s)"},
        {METRIC_SCORE, "the Inception Score", "a network that classifies"},
        {METRIC_PRECISION_RECALL, "precision and recall", "reference images, which statistics cannot stand for"},
        {METRIC_PROBABILITY, "probability statistics", "a network that classifies"},
    };
    const unsigned missing = request->metrics & ~evaluate_possible(request);
    for (size_t i = 0; i < sizeof needs / sizeof *needs; i++)
        if (missing & needs[i].metric)
            return context_fail(ctx, KINDIT_ERROR_ARGUMENT, "%s: needs %s", needs[i].name, needs[i].needs);
    return KINDIT_OK;
}

static KinditStatus part_statistics(Statistics *out, KinditContext *ctx, const EvaluatePart *part, FeatureKind kind,
                                    const char *which) {
    FeatureRows rows;
    TRY(feature_set_rows(&rows, part->set, kind, part->order, part->n));
    KinditStatus status = statistics_of_rows(out, ctx, &rows);
    feature_rows_close(&rows);
    return status ? context_prefix(ctx, status, which) : KINDIT_OK;
}

static KinditStatus measure_frechet(FrechetResult *out, KinditContext *ctx, const EvaluateRequest *request,
                                    FeatureKind kind) {
    Statistics samples, own = {0};
    const Statistics *reference = &own;
    TRY(part_statistics(&samples, ctx, &request->samples, kind, "samples"));
    KinditStatus status = KINDIT_OK;
    if (request->reference.set)
        status = part_statistics(&own, ctx, &request->reference, kind, "reference");
    else
        reference = kind == FEATURE_SPATIAL ? &request->statistics->spatial : &request->statistics->features;
    if (!status) status = frechet_distance(out, ctx, &samples, reference);
    statistics_close(&samples);
    statistics_close(&own);
    return status;
}

static KinditStatus measure_neighbours(PrecisionRecall *out, KinditContext *ctx, Engine *engine,
                                       const EvaluateRequest *request) {
    const EvaluatePart *const parts[2] = {&request->reference, &request->samples};
    FeatureRows rows[2] = {0};
    KinditStatus status = KINDIT_OK;
    for (int s = 0; s < 2 && !status; s++)
        status = feature_set_rows(&rows[s], parts[s]->set, FEATURE_POOLED, parts[s]->order, parts[s]->n);
    if (!status) status = precision_recall(out, ctx, engine, &rows[0], &rows[1], request->neighbours);
    for (int s = 0; s < 2; s++) feature_rows_close(&rows[s]);
    return status;
}

// ---- the Inception Score's order -----------------------------------------------------------------------------------

static int64_t image_of(const EvaluatePart *part, int64_t i) {
    return part->order ? part->order[i] : i;
}

// Do images come class after class, so that a part would have few of the classes?
static bool is_sorted(const EvaluatePart *part) {
    bool several = false;
    for (int64_t i = 1; i < part->n; i++) {
        const int before = feature_set_label(part->set, image_of(part, i - 1));
        const int label = feature_set_label(part->set, image_of(part, i));
        if (label < before) return false;
        several |= label > before;
    }
    return several;
}

// Part p of P gets every P-th image, in the order they have.
static KinditStatus deal(int64_t **out, KinditContext *ctx, const EvaluatePart *part, int64_t n_parts) {
    int64_t at = 0;
    TRY(memory_alloc(ctx, (size_t)part->n, sizeof **out, out));
    for (int64_t p = 0; p < n_parts; p++)
        for (int64_t i = p; i < part->n; i += n_parts) (*out)[at++] = image_of(part, i);
    return KINDIT_OK;
}

static KinditStatus measure_score(Evaluation *out, KinditContext *ctx, const EvaluateRequest *request) {
    const EvaluatePart *samples = &request->samples;
    const ScoreSplits splits = request->splits;
    const int64_t n_parts = splits.n ? splits.n : (samples->n + splits.size - 1) / splits.size;
    int64_t *dealt = NULL;
    FeatureRows rows = {0};
    KinditStatus status = KINDIT_OK;
    out->dealt = n_parts > 1 && is_sorted(samples);
    if (out->dealt) status = deal(&dealt, ctx, samples, n_parts);
    if (!status)
        status = feature_set_rows(&rows, samples->set, FEATURE_LOGITS, dealt ? dealt : samples->order, samples->n);
    if (!status) status = inception_score(&out->score, ctx, &rows, splits);
    feature_rows_close(&rows);
    memory_free(&dealt);
    return status;
}

// How many classes the images of a part are of.
static KinditStatus count_classes(int *out, KinditContext *ctx, const EvaluatePart *part) {
    int largest = -1;
    bool *seen;
    *out = 0;
    if (!part->set) return KINDIT_OK;
    for (int64_t i = 0; i < part->n; i++) {
        const int label = feature_set_label(part->set, image_of(part, i));
        if (label > largest) largest = label;
    }
    TRY(memory_alloc(ctx, (size_t)(largest + 1), sizeof *seen, &seen));
    for (int64_t i = 0; i < part->n; i++) {
        const int label = feature_set_label(part->set, image_of(part, i));
        if (label < 0 || seen[label]) continue;
        seen[label] = true;
        ++*out;
    }
    memory_free(&seen);
    return KINDIT_OK;
}

static KinditStatus measure_probability(ProbabilityStatistics *out, KinditContext *ctx, const EvaluatePart *samples) {
    FeatureRows rows;
    TRY(feature_set_rows(&rows, samples->set, FEATURE_LOGITS, samples->order, samples->n));
    KinditStatus status = probability_statistics(out, ctx, &rows);
    feature_rows_close(&rows);
    return status;
}

// ---- all -----------------------------------------------------------------------------------------------------------

KinditStatus evaluate(Evaluation *out, KinditContext *ctx, Engine *engine, const EvaluateRequest *request) {
    TRY(evaluate_check(ctx, request));
    *out = (Evaluation){.metrics = request->metrics, .n_samples = request->samples.n};
    if (request->reference.set)
        out->n_reference = request->reference.n;
    else if (request->statistics)
        out->n_reference = request->statistics->features.n;
    out->n_features = feature_set_width(request->samples.set, FEATURE_POOLED);
    out->n_spatial = feature_set_width(request->samples.set, FEATURE_SPATIAL);
    TRY(count_classes(&out->n_classes[0], ctx, &request->samples));
    TRY(count_classes(&out->n_classes[1], ctx, &request->reference));
    if (request->metrics & METRIC_FRECHET) TRY(measure_frechet(&out->frechet, ctx, request, FEATURE_POOLED));
    if (request->metrics & METRIC_SPATIAL) TRY(measure_frechet(&out->spatial, ctx, request, FEATURE_SPATIAL));
    if (request->metrics & METRIC_SCORE) TRY(measure_score(out, ctx, request));
    if (request->metrics & METRIC_PRECISION_RECALL)
        TRY(measure_neighbours(&out->precision_recall, ctx, engine, request));
    if (request->metrics & METRIC_PROBABILITY) TRY(measure_probability(&out->probability, ctx, &request->samples));
    return KINDIT_OK;
}

// ---- limits --------------------------------------------------------------------------------------------------------

typedef struct Limits {
    char (*out)[EVALUATE_LIMIT_SIZE];
    int n;
} Limits;

__attribute__((format(printf, 2, 3))) static void say(Limits *limits, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    if (limits->n < EVALUATE_LIMITS) vsnprintf(limits->out[limits->n++], EVALUATE_LIMIT_SIZE, format, arguments);
    va_end(arguments);
}

// Are there too few images for a covariance of full rank? Where a file does not say of how many it is, the other side
// tells: features that depend on each other do so in both.
static bool has_few(const FrechetResult *result, int d, const int64_t n[2], int side) {
    return n[side] ? n[side] <= d : result->rank[side] < result->rank[1 - side];
}

bool evaluate_is_biased(const Evaluation *evaluation) {
    const int64_t n[2] = {evaluation->n_samples, evaluation->n_reference};
    bool biased = false;
    for (int s = 0; s < 2; s++) {
        if (evaluation->metrics & METRIC_FRECHET) biased |= has_few(&evaluation->frechet, evaluation->n_features, n, s);
        if (evaluation->metrics & METRIC_SPATIAL) biased |= has_few(&evaluation->spatial, evaluation->n_spatial, n, s);
    }
    return biased;
}

static void say_rank(Limits *limits, const FrechetResult *result, const char *name, int d, const int64_t n[2], int s) {
    const char *const which[2] = {"samples", "reference images"};
    const int rank = result->rank[s], other = result->rank[1 - s];
    if (rank == 0)
        say(limits, "%s: all %s are alike to the network: their covariance is 0.", name, which[s]);
    else if (n[s] && has_few(result, d, n, s))
        say(limits,
            "%s: %lld %s for %d features: the covariance has rank %d, and the distance is biased upwards; compare at "
            "equal numbers only.",
            name, (long long)n[s], which[s], d, rank);
    else if (rank < other)
        say(limits, "%s: the covariance of the %s has rank %d, that of the %s %d: %s.", name, which[s], rank,
            which[1 - s], other,
            n[s] ? "many of them are alike, or the other is of another network"
                 : "of too few images, so that the distance is biased upwards");
}

static void say_ranks(Limits *limits, const FrechetResult *result, const char *name, int d,
                      const Evaluation *evaluation) {
    const int64_t n[2] = {evaluation->n_samples, evaluation->n_reference};
    for (int s = 0; s < 2; s++) say_rank(limits, result, name, d, n, s);
}

enum { FEW_IMAGES = 2048 }; // below so many, distances say more about their number than about the images

static void say_number(Limits *limits, const Evaluation *evaluation) {
    const int64_t samples = evaluation->n_samples, reference = evaluation->n_reference;
    const bool fewer = reference && reference < samples; // of a file that does not say, it is 0
    const int64_t least = fewer ? reference : samples;
    if (!(evaluation->metrics & (METRIC_FRECHET | METRIC_SPATIAL)) || evaluate_is_biased(evaluation)) return;
    if (least < FEW_IMAGES)
        say(limits,
            "distances: %lld %s are fewer than %d: with more the distance would be less; compare at equal numbers "
            "only.",
            (long long)least, fewer ? "reference images" : "samples", FEW_IMAGES);
}

static void say_classes(Limits *limits, const Evaluation *evaluation) {
    const int *n = evaluation->n_classes;
    if (n[0] && n[1] && n[0] != n[1])
        say(limits,
            "classes: %d among the samples, %d among the reference images; what compares them measures that too.", n[0],
            n[1]);
    if ((evaluation->metrics & METRIC_SCORE) && n[0] == 1)
        say(limits, "Inception Score: all samples are of one class, and it rewards many.");
}

int evaluate_limits(const Evaluation *evaluation, char out[EVALUATE_LIMITS][EVALUATE_LIMIT_SIZE]) {
    Limits limits = {out, 0};
    if (evaluation->metrics & METRIC_FRECHET)
        say_ranks(&limits, &evaluation->frechet, "Frechet distance", evaluation->n_features, evaluation);
    if (evaluation->metrics & METRIC_SPATIAL)
        say_ranks(&limits, &evaluation->spatial, "sFID", evaluation->n_spatial, evaluation);
    say_number(&limits, evaluation);
    say_classes(&limits, evaluation);
    if ((evaluation->metrics & METRIC_SCORE) && evaluation->dealt)
        say(&limits, "Inception Score: the images come class after class, so they were dealt out to the %lld parts.",
            (long long)evaluation->score.n_splits);
    if ((evaluation->metrics & METRIC_PRECISION_RECALL) && evaluation->n_samples != evaluation->n_reference)
        say(&limits, "precision, recall: %lld samples and %lld reference images; they depend on both numbers.",
            (long long)evaluation->n_samples, (long long)evaluation->n_reference);
    return limits.n;
}
