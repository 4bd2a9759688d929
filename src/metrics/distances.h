// Distances between two sets of feature vectors, a block of one set against the whole other at a time: estimated by the
// engine's single-precision product, with a bound on the error, and exactly where a decision hangs on it.
#ifndef METRICS_DISTANCES_H
#define METRICS_DISTANCES_H

#include <math.h>

#include "engine/engine.h"
#include "metrics/feature_rows.h"

enum { DISTANCES_ROWS = 128, DISTANCES_COLUMNS = 1024 };

// Squared Euclidean distance in double, of the numbers as they are.
double distance_exact(const float *a, const float *b, int width);

// Vectors `first` .. `first + n - 1` of a set, `rows`, against `columns` of another.
typedef struct DistanceTile {
    const FeatureRows *rows, *columns;
    int64_t first_row, first_column;
    int n_rows, n_columns;
    const float *products;                  // (n_rows, DISTANCES_COLUMNS) of vectors less a common centre
    const double *row_norms, *column_norms; // squared, of the same
    double share;                           // the estimate is off by no more than this share of the two norms' sum
} DistanceTile;

// The estimate of row i and column j of the tile, and how far off it may be at most: any distance where single
// precision overflowed.
static inline double distance_estimate(const DistanceTile *tile, int i, int j, double *error) {
    const double norms = tile->row_norms[i] + tile->column_norms[j];
    const float product = tile->products[(size_t)i * DISTANCES_COLUMNS + (size_t)j];
    *error = isfinite(product) ? tile->share * norms : INFINITY;
    return isfinite(product) ? norms - 2 * (double)product : 0;
}

// Calls `visit` with every tile of rows x columns: a block of rows against all columns, then the next block. Progress
// under the name `task`, and cancellation, through the context. Both sets have the same width and are not empty.
typedef void (*DistanceVisit)(void *user, const DistanceTile *tile);
KinditStatus distances_visit(KinditContext *ctx, Engine *engine, const FeatureRows *rows, const FeatureRows *columns,
                             const char *task, DistanceVisit visit, void *user);

#endif
