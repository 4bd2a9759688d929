// The mean over tokens and softmax cross-entropy against their twins, the twins' gradients against finite differences.
#include "engine/numbers.h"

// Batch, tokens, width: one of each, an odd width, and what a classifier has.
static const int shapes[][3] = {{1, 1, 1}, {3, 5, 19}, {2, 64, 96}, {7, 16, 130}};
enum { N_SHAPES = sizeof shapes / sizeof *shapes };

static void check_mean(int batch, int tokens, int width, EngineType type) {
    const size_t n = (size_t)(batch * width), rows = n * (size_t)tokens;
    Numbers *x = numbers_random(rows, 1.0f), *y = numbers_empty(n);
    Activation x_rows = rows_in(x, type);
    plain_mean_forward_f64(batch, tokens, width, x->d, y->d);
    for (int threads = 1; threads <= MAX_THREADS; threads++) {
        engine_mean_forward(engines[threads], batch, tokens, width, x_rows, y->f);
        numbers_check(y, threads, 1e-6); // at most 64 numbers of the order of 1, added in float
    }
    Numbers *dy = numbers_random(n, 1.0f), *dx = numbers_empty(rows);
    plain_mean_backward_f64(batch, tokens, width, dy->d, dx->d);
    for (int threads = 1; threads <= MAX_THREADS; threads++) {
        engine_mean_backward(engines[threads], batch, tokens, width, dy->f, dx->f);
        numbers_check(dx, threads, 2e-7);
    }
    // Backward is the transpose of forward: <dy, mean(x)> = <dx, x>.
    assert_true(fabs(numbers_weigh(dy, y) - numbers_weigh(dx, x)) < 1e-9);
    numbers_free_all();
}

static void test_mean(void **state) {
    (void)state;
    for (int i = 0; i < N_SHAPES; i++) {
        check_mean(shapes[i][0], shapes[i][1], shapes[i][2], ENGINE_F32);
        check_mean(shapes[i][0], shapes[i][1], shapes[i][2], ENGINE_BF16);
    }
}

typedef struct Row {
    int classes, label;
    const double *logits;
} Row;

static double row_loss(void *of) {
    const Row *row = of;
    return plain_cross_entropy_f64(row->classes, row->logits, row->label);
}

// spread: of the logits; 100 makes a softmax that is 0 and 1 but for rounding.
static void check_cross_entropy(int batch, int classes, float spread, float weight) {
    Numbers *logits = numbers_random((size_t)(batch * classes), spread), *dlogits = numbers_empty(logits->n);
    Numbers *loss = numbers_empty((size_t)batch);
    int labels[16];
    for (int b = 0; b < batch; b++) {
        labels[b] = (b * 7) % classes;
        const size_t at = (size_t)(b * classes);
        Numbers row = {(size_t)classes, NULL, NULL, logits->d + at};
        Row of = {classes, labels[b], logits->d + at};
        loss->d[b] = row_loss(&of);
        plain_cross_entropy_backward_f64(classes, logits->d + at, labels[b], dlogits->d + at);
        check_slopes(row_loss, &of, &row, dlogits->d + at, 1e-7);
        for (int k = 0; k < classes; k++) dlogits->d[at + (size_t)k] *= weight;
    }
    for (int threads = 1; threads <= MAX_THREADS; threads++) {
        engine_cross_entropy(engines[threads], batch, classes, logits->f, labels, weight * (float)batch, loss->f,
                             dlogits->f);
        numbers_check(loss, threads, 1e-7);
        numbers_check(dlogits, threads, 1e-7);
    }
    numbers_free_all();
}

static void test_cross_entropy(void **state) {
    (void)state;
    check_cross_entropy(1, 2, 1.0f, 1.0f);
    check_cross_entropy(5, 62, 3.0f, 1.0f);
    check_cross_entropy(16, 10, 0.1f, 0.25f);
    check_cross_entropy(4, 7, 100.0f, 1.0f);
}

// Logits beyond exp's range are no trouble; a NaN or an infinity shows in its own sample's loss and in no other's.
static void test_extremes(void **state) {
    (void)state;
    const float logits[4][3] = {{1e30f, 0, -1e30f}, {0, NAN, 1}, {3, INFINITY, 1}, {0, 0, 0}};
    const int labels[4] = {2, 0, 0, 1};
    float loss[4], dlogits[4][3];
    int best[4];
    engine_cross_entropy(engines[2], 4, 3, logits[0], labels, 1, loss, dlogits[0]);
    assert_true(loss[0] == 2e30f && dlogits[0][0] == 0.25f && dlogits[0][2] == -0.25f);
    assert_true(!isfinite(loss[1]) && !isfinite(loss[2]));
    assert_true(fabsf(loss[3] - logf(3)) < 1e-6f);
    engine_best_class(engines[2], 4, 3, logits[0], best);
    assert_true(best[0] == 0 && best[2] == 1 && best[3] == 0); // of equals the first
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mean),
        cmocka_unit_test(test_cross_entropy),
        cmocka_unit_test(test_extremes),
    };
    return cmocka_run_group_tests_name("classify", tests, engines_open, engines_close);
}
