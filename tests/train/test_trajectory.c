// Ten steps of AdamW and EMA over changing batches against an independent implementation in float64 (golden/model). In
// the KIND case classes come and go: an absent tailor stands still, keeps its moments and its own step count, and its
// EMA goes on.
#include "golden/golden.h"
#include "train/train_step.h"

enum { STEPS = 10 };

// How far a tensor is from where it should be, as a share of how far AdamW can move it in all these steps (about lr a
// step).
//
// 1e-3: Adam divides by the root of the second moment, so an element whose gradient is small beside its rounding noise
// moves by a visible share of lr; the worst tensors, with key biases whose gradient is nothing but noise, show 2e-4. A
// missed or superfluous update of a tailor, a wrong step count or decay shows at 5e-3.
static void check_moved(Golden *g, const char *folder, const char *prefix, const ParamSet *found) {
    const Dit *dit = g->model->dit;
    const double reach = 1e-3 * STEPS, tolerance = 1e-3;
    for (int i = 0; i < dit->layout.n_specs; i++) {
        const ParamSpec *spec = &dit->layout.specs[i];
        const size_t n = params_spec_size(spec, dit->config.n_classes);
        const float *expected = golden_expected(g, prefix, spec);
        const float *now = golden_gather(g, spec, found->shared, found->tailor);
        double error = golden_distance(n, now, expected) / (reach * sqrt((double)n));
        if (!(error <= tolerance))
            fail_msg("%s: %s%s: error %.3g of the reach, allowed %.3g", folder, prefix, spec->name, error, tolerance);
    }
}

static void check_losses(Golden *g, const char *folder, const TrainStep *step, int n, int at) {
    const float *mse = golden_floats(g, "mse"), *vlb = golden_floats(g, "vlb");
    char what[32];
    snprintf(what, sizeof what, "mse of step %d", at);
    golden_assert_close(folder, what, (size_t)n, step->mse, mse + at * n, 1e-4);
    snprintf(what, sizeof what, "vlb of step %d", at);
    golden_assert_close(folder, what, (size_t)n, step->vlb, vlb + at * n, 1e-4);
}

// A class in no batch at all keeps its tailor and its EMA to the bit (decay^n of a difference of zero).
static void check_stands_still(Golden *g, const ParamSet *start, const ParamSet *ema, int class_index) {
    const size_t n = g->model->dit->layout.n_tailor;
    const float *before = golden_download(g, start->tailor[class_index], n);
    assert_memory_equal(before, golden_download(g, g->model->params.tailor[class_index], n), n * sizeof *before);
    assert_memory_equal(before, golden_download(g, ema->tailor[class_index], n), n * sizeof *before);
}

// The model again, in a layout where these roles are frozen.
static void freeze(Golden *g, unsigned roles) {
    Model *from = g->model, *to;
    golden_require(g, model_create_blank(&to, g->ctx, g->engine, &from->dit->config, from->classes, NULL, roles));
    for (int i = 0; i < from->dit->layout.n_specs; i++)
        engine_copy(g->engine, to->params.shared + to->dit->layout.specs[i].shared_offset,
                    from->params.shared + from->dit->layout.specs[i].shared_offset,
                    params_spec_size(&from->dit->layout.specs[i], 0));
    for (int c = 0; c < from->params.n_classes; c++)
        engine_copy(g->engine, to->params.tailor[c], from->params.tailor[c], from->dit->layout.n_tailor);
    model_close(&g->model);
    g->model = to;
}

static void check_trajectory(const char *folder, float weight_decay, int absent_class, unsigned frozen) {
    Golden g;
    golden_open(&g, folder, folder, 2);
    if (frozen) freeze(&g, frozen);
    const Dit *dit = g.model->dit;
    const Tensor *images = golden_find(&g, "x0");
    const int n = (int)images->shape[1], *t = golden_ints(&g, "t"), *y = golden_ints(&g, "y");
    const size_t size = images->n_elements / STEPS;
    assert_int_equal(images->shape[0], STEPS);
    float *x0 = golden_upload(&g, golden_floats(&g, "x0"), images->n_elements);
    float *noise = golden_upload(&g, golden_floats(&g, "noise"), images->n_elements);
    AdamSettings settings = {.lr = 1e-3f,
                             .beta1 = 0.9f,
                             .beta2 = 0.999f,
                             .eps = 1e-6f,
                             .weight_decay = weight_decay,
                             .ema_decay = 0.9f,
                             .gradient_scale = 1};
    Schedule schedule;
    TrainStep step;
    Optimizer optimizer;
    ParamSet start, ema;
    golden_require(&g, params_alloc(&start, g.engine, g.ctx, &dit->layout, dit->config.n_classes));
    golden_require(&g, params_alloc(&ema, g.engine, g.ctx, &dit->layout, dit->config.n_classes));
    params_copy(&start, &g.model->params, &dit->layout);
    golden_require(&g, schedule_create(&schedule, g.ctx, 1000, 1e-4, 0.02));
    golden_require(&g, train_step_create(&step, g.model, &schedule, n, 1, (DitMode){0}));
    golden_require(&g, optimizer_create(&optimizer, g.ctx, g.engine, &dit->layout, &g.model->params, &settings));
    for (int i = 0; i < STEPS; i++) {
        train_step_begin(&step);
        train_step_accumulate(&step, x0 + (size_t)i * size, noise + (size_t)i * size, t + i * n, y + i * n, n, 1);
        check_losses(&g, folder, &step, n, i);
        train_step_update(&step, &optimizer, 1e-3);
    }
    optimizer_read_ema(&optimizer, &g.model->params, &ema);
    check_moved(&g, folder, "final.", &g.model->params);
    check_moved(&g, folder, "ema.", &ema);
    if (absent_class >= 0) check_stands_still(&g, &start, &ema, absent_class);
    optimizer_close(&optimizer);
    train_step_close(&step);
    schedule_close(&schedule);
    params_close(&ema);
    params_close(&start);
    engine_free(g.engine, &noise);
    engine_free(g.engine, &x0);
    golden_close(&g);
}

static void test_kind(void **state) {
    (void)state;
    check_trajectory("trajectory_kind", 0.01f, 3, 0);
}

// Every row of the label table moves at every step, as PyTorch's AdamW has it.
static void test_dense(void **state) {
    (void)state;
    check_trajectory("trajectory_dense", 0, -1, 0);
}

// Adapting: tailors train beside frozen weights, which no decay touches, also in a step that opens no tailor.
static void test_adapt(void **state) {
    (void)state;
    check_trajectory("trajectory_adapt", 0.01f, 2, ROLE_SHARED | ROLE_LEARNGENE | ROLE_LABELS);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kind),
        cmocka_unit_test(test_dense),
        cmocka_unit_test(test_adapt),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
