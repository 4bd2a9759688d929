// Loss and gradients of a whole training step against an independent implementation in float64 (golden/model).
#include "golden/golden.h"
#include "train/train_step.h"

enum { MAX_BATCH = 8, MAX_CLASSES = 8 };

static const char *const cases[] = {"dense_p2", "dense_p4", "kind_p2", "kind_p4", "kind_fused"};
enum { N_CASES = sizeof cases / sizeof *cases };

// The gradient vectors of the open tailors, by class; NULL: absent.
static void tailor_gradients(const TrainStep *step, float **by_class) {
    for (int c = 0; c < step->gate.n_classes; c++) {
        int slot = step->gate.class_slot[c];
        by_class[c] = slot < 0 ? NULL : step->gate.dtailor[slot];
    }
}

static void check_losses(Golden *g, const char *folder, const TrainStep *step, int n, int first) {
    // 5e-6: ten times what rounding leaves, most of it in vlb, which divides a gap of two means by a small variance.
    golden_assert_close(folder, "mse", (size_t)n, step->mse, golden_floats(g, "mse") + first, 5e-6);
    if (step->with_vlb) golden_assert_close(folder, "vlb", (size_t)n, step->vlb, golden_floats(g, "vlb") + first, 5e-6);
}

// The batch in micro-batches of at most `micro` samples, weighted so that the gradient is that of the whole batch's
// mean.
static void check_step(const char *folder, int micro) {
    Golden g;
    golden_open(&g, folder, folder, 2);
    const Tensor *image = golden_find(&g, "x0");
    const int n = (int)image->shape[0], *t = golden_ints(&g, "t"), *y = golden_ints(&g, "y");
    const size_t size = image->n_elements / (size_t)n;
    float *x0 = golden_upload(&g, golden_floats(&g, "x0"), image->n_elements);
    float *noise = golden_upload(&g, golden_floats(&g, "noise"), image->n_elements);
    float *dtailor[MAX_CLASSES];
    Schedule schedule;
    TrainStep step;
    golden_require(&g, schedule_create(&schedule, g.ctx, 1000, 1e-4, 0.02));
    golden_require(&g, train_step_create(&step, g.model, &schedule, micro, (n + micro - 1) / micro, (DitMode){0}));
    double loss = 0;
    for (int repeat = 0; repeat < 2; repeat++) { // the second time shows what the first left behind
        train_step_begin(&step);
        loss = 0;
        for (int first = 0; first < n; first += micro) {
            int count = n - first < micro ? n - first : micro;
            train_step_accumulate(&step, x0 + (size_t)first * size, noise + (size_t)first * size, t + first, y + first,
                                  count, (float)count / (float)n);
            check_losses(&g, folder, &step, count, first);
            for (int i = 0; i < count; i++) loss += ((double)step.mse[i] + (double)step.vlb[i]) / n;
        }
    }
    float total = (float)loss;
    golden_assert_close(folder, "loss", 1, &total, golden_floats(&g, "loss"), 5e-6);
    tailor_gradients(&step, dtailor);
    golden_assert_gradients(&g, folder, step.dshared, dtailor);
    train_step_close(&step);
    schedule_close(&schedule);
    engine_free(g.engine, &noise);
    engine_free(g.engine, &x0);
    golden_close(&g);
}

static void test_step(void **state) {
    (void)state;
    for (int i = 0; i < N_CASES; i++) check_step(cases[i], MAX_BATCH);
}

static void test_micro_batches(void **state) {
    (void)state;
    for (int i = 0; i < N_CASES; i++) check_step(cases[i], 2);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_step),
        cmocka_unit_test(test_micro_batches),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
