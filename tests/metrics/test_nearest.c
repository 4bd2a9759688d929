// The nearest neighbour: as brute force says, ties to the lower index.
#include "data/dataset.h"
#include "metrics/nearest.h"
#include "scratch.h"

enum { CLASSES = 3, REFERENCES = 90, QUERIES = 40, SIDE = 5, BYTES = SIDE * SIDE * 3 };

typedef struct Bench {
    Engine *engine;
    Dataset *dataset;
    uint8_t queries[QUERIES * BYTES];
    int labels[QUERIES];
} Bench;

// Few levels and one image in three repeated, so that ties are common.
static void fill(uint8_t *pixels, uint64_t i) {
    RngKey key = {.seed = 1, .sample = i - i % 3, .purpose = RNG_TEST};
    for (uint32_t p = 0; p < BYTES; p++) pixels[p] = (uint8_t)(rng_below(key, p, 3) * 127);
}

static Bench *bench_open(Scratch *scratch) {
    Bench *bench = calloc(1, sizeof *bench);
    DatasetWriter *writer;
    uint8_t pixels[BYTES];
    int index;
    const char *path = scratch_path(scratch, "set");
    assert_ok(scratch->ctx, dataset_writer_create(&writer, scratch->ctx, path, "test", SIDE, 3));
    for (int c = 0; c < CLASSES; c++) {
        char id[8];
        snprintf(id, sizeof id, "c%d", c);
        assert_ok(scratch->ctx, dataset_writer_class(writer, id, id, &index));
    }
    for (int i = 0; i < REFERENCES; i++) {
        fill(pixels, (uint64_t)i);
        assert_ok(scratch->ctx, dataset_writer_add(writer, i % CLASSES, i % 10 == 9, pixels));
    }
    assert_ok(scratch->ctx, dataset_writer_finish(&writer, NULL, NULL, false));
    assert_ok(scratch->ctx, dataset_open(&bench->dataset, scratch->ctx, path));
    assert_ok(scratch->ctx, engine_create(&bench->engine, scratch->ctx));
    for (int i = 0; i < QUERIES; i++) {
        fill(bench->queries + i * BYTES, (uint64_t)(i < 10 ? i * 9 : 1000 + i)); // some are references themselves
        bench->labels[i] = i % CLASSES;
    }
    return bench;
}

static void bench_close(Bench *bench) {
    dataset_close(&bench->dataset);
    engine_close(&bench->engine);
    free(bench);
}

static void test_equals_brute_force(void **state) {
    Scratch *scratch = *state;
    Bench *bench = bench_open(scratch);
    const DatasetSplit references[] = {bench->dataset->train, bench->dataset->heldout, {.first = 7, .count = 1}};
    for (size_t r = 0; r < 3; r++) {
        int64_t correct[CLASSES] = {0}, total = 0;
        for (int q = 0; q < QUERIES; q++) {
            int64_t best = INT64_MAX, index = -1;
            for (int64_t i = references[r].first; i < references[r].first + references[r].count; i++) {
                int64_t distance = 0;
                for (int p = 0; p < BYTES; p++) {
                    int difference = bench->queries[q * BYTES + p] -
                                     ((const uint8_t *)bench->dataset->images.array.data)[i * BYTES + p];
                    distance += difference * difference;
                }
                if (distance < best) best = distance, index = i;
            }
            bool hit = dataset_label(bench->dataset, index) == bench->labels[q];
            correct[bench->labels[q]] += hit;
            total += hit;
        }
        NearestResult result;
        assert_ok(scratch->ctx, nearest_measure(&result, scratch->ctx, bench->engine, bench->dataset, references[r],
                                                QUERIES, bench->queries, bench->labels));
        assert_int_equal(result.n, QUERIES);
        assert_int_equal(result.correct, total);
        assert_int_equal(result.n_classes, CLASSES);
        for (int c = 0; c < CLASSES; c++) {
            assert_int_equal(result.per_class_n[c], (QUERIES - c + CLASSES - 1) / CLASSES);
            assert_int_equal(result.per_class_correct[c], correct[c]);
        }
        nearest_close(&result);
        nearest_close(&result);
    }
    bench_close(bench);
}

// References 0, 3, ... of one class are equal to those of others: the lower index, here the lower class, must win.
static void test_ties_go_to_the_lower_index(void **state) {
    Scratch *scratch = *state;
    Bench *bench = bench_open(scratch);
    NearestResult result;
    int labels[1] = {0};
    assert_ok(scratch->ctx, nearest_measure(&result, scratch->ctx, bench->engine, bench->dataset, bench->dataset->train,
                                            1, bench->queries, labels));
    assert_int_equal(result.correct, 1);
    nearest_close(&result);
    bench_close(bench);
}

// A side of 105 with 3 channels spans more than one 32-bit partial sum, at the largest differences there are.
static void test_large_images_do_not_overflow(void **state) {
    Scratch *scratch = *state;
    enum { SIZE = 105, LARGE = SIZE * SIZE * 3 };
    DatasetWriter *writer;
    Dataset *dataset;
    Engine *engine;
    NearestResult result;
    int index, labels[1] = {1};
    uint8_t *pixels = calloc(1, LARGE), *query = malloc(LARGE);
    memset(query, 255, LARGE);
    const char *path = scratch_path(scratch, "large");
    assert_ok(scratch->ctx, dataset_writer_create(&writer, scratch->ctx, path, "large", SIZE, 3));
    assert_ok(scratch->ctx, dataset_writer_class(writer, "black", "black", &index));
    assert_ok(scratch->ctx, dataset_writer_add(writer, index, false, pixels));
    assert_ok(scratch->ctx, dataset_writer_class(writer, "dark", "dark", &index));
    pixels[LARGE - 1] = 1;
    assert_ok(scratch->ctx, dataset_writer_add(writer, index, false, pixels));
    assert_ok(scratch->ctx, dataset_writer_finish(&writer, NULL, NULL, false));
    assert_ok(scratch->ctx, dataset_open(&dataset, scratch->ctx, path));
    assert_ok(scratch->ctx, engine_create(&engine, scratch->ctx));
    assert_ok(scratch->ctx, nearest_measure(&result, scratch->ctx, engine, dataset, dataset->train, 1, query, labels));
    assert_int_equal(result.correct, 1);
    nearest_close(&result);
    engine_close(&engine);
    dataset_close(&dataset);
    free(pixels);
    free(query);
}

static void test_bad_arguments(void **state) {
    Scratch *scratch = *state;
    Bench *bench = bench_open(scratch);
    NearestResult result;
    KinditContext *ctx = scratch->ctx;
    const DatasetSplit none = {.first = 0, .count = 0}, beyond = {.first = 89, .count = 2};
    assert_fails(ctx,
                 nearest_measure(&result, ctx, bench->engine, bench->dataset, none, 1, bench->queries, bench->labels),
                 KINDIT_ERROR_ARGUMENT, "no reference images");
    assert_fails(ctx,
                 nearest_measure(&result, ctx, bench->engine, bench->dataset, beyond, 1, bench->queries, bench->labels),
                 KINDIT_ERROR_ARGUMENT, "no reference images");
    bench->labels[0] = CLASSES;
    assert_fails(ctx,
                 nearest_measure(&result, ctx, bench->engine, bench->dataset, bench->dataset->train, 1, bench->queries,
                                 bench->labels),
                 KINDIT_ERROR_ARGUMENT, "found 3");
    bench_close(bench);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        scratch_test(test_equals_brute_force),
        scratch_test(test_ties_go_to_the_lower_index),
        scratch_test(test_large_images_do_not_overflow),
        scratch_test(test_bad_arguments),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
