// Precision and recall against ADM's and dgm-eval's formulas and torch-fidelity; blocked search against brute force.
#include <math.h>

#include "base/rng.h"
#include "metrics/distances.h"
#include "metrics/golden_arrays.h"
#include "metrics/precision_recall.h"

static const PrecisionRecallSettings adm = {.k = 3}, dgm_eval = {.k = 5, .strict = true};

static PrecisionRecall measure(KinditContext *ctx, const FeatureRows *reference, const FeatureRows *samples,
                               PrecisionRecallSettings settings) {
    Engine *engine;
    PrecisionRecall found;
    assert_ok(ctx, engine_create(&engine, ctx));
    assert_ok(ctx, precision_recall(&found, ctx, engine, reference, samples, settings));
    engine_close(&engine);
    return found;
}

// Shares of counts, equal or wrong by 1e-3 at least; torch-fidelity says them in single precision.
static void check(Scratch *scratch, const char *name, const char *program, PrecisionRecallSettings settings) {
    char key[64];
    double expected[2];
    snprintf(key, sizeof key, "%s_reference", name);
    GoldenRows reference = golden_rows(scratch, "metrics/precision_recall.npz", key);
    snprintf(key, sizeof key, "%s_samples", name);
    GoldenRows samples = golden_rows(scratch, "metrics/precision_recall.npz", key);
    snprintf(key, sizeof key, "%s_%s", name, program);
    golden_doubles(scratch, "metrics/precision_recall.npz", key, 2, expected);
    PrecisionRecall found = measure(scratch->ctx, &reference.rows, &samples.rows, settings);
    assert_close(found.precision, expected[0], 1e-6);
    assert_close(found.recall, expected[1], 1e-6);
    golden_rows_close(&reference);
    golden_rows_close(&samples);
}

static void test_equals_reference_programs(void **state) {
    Scratch *scratch = *state;
    const char *const names[] = {"smooth", "ties"};
    for (size_t i = 0; i < 2; i++) {
        check(scratch, names[i], "adm", adm);
        check(scratch, names[i], "torch_fidelity", adm);
        check(scratch, names[i], "dgm_eval", dgm_eval);
    }
}

// ---- brute force ---------------------------------------------------------------------------------------------------

static int compare_doubles(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double radius_of(const FeatureRows *set, int64_t i, int k) {
    double *distances = calloc((size_t)set->n, sizeof *distances);
    for (int64_t j = 0; j < set->n; j++) distances[j] = distance_exact(set->row[i], set->row[j], set->width);
    qsort(distances, (size_t)set->n, sizeof *distances, compare_doubles);
    const double radius = distances[k]; // its own, 0, stands first
    free(distances);
    return radius;
}

static double cover_of(const FeatureRows *rows, const FeatureRows *balls, PrecisionRecallSettings settings) {
    bool *inside = calloc((size_t)rows->n, sizeof *inside);
    int64_t n = 0;
    for (int64_t j = 0; j < balls->n; j++) {
        const double radius = radius_of(balls, j, settings.k);
        for (int64_t i = 0; i < rows->n; i++) {
            const double distance = distance_exact(rows->row[i], balls->row[j], rows->width);
            if (settings.strict ? distance < radius : distance <= radius) inside[i] = true;
        }
    }
    for (int64_t i = 0; i < rows->n; i++) n += inside[i];
    free(inside);
    return (double)n / (double)rows->n;
}

typedef struct Set {
    float *values;
    const float **pointers;
    FeatureRows rows;
} Set;

// Coarse numbers far from the origin: many distances are alike, and products lose digits that a comparison needs.
static Set random_set(int64_t n, int width, uint64_t seed) {
    Set set = {calloc((size_t)(n * width), sizeof(float)), calloc((size_t)n, sizeof(float *)), {n, width, NULL}};
    RngKey key = {.seed = seed, .purpose = RNG_TEST};
    for (int64_t i = 0; i < n * width; i++)
        set.values[i] =
            100 + (float)rng_below(key, (uint32_t)i, 5) + (i % 3 ? 0 : 0.001F * (float)rng_below(key, (uint32_t)i, 7));
    for (int64_t i = 0; i < n; i++) set.pointers[i] = set.values + i * width;
    for (int64_t i = 0; i + 1 < n; i += 9) set.pointers[i + 1] = set.pointers[i];
    set.rows.row = set.pointers;
    return set;
}

static void close_set(Set *set) {
    free(set->values);
    free(set->pointers);
}

static void test_equals_brute_force(void **state) {
    KinditContext *ctx = ((Scratch *)*state)->ctx;
    const struct {
        int64_t n_reference, n_samples;
        int width;
    } shapes[] = {{4, 5, 1},
                  {DISTANCES_ROWS, 7, 3},
                  {DISTANCES_ROWS + 1, 130, 9},
                  {DISTANCES_COLUMNS + 3, 40, 17},
                  {60, 300, 40}};
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)
        for (int strict = 0; strict < 2; strict++) {
            const PrecisionRecallSettings settings = {.k = 3, .strict = strict};
            Set reference = random_set(shapes[s].n_reference, shapes[s].width, 2 * s);
            Set samples = random_set(shapes[s].n_samples, shapes[s].width, 2 * s + 1);
            PrecisionRecall found = measure(ctx, &reference.rows, &samples.rows, settings);
            assert_true(found.precision == cover_of(&samples.rows, &reference.rows, settings));
            assert_true(found.recall == cover_of(&reference.rows, &samples.rows, settings));
            close_set(&reference);
            close_set(&samples);
        }
}

static void test_edges(void **state) {
    KinditContext *ctx = ((Scratch *)*state)->ctx;
    Set reference = random_set(20, 6, 1), samples = random_set(9, 6, 2);
    Engine *engine;
    PrecisionRecall found;
    assert_ok(ctx, engine_create(&engine, ctx));
    FeatureRows few = {3, 6, samples.pointers}, narrow = {9, 5, samples.pointers};
    assert_fails(ctx, precision_recall(&found, ctx, engine, &reference.rows, &few, adm), KINDIT_ERROR_ARGUMENT,
                 "3 samples cannot each have 3 neighbours");
    assert_fails(ctx, precision_recall(&found, ctx, engine, &reference.rows, &narrow, adm), KINDIT_ERROR_ARGUMENT,
                 "6 and 5 features");
    for (int64_t i = 0; i < 9; i++) samples.pointers[i] = reference.pointers[4]; // identical images
    assert_ok(ctx, precision_recall(&found, ctx, engine, &reference.rows, &samples.rows, adm));
    assert_true(found.precision == 1); // each is a reference image; balls of radius 0 hold the copies of that image
    assert_true(found.recall <= 2.0 / 20 && found.recall >= 1.0 / 20);
    assert_ok(ctx, precision_recall(&found, ctx, engine, &reference.rows, &samples.rows, dgm_eval));
    assert_true(found.recall == 0);                                // an open ball of radius 0 holds nothing
    for (int i = 0; i < 20 * 6; i++) reference.values[i] *= 1e25F; // products overflow, distances in double do not
    for (int i = 0; i < 9 * 6; i++) samples.values[i] *= 1e25F;
    for (int64_t i = 0; i < 9; i++) samples.pointers[i] = samples.values + i * 6;
    assert_ok(ctx, precision_recall(&found, ctx, engine, &reference.rows, &samples.rows, adm));
    assert_true(found.precision == cover_of(&samples.rows, &reference.rows, adm));
    assert_true(found.recall == cover_of(&reference.rows, &samples.rows, adm));
    reference.values[13] = NAN;
    assert_fails(ctx, precision_recall(&found, ctx, engine, &reference.rows, &samples.rows, adm), KINDIT_ERROR_NUMERIC,
                 "number 2 of the reference images is not finite");
    engine_close(&engine);
    close_set(&reference);
    close_set(&samples);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        scratch_test(test_equals_reference_programs),
        scratch_test(test_equals_brute_force),
        scratch_test(test_edges),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
