// DiT's edges: patches against their twins and as inverses, position, time features, label rows and their gradients.
#include "engine/numbers.h"

static void test_patches_match_twins(void **state) {
    (void)state;
    const int shapes[][4] = {{1, 1, 2, 2}, {2, 3, 8, 4}, {3, 4, 6, 2}, {2, 8, 5, 1}}; // batch, channels, size, patch
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        int batch = shapes[i][0], channels = shapes[i][1], size = shapes[i][2], patch = shapes[i][3];
        size_t n = (size_t)(batch * channels * size * size);
        Numbers *image = numbers_random(n, 1.0f), *patches = numbers_empty(n), *back = numbers_empty(n);
        Numbers *gradient = numbers_empty(n);
        plain_patchify_f64(batch, channels, size, patch, image->d, patches->d);
        plain_unpatchify_f64(batch, channels, size, patch, image->d, back->d); // any numbers serve as patches
        for (int threads = 1; threads <= MAX_THREADS; threads++) {
            engine_patchify(engines[threads], batch, channels, size, patch, image->f, patches->f);
            engine_unpatchify(engines[threads], batch, channels, size, patch, image->f, back->f);
            engine_unpatchify_backward(engines[threads], batch, channels, size, patch, back->f, gradient->f);
            numbers_check(patches, threads, 0);
            numbers_check(back, threads, 0);
            assert_memory_equal(gradient->f, image->f, n * sizeof(float)); // a permutation: backward is its inverse
        }
        numbers_free_all();
    }
}

static void test_position_is_added_to_each_sample(void **state) {
    (void)state;
    const int batch = 3, tokens = 5, width = 19;
    Numbers *x = numbers_random((size_t)(batch * tokens * width), 1.0f), *start = numbers_empty(x->n);
    Numbers *position = numbers_random((size_t)(tokens * width), 1.0f);
    numbers_set(start, x->f);
    for (size_t i = 0; i < x->n; i++) x->d[i] += position->d[i % position->n];
    for (int threads = 1; threads <= MAX_THREADS; threads++) {
        memcpy(x->f, start->f, x->n * sizeof(float));
        engine_add_position(engines[threads], batch, tokens, width, position->f, x->f);
        numbers_check(x, threads, 1e-7);
    }
    numbers_free_all();
}

static void check_timestep_features(int shift) {
    const int n = 256;
    const float times[] = {0, 1, 37, 500, 999};
    Numbers *t = numbers_empty(5), *out = numbers_empty(5 * 256);
    numbers_set(t, times);
    plain_timestep_features_f64(5, n, shift, t->d, out->d);
    for (int threads = 1; threads <= MAX_THREADS; threads++) {
        engine_timestep_features(engines[threads], 5, n, shift, t->f, out->f);
        numbers_check(out, threads, 1e-7);
    }
    // Cosines first, f_0 = 1, f_127 = 10000^(-127/128), with diffusers' shift 1/10000.
    assert_true(fabsf(out->f[3 * n] - cosf(500.0f)) < 1e-6f && fabsf(out->f[3 * n + 128] - sinf(500.0f)) < 1e-6f);
    assert_true(fabs(out->f[4 * n + 255] - sin(999 * pow(10000, -127.0 / (128 - shift)))) < 1e-7);
    numbers_free_all();
}

static void test_timestep_features(void **state) {
    (void)state;
    check_timestep_features(0);
    check_timestep_features(1);
}

// Samples 0 and 3 share a tailor, 1 is null, the other tailor has one sample. Its row lies `offset` floats into its
// vector.
static void test_label_rows(void **state) {
    (void)state;
    enum { N = 4, WIDTH = 6, OFFSET = 3 };
    const int slot[N] = {1, -1, 0, 1};
    Numbers *tailor[2], *dtailor[2], *null_row = numbers_random(WIDTH, 1.0f), *dnull = numbers_random(WIDTH, 1.0f);
    for (int i = 0; i < 2; i++) {
        tailor[i] = numbers_random(OFFSET + WIDTH, 1.0f);
        dtailor[i] = numbers_random(OFFSET + WIDTH, 1.0f);
    }
    const float *values[2] = {tailor[0]->f, tailor[1]->f};
    float *gradients[2] = {dtailor[0]->f, dtailor[1]->f};
    Gate gate = {N, 2, slot, values, gradients};
    Numbers *out = numbers_random(N * WIDTH, 1.0f), *dout = numbers_random(N * WIDTH, 1.0f);
    for (int i = 0; i < N * WIDTH; i++) {
        int own = slot[i / WIDTH], column = i % WIDTH;
        out->d[i] += own < 0 ? null_row->d[column] : tailor[own]->d[OFFSET + column];
        if (own < 0)
            dnull->d[column] += dout->d[i];
        else
            dtailor[own]->d[OFFSET + column] += dout->d[i];
    }
    engine_label_forward(engines[2], WIDTH, &gate, null_row->f, OFFSET, out->f);
    engine_label_backward(engines[2], WIDTH, &gate, dout->f, dnull->f, OFFSET);
    numbers_check(out, 1, 1e-7);
    numbers_check(dnull, 1, 1e-7);
    for (int i = 0; i < 2; i++) numbers_check(dtailor[i], 1, 2e-7);

    gradients[1] = NULL; // frozen: neither this tailor nor the null row wants a gradient
    for (int i = 0; i < WIDTH; i++) dtailor[0]->d[OFFSET + i] += dout->d[2 * WIDTH + i];
    engine_label_backward(engines[2], WIDTH, &gate, dout->f, NULL, OFFSET);
    numbers_check(dtailor[0], 1, 2e-7);
    numbers_check(dnull, 1, 1e-7);
    gate.dtailor = NULL;
    engine_label_backward(engines[2], WIDTH, &gate, dout->f, NULL, OFFSET);
    numbers_check(dtailor[0], 1, 2e-7);
    numbers_free_all();
}

static void test_dense_table(void **state) {
    (void)state;
    enum { N = 4, WIDTH = 5, ROWS = 3 };
    const int label[N] = {2, 0, 2, 2};
    Numbers *table = numbers_random(ROWS * WIDTH, 1.0f), *dtable = numbers_random(ROWS * WIDTH, 1.0f);
    Numbers *out = numbers_random(N * WIDTH, 1.0f), *dout = numbers_random(N * WIDTH, 1.0f);
    for (int i = 0; i < N * WIDTH; i++) {
        int entry = label[i / WIDTH] * WIDTH + i % WIDTH;
        out->d[i] += table->d[entry];
        dtable->d[entry] += dout->d[i];
    }
    engine_table_forward(engines[2], N, WIDTH, label, table->f, out->f);
    engine_table_backward(engines[2], N, WIDTH, label, dout->f, dtable->f);
    numbers_check(out, 1, 1e-7);
    numbers_check(dtable, 1, 2e-7);
    numbers_free_all();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_patches_match_twins), cmocka_unit_test(test_position_is_added_to_each_sample),
        cmocka_unit_test(test_timestep_features),   cmocka_unit_test(test_label_rows),
        cmocka_unit_test(test_dense_table),
    };
    return cmocka_run_group_tests_name("edge", tests, engines_open, engines_close);
}
