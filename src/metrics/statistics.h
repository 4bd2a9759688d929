// Mean and covariance of feature vectors: all that the Frechet distances look at.
#ifndef METRICS_STATISTICS_H
#define METRICS_STATISTICS_H

#include "metrics/feature_rows.h"

typedef struct Statistics {
    int d;
    int64_t n;          // vectors they were taken of; 0: a file that does not say
    double *mean;       // (d), owned
    double *covariance; // (d, d), unbiased: over n - 1; owned
} Statistics;

void statistics_close(Statistics *statistics);

// One pass over any number of vectors in the memory of the mean and the covariance. Sums are taken in double, of
// differences from the mean of the first few hundred vectors, so that what all have in common cancels nothing; in
// blocks of their own, so that the same vectors in the same order give the same bits however they are handed over.
typedef struct StatisticsStream StatisticsStream;
KinditStatus statistics_stream_create(StatisticsStream **out, KinditContext *ctx, int d);
void statistics_stream_close(StatisticsStream **stream);
// KINDIT_ERROR_NUMERIC names the vector that holds a NaN or an infinity; the stream is of no more use then.
KinditStatus statistics_stream_add(StatisticsStream *stream, const float *vector);
// An argument error when there were fewer than two. The stream is empty afterwards.
KinditStatus statistics_stream_finish(StatisticsStream *stream, Statistics *out);

// All of it in one call.
KinditStatus statistics_of_rows(Statistics *out, KinditContext *ctx, const FeatureRows *rows);

#endif
