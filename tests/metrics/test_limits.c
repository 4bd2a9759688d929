// What is said beside figures: too few images, images that are alike, classes that are missing; and what is not.
#include "metrics/evaluate.h"
#include "scratch.h"

enum { WIDTH = 96 };

// Counts of images and ranks of their covariances (samples, reference), and what must be said of them; "" nothing.
static const struct {
    int64_t n[2];
    int rank[2];
    bool biased;
    const char *text;
} cases[] = {
    {{5000, 5000}, {96, 96}, false, ""},
    {{5000, 2048}, {95, 95}, false, ""}, // a layer norm's features depend on each other, in both
    {{97, 5000}, {96, 96}, false, "distances: 97 samples are fewer than 2048"},
    {{5000, 2047}, {96, 96}, false, "distances: 2047 reference images are fewer than 2048"},
    {{500, 0}, {95, 95}, false, "distances: 500 samples"},
    {{96, 5000}, {95, 96}, true, "96 samples for 96 features: the covariance has rank 95, and the distance is biased"},
    {{5000, 20}, {95, 19}, true, "20 reference images for 96 features: the covariance has rank 19"},
    {{5000, 0}, {95, 95}, false, ""}, // a file that does not say of how many
    {{5000, 0}, {95, 39}, true, "of the reference images has rank 39, that of the samples 95: of too few images"},
    {{20, 0}, {19, 95}, true, "20 samples for 96 features"},
    {{5000, 5000},
     {2, 95},
     false,
     "of the samples has rank 2, that of the reference images 95: many of them are alike"},
    {{5000, 5000}, {0, 95}, false, "all samples are alike to the network: their covariance is 0"},
    {{5000, 0}, {95, 0}, true, "all reference images are alike to the network"},
};

static void test_ranks(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (int spatial = 0; spatial < 2; spatial++) {
            char limits[EVALUATE_LIMITS][EVALUATE_LIMIT_SIZE];
            const FrechetResult found = {.rank = {cases[i].rank[0], cases[i].rank[1]}};
            const Evaluation evaluation = {.metrics = spatial ? METRIC_SPATIAL : METRIC_FRECHET,
                                           .n_samples = cases[i].n[0],
                                           .n_reference = cases[i].n[1],
                                           .n_features = WIDTH,
                                           .n_spatial = WIDTH,
                                           .frechet = found,
                                           .spatial = found};
            const int n = evaluate_limits(&evaluation, limits);
            assert_int_equal(n, cases[i].text[0] ? 1 : 0);
            if (n && !strstr(limits[0], cases[i].text)) fail_msg("'%s' lacks '%s'", limits[0], cases[i].text);
            assert_int_equal(evaluate_is_biased(&evaluation), cases[i].biased);
        }
}

static void test_classes(void **state) {
    (void)state;
    char limits[EVALUATE_LIMITS][EVALUATE_LIMIT_SIZE];
    Evaluation evaluation = {.metrics = METRIC_SCORE, .n_classes = {1, 0}};
    assert_int_equal(evaluate_limits(&evaluation, limits), 1);
    assert_non_null(strstr(limits[0], "all samples are of one class"));
    evaluation = (Evaluation){.metrics = METRIC_PROBABILITY, .n_classes = {4, 5}};
    assert_int_equal(evaluate_limits(&evaluation, limits), 1);
    assert_non_null(strstr(limits[0], "classes: 4 among the samples, 5 among the reference images"));
    evaluation.n_classes[0] = 5;
    assert_int_equal(evaluate_limits(&evaluation, limits), 0);
    evaluation.n_classes[0] = 0; // none are known
    assert_int_equal(evaluate_limits(&evaluation, limits), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ranks),
        cmocka_unit_test(test_classes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
