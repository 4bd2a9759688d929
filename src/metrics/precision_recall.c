#include "metrics/precision_recall.h"

#include <math.h>

#include "base/memory.h"
#include "metrics/distances.h"

// ---- radii: the distance to the k-th nearest neighbour -------------------------------------------------------------

typedef struct Radii {
    int threads, k;
    double *nearest; // (n, k), rising in each row; the last is the radius
} Radii;

static void insert(double *nearest, int k, double distance) {
    int at = k - 1;
    for (; at > 0 && nearest[at - 1] > distance; at--) nearest[at] = nearest[at - 1];
    nearest[at] = distance;
}

// What may be nearer than the k-th so far is measured exactly; few are.
static void visit_radii(void *user, const DistanceTile *tile) {
    const Radii *radii = user;
#pragma omp parallel for num_threads(radii->threads) schedule(static)
    for (int i = 0; i < tile->n_rows; i++) {
        const int64_t row = tile->first_row + i;
        double *nearest = radii->nearest + (size_t)row * (size_t)radii->k;
        for (int j = 0; j < tile->n_columns; j++) {
            double error;
            const int64_t column = tile->first_column + j;
            if (column == row || distance_estimate(tile, i, j, &error) - error > nearest[radii->k - 1]) continue;
            const double distance =
                distance_exact(tile->rows->row[row], tile->columns->row[column], tile->columns->width);
            if (distance < nearest[radii->k - 1]) insert(nearest, radii->k, distance);
        }
    }
}

static KinditStatus find_radii(Radii *radii, KinditContext *ctx, Engine *engine, const FeatureRows *set,
                               const char *task) {
    TRY(memory_alloc(ctx, (size_t)set->n, (size_t)radii->k * sizeof *radii->nearest, &radii->nearest));
    for (int64_t i = 0; i < set->n * radii->k; i++) radii->nearest[i] = INFINITY;
    return distances_visit(ctx, engine, set, set, task, visit_radii, radii);
}

// ---- cover: what share of vectors lies in one of the balls ---------------------------------------------------------

typedef struct Cover {
    const Radii *radii; // of the columns
    bool strict;
    bool *inside; // [rows]
} Cover;

static bool in_ball(const Cover *cover, double distance, double radius) {
    return cover->strict ? distance < radius : distance <= radius;
}

static void visit_cover(void *user, const DistanceTile *tile) {
    const Cover *cover = user;
    const int k = cover->radii->k;
#pragma omp parallel for num_threads(cover->radii->threads) schedule(static)
    for (int i = 0; i < tile->n_rows; i++) {
        const int64_t row = tile->first_row + i;
        for (int j = 0; j < tile->n_columns && !cover->inside[row]; j++) {
            const int64_t column = tile->first_column + j;
            const double radius = cover->radii->nearest[(size_t)(column + 1) * (size_t)k - 1];
            double error, distance = distance_estimate(tile, i, j, &error);
            if (distance - error > radius) continue;
            if (distance + error >= radius)
                distance = distance_exact(tile->rows->row[row], tile->columns->row[column], tile->columns->width);
            cover->inside[row] = in_ball(cover, distance, radius);
        }
    }
}

static KinditStatus find_cover(double *share, KinditContext *ctx, Engine *engine, const FeatureRows *rows,
                               const FeatureRows *balls, const Radii *radii, bool strict, const char *task) {
    Cover cover = {.radii = radii, .strict = strict};
    int64_t inside = 0;
    TRY(memory_alloc(ctx, (size_t)rows->n, sizeof *cover.inside, &cover.inside));
    KinditStatus status = distances_visit(ctx, engine, rows, balls, task, visit_cover, &cover);
    for (int64_t i = 0; i < rows->n; i++) inside += cover.inside[i];
    *share = (double)inside / (double)rows->n;
    memory_free(&cover.inside);
    return status;
}

// ---- both ----------------------------------------------------------------------------------------------------------

static KinditStatus check_set(KinditContext *ctx, const FeatureRows *set, int k, const char *which) {
    if (set->n <= k)
        return context_fail(ctx, KINDIT_ERROR_ARGUMENT,
                            "%lld %s cannot each have %d neighbours: at least %d are needed", (long long)set->n, which,
                            k, k + 1);
    for (int64_t r = 0; r < set->n; r++)
        for (int i = 0; i < set->width; i++)
            if (!isfinite(set->row[r][i]))
                return context_fail(ctx, KINDIT_ERROR_NUMERIC, "feature %d of number %lld of the %s is not finite", i,
                                    (long long)r, which);
    return KINDIT_OK;
}

KinditStatus precision_recall(PrecisionRecall *out, KinditContext *ctx, Engine *engine, const FeatureRows *reference,
                              const FeatureRows *samples, PrecisionRecallSettings settings) {
    *out = (PrecisionRecall){0};
    if (settings.k < 1 || settings.k > PRECISION_RECALL_MAX_K)
        return context_fail(ctx, KINDIT_ERROR_ARGUMENT, "k is %d, expected 1 to %d", settings.k,
                            PRECISION_RECALL_MAX_K);
    if (reference->width != samples->width)
        return context_fail(ctx, KINDIT_ERROR_ARGUMENT,
                            "the sets have %d and %d features: both must come from the same network", reference->width,
                            samples->width);
    TRY(check_set(ctx, reference, settings.k, "reference images"));
    TRY(check_set(ctx, samples, settings.k, "samples"));
    Radii of_reference = {engine_threads(engine), settings.k, NULL}, of_samples = of_reference;
    KinditStatus status = find_radii(&of_reference, ctx, engine, reference, "neighbours of references");
    if (!status) status = find_radii(&of_samples, ctx, engine, samples, "neighbours of samples");
    if (!status)
        status =
            find_cover(&out->precision, ctx, engine, samples, reference, &of_reference, settings.strict, "precision");
    if (!status)
        status = find_cover(&out->recall, ctx, engine, reference, samples, &of_samples, settings.strict, "recall");
    memory_free(&of_reference.nearest);
    memory_free(&of_samples.nearest);
    return status;
}
