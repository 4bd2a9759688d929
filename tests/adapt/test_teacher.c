// Distillation: the loss and every gradient against PyTorch's in float64 (golden/adapt), and the gradient once more by
// finite differences of the loss.
#include "adapt/teacher.h"
#include "golden/golden.h"
#include "train/train_settings.h"

enum { MAX_BATCH = 8, N_KEPT = 2 };

typedef struct Lesson {
    Golden g;
    Model *base;
    Dataset dataset; // of classes alone
    TrainSettings train;
    Schedule schedule;
    TrainStep step;
    Teacher teacher;
    float *x0, *noise;
    int *t, *y, n;
} Lesson;

static void lesson_open(Lesson *l, int micro, bool recompute) {
    static const BlockMap map = {.n = N_KEPT, .from = {0, 2}};
    golden_open(&l->g, "../adapt/student", "../adapt/student", 2);
    const Tensor *image = golden_find(&l->g, "x0");
    l->n = (int)image->shape[0];
    l->t = golden_ints(&l->g, "t");
    l->y = golden_ints(&l->g, "y");
    l->x0 = golden_upload(&l->g, golden_floats(&l->g, "x0"), image->n_elements);
    l->noise = golden_upload(&l->g, golden_floats(&l->g, "noise"), image->n_elements);
    l->dataset = (Dataset){.classes = l->g.model->classes, .n_classes = l->g.model->dit->config.n_classes};
    l->train = train_settings_default();
    l->train.batch = micro;
    l->train.recompute = recompute;
    golden_require(&l->g, model_open(&l->base, l->g.ctx, l->g.engine, TEST_SOURCE_DIR "/golden/adapt/teacher", NULL));
    golden_require(&l->g, schedule_create(&l->schedule, l->g.ctx, 1000, 1e-4, 0.02));
    golden_require(&l->g, train_step_create(&l->step, l->g.model, &l->schedule, micro, (l->n + micro - 1) / micro,
                                            train_mode(&l->train)));
    golden_require(&l->g, teacher_open(&l->teacher, l->g.ctx, l->base, &l->dataset, &l->train, &map));
    l->step.guide = &l->teacher.guide;
}

static void lesson_close(Lesson *l) {
    teacher_close(&l->teacher);
    train_step_close(&l->step);
    schedule_close(&l->schedule);
    model_close(&l->base);
    engine_free(l->g.engine, &l->noise);
    engine_free(l->g.engine, &l->x0);
    golden_close(&l->g);
}

// The gradient of the batch's mean loss; what the teacher adds to the loss of each sample.
static void learn(Lesson *l, float *distance) {
    const DitConfig *config = &l->g.model->dit->config;
    const size_t size = (size_t)config->channels * (size_t)config->image_size * (size_t)config->image_size;
    train_step_begin(&l->step);
    for (int first = 0; first < l->n; first += l->train.batch) {
        const int count = l->n - first < l->train.batch ? l->n - first : l->train.batch;
        train_step_accumulate(&l->step, l->x0 + (size_t)first * size, l->noise + (size_t)first * size, l->t + first,
                              l->y + first, count, (float)count / (float)l->n);
        memcpy(distance + first, l->step.distance, (size_t)count * sizeof *distance);
    }
}

// A sample's loss is its own: micro-batches change nothing but the order of sums. Tolerances as in golden.h; 2e-6 for
// what is a ratio of two sums of squares.
static void check(int micro, bool recompute) {
    Lesson l = {0};
    float distance[MAX_BATCH], *none[MAX_BATCH] = {NULL};
    lesson_open(&l, micro, recompute);
    for (int repeat = 0; repeat < 2; repeat++) learn(&l, distance);
    golden_assert_close("student", "distance", (size_t)l.n, distance, golden_floats(&l.g, "distance"), 2e-6);
    golden_assert_gradients(&l.g, "student", l.step.dshared, none);
    lesson_close(&l);
}

static void test_golden(void **state) {
    (void)state;
    check(5, false);
    check(5, true);
    check(2, false);
}

// Of the teacher's part alone, along the gradient: || g || = dL / d(g / || g ||). 1e-3: steps of 1e-3 in weights near 1
// leave 1e-4 of curvature and of rounding.
static void test_finite_differences(void **state) {
    (void)state;
    Lesson l = {0};
    float distance[MAX_BATCH];
    lesson_open(&l, 5, false);
    const size_t n = l.g.model->dit->layout.n_shared;
    float *shared = l.g.model->params.shared, *weights = golden_download(&l.g, shared, n);
    learn(&l, distance);
    float *both = golden_download(&l.g, l.step.dshared, n), *moved = golden_empty(&l.g, n);
    l.step.guide = NULL;
    float without[MAX_BATCH];
    learn(&l, without);
    for (int i = 0; i < l.n; i++) assert_true(without[i] == 0);
    float *alone = golden_download(&l.g, l.step.dshared, n);
    l.step.guide = &l.teacher.guide;
    double length = golden_distance(n, both, alone), loss[2] = {0, 0};
    for (int side = 0; side < 2; side++) {
        const double step = side ? 1e-3 : -1e-3;
        for (size_t i = 0; i < n; i++) moved[i] = (float)(weights[i] + step * ((double)both[i] - alone[i]) / length);
        engine_upload(l.g.engine, shared, moved, n);
        learn(&l, distance);
        for (int i = 0; i < l.n; i++) loss[side] += (double)distance[i] / l.n;
    }
    const double slope = (loss[1] - loss[0]) / 2e-3;
    if (!(fabs(slope - length) < 1e-3 * length)) fail_msg("slope %.6g, gradient %.6g", slope, length);
    lesson_close(&l);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_golden), cmocka_unit_test(test_finite_differences)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
