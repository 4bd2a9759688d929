// Images through a network into features and figures, with a network small enough to check by hand.
#include <math.h>

#include "base/rng.h"
#include "cancelling.h"
#include "metrics/evaluate.h"
#include "metrics/extract.h"
#include "scratch.h"

enum { SIDE = 8, FEATURES = 4, SPATIAL = 2, LOGITS = 3 };

// Means of the quadrants; of the halves; and logits that grow with each quadrant but the last.
static KinditStatus run_quadrants(VisionNetwork *network, const float *images, int n, const VisionOutput *out) {
    (void)network;
    for (int i = 0; i < n; i++) {
        const float *image = images + (size_t)i * SIDE * SIDE;
        float quadrant[FEATURES] = {0};
        for (int y = 0; y < SIDE; y++)
            for (int x = 0; x < SIDE; x++) quadrant[y / (SIDE / 2) * 2 + x / (SIDE / 2)] += image[y * SIDE + x] / 16;
        if (out->features) memcpy(out->features + (size_t)i * FEATURES, quadrant, sizeof quadrant);
        for (int k = 0; k < SPATIAL && out->spatial; k++) out->spatial[i * SPATIAL + k] = quadrant[k] + quadrant[k + 2];
        for (int k = 0; k < LOGITS && out->logits; k++) out->logits[i * LOGITS + k] = 3 * quadrant[k];
    }
    return KINDIT_OK;
}

static const VisionKind quadrants = {.name = "quadrants", .run = run_quadrants};
static const int widths[FEATURE_KINDS] = {FEATURES, SPATIAL, LOGITS};

typedef struct Fixture {
    KinditContext *ctx;
    Engine *engine;
    VisionNetwork network;
    Extractor extractor;
    ImageSource *source;
} Fixture;

static void fixture_open(Fixture *f, Scratch *scratch, const char *images) {
    f->ctx = scratch->ctx;
    assert_ok(f->ctx, engine_create(&f->engine, f->ctx));
    f->network = (VisionNetwork){.ctx = f->ctx,
                                 .engine = f->engine,
                                 .kind = &quadrants,
                                 .info = {.name = "quadrants",
                                          .channels = 1,
                                          .input_size = SIDE,
                                          .n_features = FEATURES,
                                          .n_spatial = SPATIAL,
                                          .n_logits = LOGITS,
                                          .profile = PROFILE_NATIVE}};
    assert_ok(f->ctx, extractor_open(&f->extractor, f->ctx, f->engine, &f->network, PROFILE_NATIVE, widths));
    assert_ok(f->ctx, image_source_open(&f->source, f->ctx, images, SOURCE_TRAIN));
}

static void fixture_close(Fixture *f) {
    extractor_close(&f->extractor);
    image_source_close(&f->source);
    engine_close(&f->engine);
}

// `n` grey images of two classes in a batch with labels but no class ids.
static const char *write_batch(Scratch *scratch, const char *name, int64_t n, bool sorted, uint64_t seed) {
    uint8_t *pixels = calloc((size_t)n, SIDE * SIDE);
    int64_t *labels = calloc((size_t)n, sizeof *labels);
    RngKey key = {.seed = seed, .purpose = RNG_TEST};
    for (int64_t i = 0; i < n * SIDE * SIDE; i++) pixels[i] = (uint8_t)rng_below(key, (uint32_t)i, 256);
    for (int64_t i = 0; i < n; i++) labels[i] = sorted ? i >= n / 2 : i % 2;
    const Tensor arrays[2] = {
        {.name = "arr_0", .dtype = DTYPE_U8, .n_dims = 4, .shape = {n, SIDE, SIDE, 1}, .data = pixels},
        {.name = "arr_1", .dtype = DTYPE_I64, .n_dims = 1, .shape = {n}, .data = labels},
    };
    const char *path = scratch_path(scratch, name);
    assert_ok(scratch->ctx, npz_write(scratch->ctx, path, arrays, 2));
    free(pixels);
    free(labels);
    return path;
}

static void check_equal(const FeatureSet *a, const FeatureSet *b) {
    assert_int_equal(feature_set_count(a), feature_set_count(b));
    for (int k = 0; k < FEATURE_KINDS; k++) {
        FeatureRows rows[2];
        assert_int_equal(feature_set_rows(&rows[0], a, (FeatureKind)k, NULL, feature_set_count(a)), KINDIT_OK);
        assert_int_equal(feature_set_rows(&rows[1], b, (FeatureKind)k, NULL, feature_set_count(a)), KINDIT_OK);
        for (int64_t i = 0; i < rows[0].n; i++) {
            assert_memory_equal(rows[0].row[i], rows[1].row[i], (size_t)widths[k] * sizeof(float));
            assert_int_equal(feature_set_label(a, i), feature_set_label(b, i));
        }
        feature_rows_close(&rows[0]);
        feature_rows_close(&rows[1]);
    }
}

// ---- stopping and going on -----------------------------------------------------------------------------------------

// Cut short at many places, in parts of its own sizes, a folder ends up with what one run in memory has.
static void test_goes_on_where_it_was(void **state) {
    Scratch *scratch = *state;
    const int64_t n = 1100;
    char folder[1024];
    Fixture f;
    FeatureSet *memory, *parts;
    fixture_open(&f, scratch, write_batch(scratch, "images.npz", n, false, 1));
    snprintf(folder, sizeof folder, "%s", scratch_path(scratch, "cache/features"));
    assert_ok(f.ctx, feature_set_open(&memory, f.ctx, widths, NULL, "recipe"));
    assert_ok(f.ctx, extract_source(memory, &f.extractor, f.source, "test"));
    f.ctx->settings.cancelled = cancel_later;
    KinditStatus status = KINDIT_CANCELLED;
    for (int round = 1; status == KINDIT_CANCELLED; round++) {
        polls_left = 2 * round;
        assert_ok(f.ctx, feature_set_open(&parts, f.ctx, widths, folder, "recipe"));
        status = extract_source(parts, &f.extractor, f.source, "test");
        if (status) feature_set_close(&parts);
        assert_true(round < 20);
    }
    assert_int_equal(status, KINDIT_OK);
    check_equal(memory, parts);
    feature_set_close(&parts);
    f.ctx->settings.cancelled = NULL;
    assert_ok(f.ctx, feature_set_open(&parts, f.ctx, widths, folder, "recipe")); // all of it is there
    check_equal(memory, parts);
    feature_set_close(&parts);
    feature_set_close(&memory);
    assert_fails(f.ctx, feature_set_open(&parts, f.ctx, widths, folder, "another"), KINDIT_ERROR_FORMAT,
                 "other images or another network");
    const int others[FEATURE_KINDS] = {FEATURES + 1, 0, 0};
    assert_fails(f.ctx, feature_set_open(&parts, f.ctx, others, folder, "recipe"), KINDIT_ERROR_FORMAT, "features");
    fixture_close(&f);
}

// ---- figures -------------------------------------------------------------------------------------------------------

static EvaluateRequest request_of(const FeatureSet *samples, const FeatureSet *reference) {
    EvaluateRequest request = {.samples = {samples, NULL, feature_set_count(samples)},
                               .reference = {reference, NULL, reference ? feature_set_count(reference) : 0}};
    evaluate_conventions(PROFILE_NATIVE, &request);
    request.metrics = evaluate_possible(&request);
    return request;
}

static bool says(const Evaluation *evaluation, const char *text) {
    char limits[EVALUATE_LIMITS][EVALUATE_LIMIT_SIZE];
    const int n = evaluate_limits(evaluation, limits);
    for (int i = 0; i < n; i++)
        if (strstr(limits[i], text)) return true;
    return false;
}

static void test_all_metrics(void **state) {
    Scratch *scratch = *state;
    Fixture f, g;
    FeatureSet *samples, *reference;
    Evaluation found;
    fixture_open(&f, scratch, write_batch(scratch, "samples.npz", 200, true, 2));
    fixture_open(&g, scratch, write_batch(scratch, "reference.npz", 300, false, 3));
    assert_ok(f.ctx, feature_set_open(&samples, f.ctx, widths, NULL, ""));
    assert_ok(f.ctx, feature_set_open(&reference, f.ctx, widths, NULL, ""));
    assert_ok(f.ctx, extract_source(samples, &f.extractor, f.source, "test"));
    assert_ok(f.ctx, extract_source(reference, &g.extractor, g.source, "test"));
    EvaluateRequest request = request_of(samples, reference);
    assert_int_equal(request.metrics, 31);
    assert_ok(f.ctx, evaluate(&found, f.ctx, f.engine, &request));
    assert_int_equal(found.n_samples, 200);
    assert_int_equal(found.n_reference, 300);
    assert_true(found.frechet.distance > 0 && found.frechet.distance < 0.01); // the same distribution
    assert_true(found.spatial.distance > 0 && found.spatial.distance < 0.01);
    assert_true(found.precision_recall.precision > 0.8 && found.precision_recall.recall > 0.8);
    assert_true(found.score.mean > 1 && found.score.mean < LOGITS && found.probability.entropy < log(LOGITS));
    assert_true(says(&found, "200 samples and 300 reference images"));
    assert_false(found.dealt);
    request.splits = (ScoreSplits){.size = 100}; // one class a part, were they not dealt out
    assert_ok(f.ctx, evaluate(&found, f.ctx, f.engine, &request));
    assert_true(found.dealt && says(&found, "dealt out to the 2 parts"));
    // Statistics of the reference in its place: the same distance, and no neighbours.
    StatisticsFile file = {0};
    FeatureRows rows;
    assert_ok(f.ctx, feature_set_rows(&rows, reference, FEATURE_POOLED, NULL, 300));
    assert_ok(f.ctx, statistics_of_rows(&file.features, f.ctx, &rows));
    const double distance = found.frechet.distance;
    request.reference.set = NULL;
    request.statistics = &file;
    assert_fails(f.ctx, evaluate(&found, f.ctx, f.engine, &request), KINDIT_ERROR_ARGUMENT, "sFID: needs");
    request.metrics = METRIC_FRECHET | METRIC_PRECISION_RECALL;
    assert_fails(f.ctx, evaluate(&found, f.ctx, f.engine, &request), KINDIT_ERROR_ARGUMENT,
                 "which statistics cannot stand for");
    request.metrics = evaluate_possible(&request);
    assert_int_equal(request.metrics, METRIC_FRECHET | METRIC_SCORE | METRIC_PROBABILITY);
    assert_ok(f.ctx, evaluate(&found, f.ctx, f.engine, &request));
    assert_true(found.frechet.distance == distance);
    feature_rows_close(&rows);
    statistics_file_close(&file);
    feature_set_close(&samples);
    feature_set_close(&reference);
    fixture_close(&f);
    fixture_close(&g);
}

// A part of a set is measured as the same images in a set of their own.
static void test_parts_and_limits(void **state) {
    Scratch *scratch = *state;
    Fixture f;
    FeatureSet *set;
    Evaluation found, same;
    int64_t order[4] = {17, 3, 40, 41};
    fixture_open(&f, scratch, write_batch(scratch, "images.npz", 64, false, 4));
    assert_ok(f.ctx, feature_set_open(&set, f.ctx, widths, NULL, ""));
    assert_ok(f.ctx, extract_source(set, &f.extractor, f.source, "test"));
    EvaluateRequest request = request_of(set, set);
    request.samples = (EvaluatePart){set, order, 4};
    assert_ok(f.ctx, evaluate(&found, f.ctx, f.engine, &request));
    assert_true(says(&found, "4 samples for 4 features: the covariance has rank 3"));
    assert_true(found.precision_recall.precision == 1); // each is a reference image
    int64_t alike[5] = {9, 9, 9, 9, 9};
    request.samples = (EvaluatePart){set, alike, 5};
    assert_ok(f.ctx, evaluate(&same, f.ctx, f.engine, &request));
    assert_true(says(&same, "all samples are alike"));
    assert_true(fabs(same.score.mean - 1) < 1e-12);
    feature_set_close(&set);
    fixture_close(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        scratch_test(test_goes_on_where_it_was),
        scratch_test(test_all_metrics),
        scratch_test(test_parts_and_limits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
