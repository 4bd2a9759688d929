// Statistics in files of other programs: npz archives with mu (d) and sigma (d, d), as pytorch-fid writes them, and
// mu_s, sigma_s of spatial features beside them, as ADM's reference batches have.
#ifndef METRICS_STATISTICS_FILE_H
#define METRICS_STATISTICS_FILE_H

#include "metrics/statistics.h"

typedef struct StatisticsFile {
    Statistics features; // mu, sigma
    Statistics spatial;  // mu_s, sigma_s; d 0 without them
} StatisticsFile;

void statistics_file_close(StatisticsFile *file);

// float or double; `n` is read where there is such an array, as written here. Format errors: no mu, shapes that do not
// fit each other, a covariance that is not symmetric. Numeric error: numbers that are not finite.
KinditStatus statistics_file_read(StatisticsFile *out, KinditContext *ctx, const char *path);
// The same over bytes in memory; `name` stands for the path in messages.
KinditStatus statistics_file_parse(StatisticsFile *out, KinditContext *ctx, const char *name, const void *data,
                                   size_t size);
// Does the archive hold statistics (rather than images)? False for what is no archive.
bool statistics_file_is(const char *path);
// In double, atomic; the spatial arrays only when file->spatial.d is not 0.
KinditStatus statistics_file_write(const StatisticsFile *file, KinditContext *ctx, const char *path);

#endif
