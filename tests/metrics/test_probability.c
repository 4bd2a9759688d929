// Inception Score and probability statistics against torch-fidelity, ADM's formula and scipy.
#include <math.h>

#include "metrics/golden_arrays.h"
#include "metrics/inception_score.h"
#include "metrics/probability.h"

// Double throughout, on both sides: 1e-12.
static void test_inception_score_equals_reference_programs(void **state) {
    Scratch *scratch = *state;
    GoldenRows golden = golden_rows(scratch, "metrics/probability.npz", "logits");
    InceptionScore score;
    double expected[2];
    golden_doubles(scratch, "metrics/probability.npz", "adm", 2, expected);
    assert_ok(scratch->ctx, inception_score(&score, scratch->ctx, &golden.rows, (ScoreSplits){.size = 500}));
    assert_close(score.mean, expected[0], 1e-12);
    assert_int_equal(score.n_splits, 3);
    assert_ok(scratch->ctx, inception_score(&score, scratch->ctx, &golden.rows, (ScoreSplits){.size = 5000}));
    assert_close(score.mean, expected[1], 1e-12);
    assert_int_equal(score.n_splits, 1);
    assert_true(score.deviation == 0);
    golden_doubles(scratch, "metrics/probability.npz", "torch_fidelity", 2, expected);
    assert_ok(scratch->ctx, inception_score(&score, scratch->ctx, &golden.rows, (ScoreSplits){.n = 10}));
    assert_close(score.mean, expected[0], 1e-12);
    assert_close(score.deviation, expected[1], 1e-10);
    golden_rows_close(&golden);
}

static void test_probability_equals_scipy(void **state) {
    Scratch *scratch = *state;
    GoldenRows golden = golden_rows(scratch, "metrics/probability.npz", "logits");
    ProbabilityStatistics found;
    double expected[3];
    golden_doubles(scratch, "metrics/probability.npz", "statistics", 3, expected);
    assert_ok(scratch->ctx, probability_statistics(&found, scratch->ctx, &golden.rows));
    assert_close(found.entropy, expected[0], 1e-12);
    assert_close(found.variance, expected[1], 1e-12);
    assert_close(found.kurtosis, expected[2], 1e-12);
    golden_rows_close(&golden);
}

// A sure classifier has entropy 0, variance 1/K - 1/K^2 and the kurtosis of one in K; images of one class have score 1,
// images of K classes score K.
static void test_limits(void **state) {
    KinditContext *ctx = ((Scratch *)*state)->ctx;
    enum { K = 10 };
    float logits[K][K] = {{0}};
    const float *rows[K], *same[K];
    ProbabilityStatistics found;
    InceptionScore score;
    for (int i = 0; i < K; i++) {
        logits[i][i] = 2000; // its exponential alone would overflow
        rows[i] = logits[i];
        same[i] = logits[0];
    }
    assert_ok(ctx, probability_statistics(&found, ctx, &(FeatureRows){K, K, rows}));
    assert_true(fabs(found.entropy) < 1e-12);
    assert_close(found.variance, 1.0 / K - 1.0 / K / K, 1e-12);
    const double q = 1.0 / K, second = q - q * q, fourth = q * pow(1 - q, 4) + (1 - q) * pow(q, 4);
    assert_close(found.kurtosis, fourth / (second * second) - 3, 1e-12);
    assert_ok(ctx, inception_score(&score, ctx, &(FeatureRows){K, K, rows}, (ScoreSplits){.size = 5000}));
    assert_close(score.mean, K, 1e-12);
    assert_ok(ctx, inception_score(&score, ctx, &(FeatureRows){K, K, same}, (ScoreSplits){.size = 5000}));
    assert_close(score.mean, 1, 1e-12);
}

static void test_edges(void **state) {
    KinditContext *ctx = ((Scratch *)*state)->ctx;
    float logits[2][3] = {{1, 2, 3}, {1, 1, 1}};
    const float *rows[2] = {logits[0], logits[1]};
    ProbabilityStatistics found;
    InceptionScore score;
    assert_fails(ctx, probability_statistics(&found, ctx, &(FeatureRows){2, 3, rows}), KINDIT_ERROR_NUMERIC,
                 "image 1: all classes are equally likely");
    assert_fails(ctx, probability_statistics(&found, ctx, &(FeatureRows){0, 3, rows}), KINDIT_ERROR_ARGUMENT,
                 "an image");
    assert_fails(ctx, inception_score(&score, ctx, &(FeatureRows){2, 3, rows}, (ScoreSplits){.n = 10}),
                 KINDIT_ERROR_ARGUMENT, "10 parts of 2 images");
    logits[1][2] = INFINITY;
    assert_fails(ctx, inception_score(&score, ctx, &(FeatureRows){2, 3, rows}, (ScoreSplits){.size = 1}),
                 KINDIT_ERROR_NUMERIC, "logit of image 1 is not finite");
    assert_fails(ctx, probability_statistics(&found, ctx, &(FeatureRows){2, 3, rows}), KINDIT_ERROR_NUMERIC,
                 "logit of image 1 is not finite");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        scratch_test(test_inception_score_equals_reference_programs),
        scratch_test(test_probability_equals_scipy),
        scratch_test(test_limits),
        scratch_test(test_edges),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
