#include "metrics/statistics.h"

#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "engine/symmetric.h"

enum { BLOCK = 256 };

struct StatisticsStream {
    KinditContext *ctx;
    int d, n_waiting;
    int64_t n;       // added, those waiting included
    double *waiting; // (BLOCK, d)
    double *shift;   // (d): the mean of the first block
    double *sum;     // (d) of differences from it
    double *scatter; // (d, d) of the same, upper triangle
};

void statistics_close(Statistics *statistics) {
    memory_free(&statistics->mean);
    memory_free(&statistics->covariance);
    *statistics = (Statistics){0};
}

KinditStatus statistics_stream_create(StatisticsStream **out, KinditContext *ctx, int d) {
    StatisticsStream *stream;
    if (d < 1 || d > SYMMETRIC_LARGEST)
        return context_fail(ctx, KINDIT_ERROR_ARGUMENT, "statistics of %d features: expected 1 to %d", d,
                            SYMMETRIC_LARGEST);
    TRY(memory_alloc(ctx, 1, sizeof *stream, out));
    stream = *out;
    *stream = (StatisticsStream){.ctx = ctx, .d = d};
    const size_t width = (size_t)d;
    KinditStatus status = memory_alloc(ctx, BLOCK, width * sizeof(double), &stream->waiting);
    if (!status) status = memory_alloc(ctx, width, sizeof(double), &stream->shift);
    if (!status) status = memory_alloc(ctx, width, sizeof(double), &stream->sum);
    if (!status) status = memory_alloc(ctx, width, width * sizeof(double), &stream->scatter);
    if (status) statistics_stream_close(out);
    return status;
}

void statistics_stream_close(StatisticsStream **stream) {
    if (!stream || !*stream) return;
    memory_free(&(*stream)->waiting);
    memory_free(&(*stream)->shift);
    memory_free(&(*stream)->sum);
    memory_free(&(*stream)->scatter);
    memory_free(stream);
}

static void choose_shift(StatisticsStream *stream) {
    for (int r = 0; r < stream->n_waiting; r++)
        for (int i = 0; i < stream->d; i++) stream->shift[i] += stream->waiting[(size_t)r * (size_t)stream->d + i];
    for (int i = 0; i < stream->d; i++) stream->shift[i] /= stream->n_waiting;
}

static KinditStatus take_waiting(StatisticsStream *stream) {
    if (stream->n == stream->n_waiting) choose_shift(stream);
    for (int r = 0; r < stream->n_waiting; r++) {
        double *row = stream->waiting + (size_t)r * (size_t)stream->d;
        for (int i = 0; i < stream->d; i++) {
            row[i] -= stream->shift[i];
            stream->sum[i] += row[i];
        }
    }
    const int n = stream->n_waiting;
    stream->n_waiting = 0;
    return n ? symmetric_add_rows(stream->ctx, n, stream->d, stream->waiting, stream->scatter) : KINDIT_OK;
}

KinditStatus statistics_stream_add(StatisticsStream *stream, const float *vector) {
    if (stream->n_waiting == BLOCK) TRY(take_waiting(stream));
    double *row = stream->waiting + (size_t)stream->n_waiting * (size_t)stream->d;
    for (int i = 0; i < stream->d; i++) {
        if (!isfinite(vector[i]))
            return context_fail(stream->ctx, KINDIT_ERROR_NUMERIC, "feature %d of image %lld is %s", i,
                                (long long)stream->n, isnan(vector[i]) ? "NaN" : "infinite");
        row[i] = vector[i];
    }
    stream->n_waiting++;
    stream->n++;
    return KINDIT_OK;
}

// covariance = (scatter - n m m^T) / (n - 1), m the mean of the differences.
static void finish(const StatisticsStream *stream, Statistics *out) {
    const size_t d = (size_t)stream->d;
    const double n = (double)stream->n;
    memcpy(out->covariance, stream->scatter, d * d * sizeof(double));
    symmetric_mirror(stream->d, out->covariance);
    for (size_t i = 0; i < d; i++) {
        out->mean[i] = stream->shift[i] + stream->sum[i] / n;
        for (size_t j = 0; j < d; j++) {
            double *element = &out->covariance[i * d + j];
            *element = (*element - stream->sum[i] * stream->sum[j] / n) / (n - 1);
        }
    }
}

KinditStatus statistics_stream_finish(StatisticsStream *stream, Statistics *out) {
    const size_t d = (size_t)stream->d;
    *out = (Statistics){.d = stream->d, .n = stream->n};
    if (stream->n < 2)
        return context_fail(stream->ctx, KINDIT_ERROR_ARGUMENT,
                            "a covariance needs at least 2 images, found %lld; a distance that means something needs "
                            "more than there are features",
                            (long long)stream->n);
    KinditStatus status = take_waiting(stream);
    if (!status) status = memory_alloc(stream->ctx, d, sizeof(double), &out->mean);
    if (!status) status = memory_alloc(stream->ctx, d, d * sizeof(double), &out->covariance);
    if (!status) finish(stream, out);
    if (status) statistics_close(out);
    stream->n = 0;
    memset(stream->shift, 0, d * sizeof(double));
    memset(stream->sum, 0, d * sizeof(double));
    memset(stream->scatter, 0, d * d * sizeof(double));
    return status;
}

KinditStatus statistics_of_rows(Statistics *out, KinditContext *ctx, const FeatureRows *rows) {
    StatisticsStream *stream;
    *out = (Statistics){0};
    TRY(statistics_stream_create(&stream, ctx, rows->width));
    KinditStatus status = KINDIT_OK;
    for (int64_t i = 0; i < rows->n && !status; i++) status = statistics_stream_add(stream, rows->row[i]);
    if (!status) status = statistics_stream_finish(stream, out);
    statistics_stream_close(&stream);
    return status;
}
