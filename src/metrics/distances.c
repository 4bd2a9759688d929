#include "metrics/distances.h"

#include <float.h>

#include "base/clock.h"
#include "base/memory.h"
#include "engine/simd.h"

enum { LANES = 8 };

// Partial sums side by side, which compilers turn into vectors without changing the order of anything.
ENGINE_CLONES double distance_exact(const float *a, const float *b, int width) {
    double sums[LANES] = {0}, sum = 0;
    int i = 0;
    for (; i + LANES <= width; i += LANES)
        for (int l = 0; l < LANES; l++) {
            const double difference = (double)a[i + l] - (double)b[i + l];
            sums[l] += difference * difference;
        }
    for (; i < width; i++) sum += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
    for (int l = 0; l < LANES; l++) sum += sums[l];
    return sum;
}

// A set less the centre, in tiles' order of use: engine memory for `most` vectors and their norms.
typedef struct Loaded {
    float *host, *vectors; // (most, width)
    double *norms;         // (most)
} Loaded;

typedef struct Visit {
    KinditContext *ctx;
    Engine *engine;
    int width;
    float *centre; // (width): mean of the columns, so that what all vectors share is not in the products
    Loaded rows, columns;
    float *product, *host; // (DISTANCES_ROWS, DISTANCES_COLUMNS)
} Visit;

static void close_visit(Visit *visit) {
    Loaded *const sets[2] = {&visit->rows, &visit->columns};
    for (int s = 0; s < 2; s++) {
        memory_free(&sets[s]->host);
        memory_free(&sets[s]->norms);
        engine_free(visit->engine, &sets[s]->vectors);
    }
    memory_free(&visit->centre);
    memory_free(&visit->host);
    engine_free(visit->engine, &visit->product);
}

static KinditStatus open_set(Visit *visit, Loaded *set, int most) {
    const size_t n = (size_t)most, width = (size_t)visit->width;
    TRY(memory_alloc(visit->ctx, n, width * sizeof(float), &set->host));
    TRY(memory_alloc(visit->ctx, n, sizeof(double), &set->norms));
    return engine_alloc(visit->engine, n * width, &set->vectors);
}

static KinditStatus find_centre(Visit *visit, const FeatureRows *set) {
    double *sum;
    TRY(memory_alloc(visit->ctx, (size_t)visit->width, sizeof *sum, &sum));
    for (int64_t r = 0; r < set->n; r++)
        for (int i = 0; i < visit->width; i++) sum[i] += set->row[r][i];
    for (int i = 0; i < visit->width; i++) visit->centre[i] = (float)(sum[i] / (double)set->n);
    memory_free(&sum);
    return KINDIT_OK;
}

static KinditStatus open_visit(Visit *visit, const FeatureRows *columns) {
    const size_t tile = (size_t)DISTANCES_ROWS * DISTANCES_COLUMNS;
    TRY(open_set(visit, &visit->rows, DISTANCES_ROWS));
    TRY(open_set(visit, &visit->columns, DISTANCES_COLUMNS));
    TRY(memory_alloc(visit->ctx, (size_t)visit->width, sizeof(float), &visit->centre));
    TRY(memory_alloc(visit->ctx, tile, sizeof(float), &visit->host));
    TRY(engine_alloc(visit->engine, tile, &visit->product));
    TRY(engine_reserve(visit->engine, engine_linear_scratch(DISTANCES_ROWS, visit->width, DISTANCES_COLUMNS)));
    return find_centre(visit, columns);
}

static int load(const Visit *visit, Loaded *set, const FeatureRows *from, int64_t first, int most) {
    const int n = from->n - first < most ? (int)(from->n - first) : most;
    for (int r = 0; r < n; r++) {
        float *vector = set->host + (size_t)r * (size_t)visit->width;
        double norm = 0;
        for (int i = 0; i < visit->width; i++) {
            vector[i] = from->row[first + r][i] - visit->centre[i];
            norm += (double)vector[i] * (double)vector[i];
        }
        set->norms[r] = norm;
    }
    engine_upload(visit->engine, set->vectors, set->host, (size_t)n * (size_t)visit->width);
    return n;
}

// All of DISTANCES_COLUMNS are multiplied (what lies beyond the set's end is from before), so that products lie in rows
// of one length. A sum of `width` products in any order is off by at most width * u of their absolute values' sum, u
// half of FLT_EPSILON; rounding of the centred vectors adds as much as two more.
static void compute_tile(const Visit *visit, DistanceTile *tile) {
    engine_linear_forward(visit->engine, tile->n_rows, visit->width, DISTANCES_COLUMNS,
                          activation_f32(visit->rows.vectors), visit->columns.vectors, NULL,
                          activation_f32(visit->product), NULL);
    engine_download(visit->engine, visit->host, visit->product, (size_t)tile->n_rows * DISTANCES_COLUMNS);
    tile->products = visit->host;
    tile->row_norms = visit->rows.norms;
    tile->column_norms = visit->columns.norms;
    tile->share = (visit->width + 8) * (double)FLT_EPSILON;
}

static KinditStatus visit_all(Visit *visit, const FeatureRows *rows, const FeatureRows *columns, const char *task,
                              DistanceVisit handle, void *user) {
    const double start = clock_seconds();
    for (int64_t r = 0; r < rows->n; r += DISTANCES_ROWS) {
        DistanceTile tile = {.rows = rows, .columns = columns, .first_row = r};
        tile.n_rows = load(visit, &visit->rows, rows, r, DISTANCES_ROWS);
        for (int64_t c = 0; c < columns->n; c += DISTANCES_COLUMNS) {
            tile.first_column = c;
            tile.n_columns = load(visit, &visit->columns, columns, c, DISTANCES_COLUMNS);
            compute_tile(visit, &tile);
            handle(user, &tile);
        }
        KinditProgress progress = {
            .task = task, .done = r + tile.n_rows, .total = rows->n, .seconds = clock_seconds() - start, .text = ""};
        context_progress(visit->ctx, &progress);
        if (context_cancelled(visit->ctx)) return context_fail(visit->ctx, KINDIT_CANCELLED, "cancelled");
    }
    return KINDIT_OK;
}

KinditStatus distances_visit(KinditContext *ctx, Engine *engine, const FeatureRows *rows, const FeatureRows *columns,
                             const char *task, DistanceVisit visit, void *user) {
    Visit state = {.ctx = ctx, .engine = engine, .width = columns->width};
    KinditStatus status = open_visit(&state, columns);
    if (!status) status = visit_all(&state, rows, columns, task, visit, user);
    close_visit(&state);
    return status;
}
