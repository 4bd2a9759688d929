// Sample k of a run: a function of the seed and k alone, each picture once an epoch.
#include "data/loader.h"
#include "tiny_dataset.h"

enum { CLASSES = 3, PER_CLASS = 7, N = CLASSES * PER_CLASS, SIDE = 4, CHANNELS = 3, SIZE = SIDE * SIDE * CHANNELS };

typedef struct Bench {
    Engine *engine;
    Dataset *dataset;
    float *x; // (64, C, S, S)
} Bench;

static Bench bench_open(Scratch *scratch) {
    Bench bench;
    const char *path = scratch_path(scratch, "data");
    tiny_dataset_write(scratch->ctx, path, CLASSES, PER_CLASS, SIDE, CHANNELS);
    assert_ok(scratch->ctx, dataset_open(&bench.dataset, scratch->ctx, path));
    assert_ok(scratch->ctx, engine_create(&bench.engine, scratch->ctx));
    assert_ok(scratch->ctx, engine_alloc(bench.engine, 64 * SIZE, &bench.x));
    return bench;
}

static void bench_close(Bench *bench) {
    engine_free(bench->engine, &bench->x);
    engine_close(&bench->engine);
    dataset_close(&bench->dataset);
}

// Reads samples first .. first + n - 1 into out and labels.
static void read_samples(Bench *bench, Loader *loader, int64_t first, int n, float *out, int *labels) {
    loader_read(loader, bench->engine, first, n, bench->x, labels);
    engine_download(bench->engine, out, bench->x, (size_t)n * SIZE);
}

// Which picture of the data set this is, checked value by value: (S, S, C) bytes against (C, S, S) in [-1, 1].
static int64_t find_picture(const Dataset *dataset, const float *x, int label) {
    const uint8_t *pixels = dataset->images.array.data;
    for (int64_t i = dataset->train.first; i < dataset->train.first + dataset->train.count; i++) {
        bool same = dataset_label(dataset, i) == label;
        for (int c = 0; c < CHANNELS && same; c++)
            for (int p = 0; p < SIDE * SIDE && same; p++)
                same = x[c * SIDE * SIDE + p] == (float)pixels[i * SIZE + p * CHANNELS + c] / 127.5f - 1.0f;
        if (same) return i;
    }
    return -1;
}

static void test_epochs(void **state) {
    Scratch *scratch = *state;
    Bench bench = bench_open(scratch);
    Loader loader;
    assert_ok(scratch->ctx, loader_create(&loader, scratch->ctx, bench.dataset, bench.dataset->train, 3, 64));
    int64_t order[2][N];
    for (int epoch = 0; epoch < 2; epoch++) {
        static float x[N * SIZE];
        int labels[N], seen[N] = {0};
        read_samples(&bench, &loader, epoch * N, N, x, labels);
        for (int i = 0; i < N; i++) {
            order[epoch][i] = find_picture(bench.dataset, x + i * SIZE, labels[i]);
            assert_in_range(order[epoch][i], 0, N - 1);
            assert_int_equal(seen[order[epoch][i]]++, 0);
        }
    }
    assert_memory_not_equal(order[0], order[1], sizeof order[0]);
    loader_close(&loader);
    bench_close(&bench);
}

// Batches of any size, across the end of an epoch and in any order, hold the same samples.
static void test_random_access(void **state) {
    Scratch *scratch = *state;
    enum { ALL = 60 };
    static float all[ALL * SIZE], some[64 * SIZE];
    int labels[ALL], own[64];
    static const struct { int first, n; } parts[] = {{50, 10}, {19, 5}, {0, 1}, {41, 3}, {20, 40}};
    Bench bench = bench_open(scratch);
    Loader loader;
    assert_ok(scratch->ctx, loader_create(&loader, scratch->ctx, bench.dataset, bench.dataset->train, 9, 64));
    read_samples(&bench, &loader, 0, ALL, all, labels);
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        read_samples(&bench, &loader, parts[i].first, parts[i].n, some, own);
        assert_memory_equal(some, all + parts[i].first * SIZE, (size_t)parts[i].n * SIZE * sizeof *some);
        assert_memory_equal(own, labels + parts[i].first, (size_t)parts[i].n * sizeof *own);
    }
    loader_close(&loader);
    assert_ok(scratch->ctx, loader_create(&loader, scratch->ctx, bench.dataset, bench.dataset->train, 10, 64));
    read_samples(&bench, &loader, 0, N, some, own);
    assert_memory_not_equal(some, all, N * SIZE * sizeof *some); // another seed, another order
    loader_close(&loader);
    bench_close(&bench);
}

// A picture moved by (down, right), the nearest pixel where it has none.
static bool is_moved(const float *x, const float *from, int down, int right) {
    for (int c = 0; c < CHANNELS; c++)
        for (int y = 0; y < SIDE; y++)
            for (int z = 0; z < SIDE; z++) {
                const int row = y + down < 0 ? 0 : y + down >= SIDE ? SIDE - 1 : y + down;
                const int column = z + right < 0 ? 0 : z + right >= SIDE ? SIDE - 1 : z + right;
                if (x[(c * SIDE + y) * SIDE + z] != from[(c * SIDE + row) * SIDE + column]) return false;
            }
    return true;
}

// With a shift of 2 each sample is the one of that number moved by one of 25 offsets, each of which occurs; the same
// again from the middle.
static void test_shift(void **state) {
    Scratch *scratch = *state;
    enum { MANY = 640, EVERY = 64, OFFSETS = 5 };
    static float plain[EVERY * SIZE], moved[EVERY * SIZE], again[SIZE];
    int labels[EVERY], own[EVERY], seen[OFFSETS][OFFSETS] = {{0}};
    Bench bench = bench_open(scratch);
    Loader loader, shifting;
    assert_ok(scratch->ctx, loader_create(&loader, scratch->ctx, bench.dataset, bench.dataset->train, 9, EVERY));
    assert_ok(scratch->ctx, loader_create(&shifting, scratch->ctx, bench.dataset, bench.dataset->train, 9, EVERY));
    shifting.shift = 2;
    for (int first = 0; first < MANY; first += EVERY) {
        read_samples(&bench, &loader, first, EVERY, plain, labels);
        read_samples(&bench, &shifting, first, EVERY, moved, own);
        assert_memory_equal(labels, own, sizeof own);
        for (int i = 0; i < EVERY; i++) {
            int found = 0;
            for (int down = -2; down <= 2; down++)
                for (int right = -2; right <= 2; right++)
                    if (is_moved(moved + i * SIZE, plain + i * SIZE, down, right)) {
                        seen[down + 2][right + 2]++;
                        found++;
                    }
            assert_int_equal(found, 1);
        }
    }
    for (int i = 0; i < OFFSETS * OFFSETS; i++) assert_true(seen[i / OFFSETS][i % OFFSETS] > 0);
    read_samples(&bench, &shifting, MANY - 7, 1, again, own);
    assert_memory_equal(again, moved + (EVERY - 7) * SIZE, sizeof again);
    loader_close(&shifting);
    loader_close(&loader);
    bench_close(&bench);
}

static void test_latents(void **state) {
    Scratch *scratch = *state;
    static float values[10 * SIZE], x[20 * SIZE];
    int labels[20];
    Bench bench = bench_open(scratch);
    Dataset *latents;
    Loader loader;
    rng_fill_normal((RngKey){.purpose = RNG_TEST}, values, 10 * SIZE);
    const char *path = scratch_path(scratch, "latents");
    tiny_latents_write(scratch->ctx, path, values, 10, CHANNELS, SIDE);
    assert_ok(scratch->ctx, dataset_open(&latents, scratch->ctx, path));
    assert_ok(scratch->ctx, loader_create(&loader, scratch->ctx, latents, latents->train, 1, 20));
    read_samples(&bench, &loader, 0, 20, x, labels);
    for (int i = 0; i < 20; i++) {
        int found = -1;
        for (int j = 0; j < 10; j++)
            if (memcmp(x + i * SIZE, values + j * SIZE, SIZE * sizeof *x) == 0) found = j;
        assert_in_range(found, 0, 9);
        assert_int_equal(labels[i], found % 2);
    }
    loader_close(&loader);
    dataset_close(&latents);
    bench_close(&bench);
}

static void test_empty_split(void **state) {
    Scratch *scratch = *state;
    Bench bench = bench_open(scratch);
    Loader loader;
    assert_fails(scratch->ctx, loader_create(&loader, scratch->ctx, bench.dataset, (DatasetSplit){0, 0}, 1, 8),
                 KINDIT_ERROR_ARGUMENT, "found 0");
    bench_close(&bench);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        scratch_test(test_epochs),  scratch_test(test_random_access), scratch_test(test_shift),
        scratch_test(test_latents), scratch_test(test_empty_split),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
