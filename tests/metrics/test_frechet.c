// Statistics and Frechet distances against numpy, pytorch-fid and torch-fidelity (tests/golden/metrics/make.py).
#include <math.h>

#include "base/rng.h"
#include "metrics/frechet.h"
#include "metrics/golden_arrays.h"

enum { WIDTH = 24 };

// No LAPACK, no statistics: other builds have nothing to test.
static bool has_statistics(KinditContext *ctx) {
    Statistics a = {0};
    const float zeros[1] = {0};
    const float *pointers[2] = {zeros, zeros};
    KinditStatus status = statistics_of_rows(&a, ctx, &(FeatureRows){2, 1, pointers});
    statistics_close(&a);
    if (status != KINDIT_ERROR_UNSUPPORTED) return true;
    print_message("skipped: %s\n", kindit_context_message(ctx));
    return false;
}

// Double sums of 700 numbers in another order: 1e-12. The vectors around 1000 with a deviation of 0.01 lose nothing of
// it, since the mean is taken off first; numpy does the same.
static void check_statistics(Scratch *scratch, const char *name, const Statistics *found) {
    double *expected = calloc((size_t)found->d * (size_t)found->d, sizeof *expected);
    char key[64];
    snprintf(key, sizeof key, "%s_mean", name);
    golden_doubles(scratch, "metrics/frechet.npz", key, (size_t)found->d, expected);
    for (int i = 0; i < found->d; i++) assert_close(found->mean[i], expected[i], 1e-12);
    snprintf(key, sizeof key, "%s_covariance", name);
    golden_doubles(scratch, "metrics/frechet.npz", key, (size_t)found->d * (size_t)found->d, expected);
    double largest = 0;
    for (int i = 0; i < found->d; i++) largest = fmax(largest, expected[i * found->d + i]);
    for (int i = 0; i < found->d * found->d; i++)
        assert_float_equal(found->covariance[i] / largest, expected[i] / largest, 1e-11);
    free(expected);
}

static FrechetResult measure(Scratch *scratch, const char *name) {
    char key[2][64];
    Statistics statistics[2];
    FrechetResult result;
    for (int s = 0; s < 2; s++) {
        snprintf(key[s], sizeof key[s], "%s_%c", name, 'a' + s);
        GoldenRows golden = golden_rows(scratch, "metrics/frechet.npz", key[s]);
        assert_ok(scratch->ctx, statistics_of_rows(&statistics[s], scratch->ctx, &golden.rows));
        if (s == 0) check_statistics(scratch, name, &statistics[0]);
        golden_rows_close(&golden);
    }
    assert_ok(scratch->ctx, frechet_distance(&result, scratch->ctx, &statistics[0], &statistics[1]));
    for (int s = 0; s < 2; s++) statistics_close(&statistics[s]);
    return result;
}

// The reference programs go by a square root or by eigenvalues of S1 S2, which is not symmetric: they agree with each
// other to 1e-14, and where ranks are deficient to 3e-9 (square roots of rounding).
static void test_equals_reference_programs(void **state) {
    Scratch *scratch = *state;
    const struct {
        const char *name;
        double tolerance;
        int ranks[2];
    } cases[] = {{"full", 1e-12, {24, 24}}, {"few", 1e-7, {14, 19}}, {"shifted", 1e-9, {12, 12}}};
    if (!has_statistics(scratch->ctx)) return;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char key[64];
        double expected[2];
        FrechetResult result = measure(scratch, cases[i].name);
        snprintf(key, sizeof key, "%s_distances", cases[i].name);
        size_t n = golden_doubles(scratch, "metrics/frechet.npz", key, 1, expected);
        if (n == 2) golden_doubles(scratch, "metrics/frechet.npz", key, 2, expected);
        for (size_t p = 0; p < n; p++) assert_close(result.distance, expected[p], cases[i].tolerance);
        for (int s = 0; s < 2; s++) assert_int_equal(result.rank[s], cases[i].ranks[s]);
    }
}

static float *random_vectors(int64_t n, int width, uint64_t seed, const float ***pointers) {
    float *values = calloc((size_t)(n * width), sizeof *values);
    *pointers = calloc((size_t)n, sizeof **pointers);
    rng_fill_normal((RngKey){.seed = seed, .purpose = RNG_TEST}, values, (size_t)(n * width));
    for (int64_t i = 0; i < n; i++) (*pointers)[i] = values + i * width;
    return values;
}

// Of two normal distributions with diagonal covariances the distance is known. From the definition, in closed form.
static void test_closed_form(void **state) {
    KinditContext *ctx = ((Scratch *)*state)->ctx;
    double mean[2][3] = {{0, 1, 2}, {1, 1, 0}};
    double covariance[2][9] = {{4, 0, 0, 0, 1, 0, 0, 0, 9}, {1, 0, 0, 0, 0, 0, 0, 0, 4}};
    Statistics a = {3, 10, mean[0], covariance[0]}, b = {3, 10, mean[1], covariance[1]};
    FrechetResult result;
    if (!has_statistics(ctx)) return;
    assert_ok(ctx, frechet_distance(&result, ctx, &a, &b));
    assert_close(result.mean_term, 5, 1e-15);
    assert_close(result.covariance_term, 1 + 1 + 1, 1e-14); // sum of (s1 - s2)^2
    assert_int_equal(result.rank[0], 3);
    assert_int_equal(result.rank[1], 2);
    assert_ok(ctx, frechet_distance(&result, ctx, &a, &a));
    assert_true(result.distance >= 0 && result.distance < 1e-13);
}

// The same vectors by ones or at once, whatever came before: the same bits, and the definition's covariance.
static void test_stream_is_deterministic(void **state) {
    KinditContext *ctx = ((Scratch *)*state)->ctx;
    const float **pointers;
    const int64_t sizes[] = {2, 3, 255, 256, 257, 700};
    StatisticsStream *stream;
    if (!has_statistics(ctx)) return;
    float *values = random_vectors(700, WIDTH, 3, &pointers);
    assert_ok(ctx, statistics_stream_create(&stream, ctx, WIDTH));
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        const int64_t n = sizes[s];
        Statistics whole, again;
        assert_ok(ctx, statistics_of_rows(&whole, ctx, &(FeatureRows){n, WIDTH, pointers}));
        for (int64_t i = 0; i < n; i++) assert_ok(ctx, statistics_stream_add(stream, pointers[i]));
        assert_ok(ctx, statistics_stream_finish(stream, &again));
        assert_memory_equal(whole.mean, again.mean, sizeof(double) * WIDTH);
        assert_memory_equal(whole.covariance, again.covariance, sizeof(double) * WIDTH * WIDTH);
        for (int i = 0; i < WIDTH; i++)
            for (int j = 0; j < WIDTH; j++) {
                double sum = 0;
                for (int64_t r = 0; r < n; r++)
                    sum += (pointers[r][i] - whole.mean[i]) * (pointers[r][j] - whole.mean[j]);
                assert_float_equal(whole.covariance[i * WIDTH + j], sum / (double)(n - 1), 1e-12);
            }
        statistics_close(&whole);
        statistics_close(&again);
    }
    statistics_stream_close(&stream);
    free(values);
    free(pointers);
}

// Features of a fixed sum, as those of a layer norm are, vary in one direction less than there are: floats far from 0
// lose it by their rounding, which is no variance of the images.
static void test_rank_of_dependent_features(void **state) {
    KinditContext *ctx = ((Scratch *)*state)->ctx;
    const float offsets[] = {0, 1000};
    if (!has_statistics(ctx)) return;
    for (size_t o = 0; o < sizeof offsets / sizeof *offsets; o++) {
        const float **pointers;
        Statistics statistics;
        FrechetResult result;
        float *values = random_vectors(300, WIDTH, 7, &pointers);
        for (int64_t i = 0; i < 300; i++) {
            float mean = 0;
            for (int j = 0; j < WIDTH; j++) mean += values[i * WIDTH + j] / WIDTH;
            for (int j = 0; j < WIDTH; j++) values[i * WIDTH + j] += (j % 2 ? -1 : 1) * offsets[o] - mean;
        }
        assert_ok(ctx, statistics_of_rows(&statistics, ctx, &(FeatureRows){300, WIDTH, pointers}));
        assert_ok(ctx, frechet_distance(&result, ctx, &statistics, &statistics));
        for (int s = 0; s < 2; s++) assert_int_equal(result.rank[s], WIDTH - 1);
        statistics_close(&statistics);
        free(values);
        free(pointers);
    }
}

static void test_edges(void **state) {
    KinditContext *ctx = ((Scratch *)*state)->ctx;
    const float **pointers;
    Statistics a, b;
    FrechetResult result;
    if (!has_statistics(ctx)) return;
    float *values = random_vectors(4, WIDTH, 5, &pointers);
    assert_fails(ctx, statistics_of_rows(&a, ctx, &(FeatureRows){1, WIDTH, pointers}), KINDIT_ERROR_ARGUMENT,
                 "at least 2 images, found 1");
    assert_ok(ctx, statistics_of_rows(&a, ctx, &(FeatureRows){4, WIDTH, pointers}));
    assert_ok(ctx, statistics_of_rows(&b, ctx, &(FeatureRows){4, WIDTH - 1, pointers}));
    assert_fails(ctx, frechet_distance(&result, ctx, &a, &b), KINDIT_ERROR_ARGUMENT, "24 and 23 features");
    statistics_close(&b);
    const float *same[3] = {pointers[0], pointers[0], pointers[0]}; // identical images: a covariance of rank 0
    assert_ok(ctx, statistics_of_rows(&b, ctx, &(FeatureRows){3, WIDTH, same}));
    assert_ok(ctx, frechet_distance(&result, ctx, &a, &b));
    assert_int_equal(result.rank[1], 0);
    assert_true(result.covariance_term > 0 && isfinite(result.distance));
    b.covariance[0] = -1;
    assert_fails(ctx, frechet_distance(&result, ctx, &a, &b), KINDIT_ERROR_NUMERIC,
                 "statistics of the reference: no covariance");
    b.covariance[0] = NAN;
    assert_fails(ctx, frechet_distance(&result, ctx, &a, &b), KINDIT_ERROR_NUMERIC, "not finite");
    values[WIDTH + 7] = NAN;
    statistics_close(&b);
    assert_fails(ctx, statistics_of_rows(&b, ctx, &(FeatureRows){4, WIDTH, pointers}), KINDIT_ERROR_NUMERIC,
                 "feature 7 of image 1 is NaN");
    statistics_close(&a);
    free(values);
    free(pointers);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        scratch_test(test_equals_reference_programs),
        scratch_test(test_closed_form),
        scratch_test(test_stream_is_deterministic),
        scratch_test(test_rank_of_dependent_features),
        scratch_test(test_edges),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
