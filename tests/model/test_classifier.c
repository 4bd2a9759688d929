// A classifier: logits, features, loss and every gradient against PyTorch (golden/model/classifier.py), its slopes
// against differences of its own loss, the same bits however it is computed, and its files.
#include "golden/golden.h"
#include "model/classifier.h"
#include "model/models.h"

enum { MAX_BATCH = 4 };

typedef struct Pass {
    Golden golden;
    int n, slot[MAX_BATCH], *labels;
    Gate gate;
    DitBatch batch;
    DitWorkspace *workspace;
    float *x, *out, *dout, *dshared, loss[MAX_BATCH];
    size_t n_out;
} Pass;

static void pass_open(Pass *pass, int threads, DitMode mode) {
    Golden *g = &pass->golden;
    *pass = (Pass){0};
    golden_open(g, "classifier", NULL, threads);
    golden_require(g, engine_create(&g->engine, g->ctx));
    golden_require(g, model_open_classifier(&g->model, g->ctx, g->engine, TEST_SOURCE_DIR "/golden/model/classifier"));
    const Tensor *x = golden_find(g, "x");
    pass->n = (int)x->shape[0];
    pass->labels = golden_ints(g, "y");
    pass->n_out = (size_t)pass->n * dit_config_output(&g->model->dit->config);
    pass->x = golden_upload(g, golden_floats(g, "x"), x->n_elements);
    pass->out = golden_upload(g, NULL, pass->n_out);
    pass->dout = golden_upload(g, NULL, pass->n_out);
    pass->dshared = golden_upload(g, NULL, g->model->dit->layout.n_shared);
    golden_require(g, dit_workspace_create(&pass->workspace, g->model->dit, g->engine, pass->n, mode));
    for (int i = 0; i < pass->n; i++) pass->slot[i] = -1;
    pass->gate = (Gate){.n_samples = pass->n, .slot = pass->slot};
    pass->batch = (DitBatch){.n = pass->n, .x = pass->x, .gate = &pass->gate};
}

static void pass_close(Pass *pass) {
    Engine *engine = pass->golden.engine;
    dit_workspace_close(&pass->workspace);
    engine_free(engine, &pass->dshared);
    engine_free(engine, &pass->dout);
    engine_free(engine, &pass->out);
    engine_free(engine, &pass->x);
    golden_close(&pass->golden);
}

// Forward and loss; with `backward` gradients too.
static void pass_run(Pass *pass, bool backward) {
    const Model *model = pass->golden.model;
    Engine *engine = pass->golden.engine;
    dit_forward(model->dit, pass->workspace, model->params.shared, &pass->batch, pass->out);
    engine_cross_entropy(engine, pass->n, model->dit->config.n_classes, pass->out, pass->labels, 1, pass->loss,
                         pass->dout);
    if (backward)
        dit_backward(model->dit, pass->workspace, model->params.shared, &pass->batch, pass->dout, pass->dshared);
}

// Tolerances as of the DiT's golden tests: single precision leaves 3e-7 of outputs and 2e-6 of gradients.
static void test_golden(void **state) {
    (void)state;
    Pass pass;
    pass_open(&pass, 2, (DitMode){.training = true});
    Golden *g = &pass.golden;
    pass_run(&pass, true);
    const size_t n_features = (size_t)pass.n * (size_t)g->model->dit->config.width;
    golden_assert_close("classifier", "features", n_features,
                        golden_download(g, dit_features(pass.workspace), n_features), golden_floats(g, "features"),
                        2e-6);
    golden_assert_close("classifier", "out", pass.n_out, golden_download(g, pass.out, pass.n_out),
                        golden_floats(g, "out"), 2e-6);
    golden_assert_close("classifier", "loss", (size_t)pass.n, pass.loss, golden_floats(g, "loss"), 2e-6);
    golden_assert_close("classifier", "doutput", pass.n_out, golden_download(g, pass.dout, pass.n_out),
                        golden_floats(g, "doutput"), 2e-6);
    golden_assert_gradients(g, "classifier", pass.dshared, NULL);
    pass_close(&pass);
}

// What callers use: host memory in and out, in passes of fewer images than there are.
static void test_run(void **state) {
    (void)state;
    Golden g;
    Classifier classifier;
    golden_open(&g, "classifier", NULL, 2);
    golden_require(&g, engine_create(&g.engine, g.ctx));
    golden_require(&g, classifier_open(&classifier, g.ctx, g.engine, TEST_SOURCE_DIR "/golden/model/classifier", 3));
    const int n = (int)golden_find(&g, "x")->shape[0];
    const size_t n_features = golden_find(&g, "features")->n_elements, n_logits = golden_find(&g, "out")->n_elements;
    float *features = golden_empty(&g, n_features), *logits = golden_empty(&g, n_logits);
    float *alone = golden_empty(&g, n_features);
    classifier_run(&classifier, golden_floats(&g, "x"), n, features, logits);
    golden_assert_close("classifier", "features", n_features, features, golden_floats(&g, "features"), 2e-6);
    golden_assert_close("classifier", "out", n_logits, logits, golden_floats(&g, "out"), 2e-6);
    classifier_run(&classifier, golden_floats(&g, "x"), 1, alone, NULL);
    assert_memory_equal(alone, features, n_features / (size_t)n * sizeof *alone);
    classifier_close(&classifier);
    golden_close(&g);
}

static double mean_loss(Pass *pass) {
    double sum = 0;
    pass_run(pass, false);
    for (int i = 0; i < pass->n; i++) sum += pass->loss[i];
    return sum / pass->n;
}

// Along the gradient, tensor by tensor, the loss rises by its squared length. In single precision a loss of order 1 is
// good for 2e-7, over a rise of 1e-2: 1e-4; the cubic term of a step that makes such a rise is below 1e-2 of it.
static void test_slopes_by_differences(void **state) {
    (void)state;
    Pass pass;
    pass_open(&pass, 1, (DitMode){.training = true});
    Golden *g = &pass.golden;
    const ParamLayout *layout = &g->model->dit->layout;
    pass_run(&pass, true);
    float *gradient = golden_download(g, pass.dshared, layout->n_shared);
    float *weights = golden_download(g, g->model->params.shared, layout->n_shared);
    float *moved = golden_empty(g, layout->n_shared);
    for (int i = 0; i < layout->n_specs; i++) {
        const ParamSpec *spec = &layout->specs[i];
        const size_t at = spec->shared_offset, n = params_spec_size(spec, 0);
        double loss[2], square = 0;
        for (size_t k = 0; k < n; k++) square += (double)gradient[at + k] * gradient[at + k];
        const double step = 5e-3 / square;
        for (int side = 0; side < 2; side++) {
            memcpy(moved, weights, layout->n_shared * sizeof *moved);
            for (size_t k = 0; k < n; k++) moved[at + k] += (float)((side ? -step : step) * gradient[at + k]);
            engine_upload(g->engine, g->model->params.shared, moved, layout->n_shared);
            loss[side] = mean_loss(&pass);
        }
        const double rise = loss[0] - loss[1];
        if (!(fabs(rise - 2 * step * square) < 0.02 * 2 * step * square))
            fail_msg("%s: rose by %g, expected %g", spec->name, rise, 2 * step * square);
    }
    pass_close(&pass);
}

// Threads, recomputed blocks and packed weights change no bit.
static void test_same_bits(void **state) {
    (void)state;
    Pass first, other;
    pass_open(&first, 1, (DitMode){.training = true});
    pass_run(&first, true);
    const size_t n = first.golden.model->dit->layout.n_shared;
    const float *out = golden_download(&first.golden, first.out, first.n_out);
    const float *gradient = golden_download(&first.golden, first.dshared, n);
    const DitMode modes[] = {{.training = true}, {.training = true, .recompute = true}, {.pack = true}};
    for (int i = 0; i < 3; i++) {
        pass_open(&other, 2, modes[i]);
        pass_run(&other, modes[i].training);
        assert_memory_equal(golden_download(&other.golden, other.out, other.n_out), out, other.n_out * sizeof *out);
        if (modes[i].training)
            assert_memory_equal(golden_download(&other.golden, other.dshared, n), gradient, n * sizeof *gradient);
        pass_close(&other);
    }
    pass_close(&first);
}

static DitConfig classifier_config(void) {
    DitConfig config = models_config(false);
    config.learn_sigma = false;
    config.classifier = true;
    return config;
}

static void test_files(void **state) {
    Scratch *scratch = *state;
    KinditContext *ctx = scratch->ctx;
    Engine *engine;
    Model *model, *read;
    DitConfig config = classifier_config();
    assert_ok(ctx, engine_create(&engine, ctx));
    model = models_create(ctx, engine, &config);
    for (int type = 0; type < STORAGE_TYPES; type++) {
        char name[64];
        snprintf(name, sizeof name, "%s.safetensors", storage_name((StorageType)type));
        const char *path = scratch_path(scratch, name);
        assert_ok(ctx, model_write(model, path, (StorageType)type, false));
        assert_ok(ctx, model_open_classifier(&read, ctx, engine, path));
        assert_true(read->dit->config.classifier);
        models_assert_equal(read, model, (int[]){0, 1, 2, 3}, 4, (StorageType)type);
        assert_int_equal(cJSON_GetObjectItemCaseSensitive(read->config, "format")->valueint, 3);
        model_close(&read);
    }
    const char *path = scratch_path(scratch, "f32.safetensors");
    assert_fails(ctx, model_open(&read, ctx, engine, path, NULL), KINDIT_ERROR_ARGUMENT, "draws none");
    models_edit(ctx, path, "\\\"pool\\\":\\\"mean\\\"", "\\\"pool\\\":\\\"last\\\"");
    assert_fails(ctx, model_open_classifier(&read, ctx, engine, path), KINDIT_ERROR_FORMAT, "\"last\"");
    model_close(&model);
    config = models_config(false);
    model = models_create(ctx, engine, &config);
    path = scratch_path(scratch, "draws");
    assert_ok(ctx, model_write(model, path, STORAGE_F32, false));
    assert_fails(ctx, model_open_classifier(&read, ctx, engine, path), KINDIT_ERROR_ARGUMENT, "a model that draws");
    model_close(&model);
    engine_close(&engine);
}

static void test_config_refused(void **state) {
    Scratch *scratch = *state;
    Dit *dit;
    for (int i = 0; i < 3; i++) {
        DitConfig config = classifier_config();
        if (i == 0) config.learn_sigma = true;
        if (i == 1) config.n_classes = 1;
        if (i == 2) config.factored = true, config.n_learngene = 3;
        assert_fails(scratch->ctx, dit_create(&dit, scratch->ctx, &config), KINDIT_ERROR_ARGUMENT, "a classifier is");
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden),    cmocka_unit_test(test_run), cmocka_unit_test(test_slopes_by_differences),
        cmocka_unit_test(test_same_bits), scratch_test(test_files),   scratch_test(test_config_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
