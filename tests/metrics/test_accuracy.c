// Counting what a classifier says of a data set's images: the golden classifier and its four images, whose logits are
// PyTorch's, in a data set that numbers the classes otherwise.
#include "data/tiny_dataset.h"
#include "golden/golden.h"
#include "metrics/accuracy.h"

enum { SIDE = 12, CHANNELS = 3, K = 5, N = 4 };
#define CLASSIFIER TEST_SOURCE_DIR "/golden/model/classifier"

static const char *const order[K] = {"d", "a", "e", "c", "b"}; // of the classes in the data set

static int index_of(char id) {
    for (int c = 0; c < K; c++)
        if (order[c][0] == id) return c;
    return -1;
}

static void add_image(DatasetWriter *writer, KinditContext *ctx, const float *x, int index, bool heldout) {
    uint8_t pixels[SIDE * SIDE * CHANNELS];
    for (int c = 0; c < CHANNELS; c++)
        for (int p = 0; p < SIDE * SIDE; p++)
            pixels[p * CHANNELS + c] = (uint8_t)lroundf((x[c * SIDE * SIDE + p] + 1) * 127.5f);
    assert_ok(ctx, dataset_writer_add(writer, index, heldout, pixels));
}

// The golden images with their labels as what is held out; to train on, one of each class.
static void write_data(Golden *g, KinditContext *ctx, const char *path, const char *first_id) {
    DatasetWriter *writer;
    const float *x = golden_floats(g, "x");
    const int *y = golden_ints(g, "y");
    int index;
    assert_ok(ctx, dataset_writer_create(&writer, ctx, path, "golden", SIDE, CHANNELS));
    for (int c = 0; c < K; c++) {
        const char *id = c == 0 ? first_id : order[c];
        assert_ok(ctx, dataset_writer_class(writer, id, id, &index));
        add_image(writer, ctx, x, index, false);
    }
    for (int i = 0; i < N; i++)
        add_image(writer, ctx, x + i * SIDE * SIDE * CHANNELS, index_of((char)('a' + y[i])), true);
    cJSON *details = cJSON_CreateObject(), *counts = cJSON_CreateObject();
    assert_ok(ctx, dataset_writer_finish(&writer, details, counts, false));
    cJSON_Delete(counts);
    cJSON_Delete(details);
}

static void test_counts(void **state) {
    Scratch *scratch = *state;
    Golden g;
    Classifier classifier;
    Dataset *dataset;
    Accuracy accuracy;
    int64_t expected[K * K] = {0}, correct = 0;
    golden_open(&g, "classifier", NULL, 2);
    golden_require(&g, engine_create(&g.engine, g.ctx));
    golden_require(&g, classifier_open(&classifier, g.ctx, g.engine, CLASSIFIER, 3));
    write_data(&g, g.ctx, scratch_path(scratch, "data"), "d");
    golden_require(&g, dataset_open(&dataset, g.ctx, scratch_path(scratch, "data")));
    const float *out = golden_floats(&g, "out");
    const int *y = golden_ints(&g, "y");
    for (int i = 0; i < N; i++) {
        int best = 0;
        for (int k = 1; k < K; k++)
            if (out[i * K + k] > out[i * K + best]) best = k;
        expected[index_of((char)('a' + y[i])) * K + index_of((char)('a' + best))]++;
        correct += best == y[i];
    }
    golden_require(&g, accuracy_of_split(&accuracy, g.ctx, &classifier, dataset, dataset->heldout));
    assert_int_equal(accuracy.n, N);
    assert_int_equal(accuracy.correct, correct);
    assert_memory_equal(accuracy.confusion, expected, sizeof expected);
    accuracy_close(&accuracy);
    dataset_close(&dataset);
    classifier_close(&classifier);
    golden_close(&g);
}

static void test_refused(void **state) {
    Scratch *scratch = *state;
    Golden g;
    Classifier classifier;
    Dataset *dataset;
    Accuracy accuracy;
    golden_open(&g, "classifier", NULL, 1);
    golden_require(&g, engine_create(&g.engine, g.ctx));
    golden_require(&g, classifier_open(&classifier, g.ctx, g.engine, CLASSIFIER, 3));
    write_data(&g, g.ctx, scratch_path(scratch, "data"), "stranger");
    golden_require(&g, dataset_open(&dataset, g.ctx, scratch_path(scratch, "data")));
    assert_fails(g.ctx, accuracy_of_split(&accuracy, g.ctx, &classifier, dataset, dataset->heldout),
                 KINDIT_ERROR_ARGUMENT, "class \"stranger\" is none that the classifier knows");
    dataset_close(&dataset);
    tiny_dataset_write(g.ctx, scratch_path(scratch, "small"), 2, 1, 8, 1);
    golden_require(&g, dataset_open(&dataset, g.ctx, scratch_path(scratch, "small")));
    assert_fails(g.ctx, accuracy_of_split(&accuracy, g.ctx, &classifier, dataset, dataset->heldout),
                 KINDIT_ERROR_ARGUMENT, "expected images of 3 channels, 12x12");
    dataset_close(&dataset);
    classifier_close(&classifier);
    golden_close(&g);
}

static void test_worst_pairs(void **state) {
    (void)state;
    int64_t confusion[16] = {
        5, 2, 0, 1, // rows: class 0 is taken for 1 twice, for 3 once
        3, 5, 0, 0, //
        0, 0, 9, 0, //
        7, 0, 1, 2,
    };
    const Accuracy accuracy = {.n_classes = 4, .confusion = confusion};
    AccuracyPair pairs[8];
    assert_int_equal(accuracy_worst_pairs(&accuracy, pairs, 8), 3);
    assert_true(pairs[0].a == 0 && pairs[0].b == 3 && pairs[0].n == 8);
    assert_true(pairs[1].a == 0 && pairs[1].b == 1 && pairs[1].n == 5);
    assert_true(pairs[2].a == 2 && pairs[2].b == 3 && pairs[2].n == 1);
    assert_true(fabs(pairs[0].share - 8.0 / 18) < 1e-12);
    assert_int_equal(accuracy_worst_pairs(&accuracy, pairs, 2), 2);
    assert_true(pairs[0].n == 8 && pairs[1].n == 5);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        scratch_test(test_counts),
        scratch_test(test_refused),
        cmocka_unit_test(test_worst_pairs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
