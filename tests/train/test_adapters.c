// Models with adapters against peft's own layers, and against the papers' equations, in float64 (golden/adapt): a
// forward pass, loss and gradient of every tensor that trains, and ten steps of AdamW.
#include "golden/golden.h"
#include "train/train_step.h"

enum { STEPS = 10, MAX_CLASSES = 8 };

static const char *const cases[] = {"lora",        "pissa",  "dora",       "loha",         "oft_exact",
                                    "oft_neumann", "svdiff", "components", "lora_factored"};
enum { N_CASES = sizeof cases / sizeof *cases };

// A golden model, of which everything is frozen but adapters and labels.
static void open_adapted(Golden *g, const char *name) {
    char folder[256];
    snprintf(folder, sizeof folder, "../adapt/%s", name);
    golden_open(g, folder, folder, 2);
}

// || found - expected || / || expected || over the tensors that train: those that the oracle has.
static void check_trained(Golden *g, const char *name, const char *prefix, const float *shared, float *const *tailor,
                          bool gradient, double tolerance) {
    const ParamLayout *layout = &g->model->dit->layout;
    int checked = 0;
    for (int i = 0; i < layout->n_specs; i++) {
        ParamSpec spec = layout->specs[i];
        if (spec.frozen) continue;
        if (gradient) spec.shared_offset -= layout->n_frozen;
        const size_t n = params_spec_size(&spec, g->model->dit->config.n_classes);
        golden_assert_close(name, spec.name, n, golden_gather(g, &spec, shared, tailor),
                            golden_expected(g, prefix, &spec), tolerance);
        checked++;
    }
    assert_true(checked >= 1 + 12); // labels, and one tensor or more of each of the two blocks' six matrices
}

// 1e-5: ten times what single precision leaves; a wrong formula shows at 1e-2.
static void check_forward(Golden *g, const char *name) {
    const Dit *dit = g->model->dit;
    const Tensor *x = golden_find(g, "x"), *out = golden_find(g, "out");
    const int n = (int)x->shape[0], *y = golden_ints(g, "y"), *t = golden_ints(g, "t");
    float times[8], *found = golden_upload(g, NULL, out->n_elements);
    ClassGate gate;
    DitWorkspace *workspace;
    for (int i = 0; i < n; i++) times[i] = (float)t[i];
    float *x_device = golden_upload(g, golden_floats(g, "x"), x->n_elements);
    float *t_device = golden_upload(g, times, (size_t)n);
    golden_require(g, gate_create(&gate, g->engine, g->ctx, n, dit->config.n_classes, n, dit->layout.n_tailor, false));
    gate_open(&gate, &g->model->params, y, n);
    for (int pack = 0; pack < 2; pack++) { // packed once, and used again
        golden_require(g, dit_workspace_create(&workspace, dit, g->engine, n, (DitMode){.pack = pack}));
        const DitBatch batch = {.n = n, .x = x_device, .t = t_device, .labels = y, .gate = &gate.gate};
        for (int pass = 0; pass <= pack; pass++) dit_forward(dit, workspace, g->model->params.shared, &batch, found);
        golden_assert_close(name, "out", out->n_elements, golden_download(g, found, out->n_elements),
                            golden_floats(g, "out"), 1e-5);
        dit_workspace_close(&workspace);
    }
    gate_close(&gate);
    engine_free(g->engine, &found);
    engine_free(g->engine, &t_device);
    engine_free(g->engine, &x_device);
}

static void test_forward(void **state) {
    (void)state;
    for (int i = 0; i < N_CASES; i++) {
        Golden g;
        open_adapted(&g, cases[i]);
        check_forward(&g, cases[i]);
        golden_close(&g);
    }
}

typedef struct Run {
    Schedule schedule;
    TrainStep step;
    Optimizer optimizer;
    float *x0, *noise;
    size_t size; // of a step's images
    int n, *t, *y;
} Run;

static void run_open(Run *r, Golden *g) {
    const Tensor *images = golden_find(g, "x0");
    const AdamSettings settings = {
        .lr = 1e-3f, .beta1 = 0.9f, .beta2 = 0.999f, .eps = 1e-6f, .ema_decay = 0.9f, .gradient_scale = 1};
    assert_int_equal(images->shape[0], STEPS);
    *r = (Run){.n = (int)images->shape[1], .size = images->n_elements / STEPS};
    r->t = golden_ints(g, "t0");
    r->y = golden_ints(g, "y0");
    r->x0 = golden_upload(g, golden_floats(g, "x0"), images->n_elements);
    r->noise = golden_upload(g, golden_floats(g, "noise"), images->n_elements);
    golden_require(g, schedule_create(&r->schedule, g->ctx, 1000, 1e-4, 0.02));
    golden_require(g, train_step_create(&r->step, g->model, &r->schedule, r->n, 1, (DitMode){0}));
    golden_require(
        g, optimizer_create(&r->optimizer, g->ctx, g->engine, &g->model->dit->layout, &g->model->params, &settings));
}

static void run_close(Run *r, Golden *g) {
    optimizer_close(&r->optimizer);
    train_step_close(&r->step);
    schedule_close(&r->schedule);
    engine_free(g->engine, &r->noise);
    engine_free(g->engine, &r->x0);
}

static float run_step(Run *r, int i) {
    double loss = 0;
    train_step_begin(&r->step);
    train_step_accumulate(&r->step, r->x0 + (size_t)i * r->size, r->noise + (size_t)i * r->size, r->t + i * r->n,
                          r->y + i * r->n, r->n, 1);
    for (int k = 0; k < r->n; k++) loss += ((double)r->step.mse[k] + (double)r->step.vlb[k]) / r->n;
    return (float)loss;
}

// 1e-4, what the product promises: rounding shows as 1e-5 in the worst tensor.
static void test_gradients(void **state) {
    (void)state;
    for (int i = 0; i < N_CASES; i++) {
        Golden g;
        Run r;
        float *dtailor[MAX_CLASSES];
        open_adapted(&g, cases[i]);
        run_open(&r, &g);
        const float loss = run_step(&r, 0);
        golden_assert_close(cases[i], "loss", 1, &loss, golden_floats(&g, "loss"), 1e-5);
        for (int c = 0; c < g.model->dit->config.n_classes; c++) {
            const int slot = r.step.gate.class_slot[c];
            dtailor[c] = slot < 0 ? NULL : r.step.gate.dtailor[slot];
        }
        check_trained(&g, cases[i], "grad.", r.step.dshared, dtailor, true, 1e-4);
        run_close(&r, &g);
        golden_close(&g);
    }
}

// The weights move by about lr a step, 1e-2 in all, in tensors of about 0.3: 1e-4 of the tensor is 3e-3 of the way.
static void test_trajectory(void **state) {
    (void)state;
    for (int i = 0; i < N_CASES; i++) {
        Golden g;
        Run r;
        float losses[STEPS];
        open_adapted(&g, cases[i]);
        run_open(&r, &g);
        const size_t n_frozen = g.model->dit->layout.n_frozen;
        const float *before = golden_download(&g, g.model->params.shared, n_frozen);
        for (int k = 0; k < STEPS; k++) {
            losses[k] = run_step(&r, k);
            train_step_update(&r.step, &r.optimizer, 1e-3);
        }
        golden_assert_close(cases[i], "losses", STEPS, losses, golden_floats(&g, "losses"), 1e-4);
        check_trained(&g, cases[i], "final.", g.model->params.shared, g.model->params.tailor, false, 1e-4);
        assert_memory_equal(before, golden_download(&g, g.model->params.shared, n_frozen), n_frozen * sizeof *before);
        run_close(&r, &g);
        golden_close(&g);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_forward),
        cmocka_unit_test(test_gradients),
        cmocka_unit_test(test_trajectory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
