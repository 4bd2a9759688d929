// All metrics of a set of samples against a reference, and what limits them.
#ifndef METRICS_EVALUATE_H
#define METRICS_EVALUATE_H

#include "metrics/feature_set.h"
#include "metrics/frechet.h"
#include "metrics/inception_score.h"
#include "metrics/precision_recall.h"
#include "metrics/probability.h"
#include "metrics/statistics_file.h"

typedef enum Metric {
    METRIC_FRECHET = 1,          // FID, FDD: on pooled features
    METRIC_SPATIAL = 2,          // sFID
    METRIC_SCORE = 4,            // Inception Score
    METRIC_PRECISION_RECALL = 8, // needs the reference's features
    METRIC_PROBABILITY = 16      // entropy, variance, kurtosis
} Metric;

// The part of a set that is measured: `n` images, those of `order`, or the first (order NULL).
typedef struct EvaluatePart {
    const FeatureSet *set;
    const int64_t *order;
    int64_t n;
} EvaluatePart;

typedef struct EvaluateRequest {
    unsigned metrics; // of Metric
    EvaluatePart samples;
    EvaluatePart reference;           // set NULL: `statistics` stand for it, or nothing does
    const StatisticsFile *statistics; // or NULL
    ScoreSplits splits;
    PrecisionRecallSettings neighbours;
} EvaluateRequest;

// The conventions of the program that a profile copies: how it splits for the Inception Score, which neighbours it
// takes.
void evaluate_conventions(VisionProfile profile, EvaluateRequest *request);
// What can be measured of sets with these features.
unsigned evaluate_possible(const EvaluateRequest *request);

typedef struct Evaluation {
    unsigned metrics;               // of which the fields below are filled
    int64_t n_samples, n_reference; // n_reference 0: a statistics file that does not say
    int n_features, n_spatial;
    int n_classes[2]; // that samples and reference images are of; 0: of none, or nothing says so
    FrechetResult frechet, spatial;
    InceptionScore score;
    bool dealt; // images that came class after class were dealt out to the parts
    PrecisionRecall precision_recall;
    ProbabilityStatistics probability; // of the samples
} Evaluation;

// An argument error names a metric that is asked for and cannot be had.
KinditStatus evaluate_check(KinditContext *ctx, const EvaluateRequest *request);
KinditStatus evaluate(Evaluation *out, KinditContext *ctx, Engine *engine, const EvaluateRequest *request);

// Is a distance too large, for want of images on a side? Features that depend on each other do no such thing.
bool evaluate_is_biased(const Evaluation *evaluation);

enum { EVALUATE_LIMITS = 8, EVALUATE_LIMIT_SIZE = 256 };
// What must be said beside the figures, a sentence each; returns how many.
int evaluate_limits(const Evaluation *evaluation, char out[EVALUATE_LIMITS][EVALUATE_LIMIT_SIZE]);

#endif
