// Adapters as parts of a whole model: what they start as, what merging, files, threads and recomputing make of them,
// and what is refused. Their numbers are held to peft's in tests/train/test_adapters.c.
#include <math.h>

#include "model/merge.h"
#include "models.h"

enum { BATCH = 3, IMAGE = 3 * 4 * 4 };

static const AdapterConfig adapters[] = {
    {.kind = ADAPTER_LORA, .rank = 2, .alpha = 3},
    {.kind = ADAPTER_DORA, .rank = 2, .alpha = 3},
    {.kind = ADAPTER_LOHA, .rank = 2, .alpha = 3},
    {.kind = ADAPTER_OFT, .blocks = 3},
    {.kind = ADAPTER_OFT, .blocks = 2, .cayley_terms = 5},
    {.kind = ADAPTER_OFT, .blocks = 1}, // of a wider model: see adapted_config
    {.kind = ADAPTER_LORA, .rank = 2, .alpha = 3},
    {.kind = ADAPTER_COMPONENTS, .rank = 3},
    {.kind = ADAPTER_SVDIFF},
};
enum { N_ADAPTERS = sizeof adapters / sizeof *adapters, FIRST_FACTORED = 6 };

static DitConfig adapted_config(int i) {
    DitConfig config = models_config(i >= FIRST_FACTORED);
    config.n_tailor = 0;
    config.adapter = adapters[i];
    if (adapters[i].blocks == 1) { // wide rotations go through matrices
        config.width = ENGINE_ROTATE_NARROW + 12;
        config.mlp_ratio = 1;
        config.depth = 1;
    }
    return config;
}

typedef struct Fixture {
    KinditContext *ctx;
    Engine *engine;
    Model *model;
} Fixture;

static void fixture_open(Fixture *f, const DitConfig *config, int threads, bool random) {
    KinditContextSettings settings = kindit_context_settings_default();
    settings.threads = threads;
    assert_int_equal(kindit_context_create(&f->ctx, &settings), KINDIT_OK);
    assert_ok(f->ctx, engine_create(&f->engine, f->ctx));
    if (!random) {
        assert_ok(f->ctx, model_create(&f->model, f->ctx, f->engine, config, test_classes, 1));
        return;
    }
    f->model = models_create(f->ctx, f->engine, config);
    const size_t n = f->model->dit->layout.n_shared; // smaller: no activation explodes, no rotation is far
    float *host;
    assert_ok(f->ctx, memory_alloc(f->ctx, n, sizeof *host, &host));
    engine_download(f->engine, host, f->model->params.shared, n);
    for (size_t i = 0; i < n; i++) host[i] *= 0.3f * sqrtf(12 / (float)config->width);
    engine_upload(f->engine, f->model->params.shared, host, n);
    memory_free(&host);
}

static void fixture_close(Fixture *f) {
    model_close(&f->model);
    engine_close(&f->engine);
    kindit_context_close(&f->ctx);
}

// Forward of a fixed batch; with `dshared` backward too, of the loss sum(out * weights): which is returned.
static double run(const Fixture *f, const Model *model, DitMode mode, float *out, float *dshared) {
    enum { OUT = BATCH * 2 * IMAGE };
    static const int labels[BATCH] = {2, 4, 0};
    const float *tailor[BATCH] = {NULL};
    float *dtailor[BATCH] = {NULL}, *gradients, *x, *t, *y, *weights, host[OUT];
    const Dit *dit = model->dit;
    const size_t n_tailor = dit->layout.n_tailor;
    DitWorkspace *workspace;
    double loss = 0;
    mode.training = dshared != NULL;
    assert_ok(f->ctx, engine_alloc(f->engine, BATCH * IMAGE, &x));
    assert_ok(f->ctx, engine_alloc(f->engine, BATCH, &t));
    assert_ok(f->ctx, engine_alloc(f->engine, OUT, &y));
    assert_ok(f->ctx, engine_alloc(f->engine, OUT, &weights));
    assert_ok(f->ctx, engine_alloc(f->engine, 2 * n_tailor + 1, &gradients));
    rng_fill_normal((RngKey){.seed = 1, .purpose = RNG_TEST}, host, BATCH * IMAGE);
    engine_upload(f->engine, x, host, BATCH * IMAGE);
    engine_upload(f->engine, t, (float[]){3, 500, 999}, BATCH);
    for (int i = 0; i < 2; i++) { // the slots of classes 2 and 0
        tailor[i] = model->params.tailor[i ? 0 : 2];
        dtailor[i] = gradients + (size_t)i * n_tailor;
    }
    const Gate gate = {BATCH, 2, (int[]){0, -1, 1}, tailor, dtailor};
    const DitBatch batch = {.n = BATCH, .x = x, .t = t, .labels = labels, .gate = &gate};
    assert_ok(f->ctx, dit_workspace_create(&workspace, dit, f->engine, BATCH, mode));
    dit_forward(dit, workspace, model->params.shared, &batch, y);
    engine_download(f->engine, out, y, OUT);
    rng_fill_normal((RngKey){.seed = 2, .purpose = RNG_TEST}, host, OUT);
    for (int i = 0; i < OUT; i++) loss += (double)out[i] * (double)host[i];
    engine_upload(f->engine, weights, host, OUT);
    if (dshared) dit_backward(dit, workspace, model->params.shared, &batch, weights, dshared);
    dit_workspace_close(&workspace);
    float **all[] = {&x, &t, &y, &weights, &gradients};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) engine_free(f->engine, all[i]);
    return loss;
}

static double distance(size_t n, const float *a, const float *b) {
    double difference = 0, size = 0;
    for (size_t i = 0; i < n; i++) {
        difference += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
        size += (double)b[i] * b[i];
    }
    return sqrt(difference / size);
}

// The dense model that an adapter is folded into draws the same. 2e-5: these weights are larger than a trained model's.
static void test_merge(void **state) {
    (void)state;
    for (int i = 0; i < N_ADAPTERS; i++) {
        Fixture f;
        Model *dense;
        static float adapted[BATCH * 2 * IMAGE], merged[BATCH * 2 * IMAGE];
        const DitConfig config = adapted_config(i);
        fixture_open(&f, &config, 2, true);
        assert_ok(f.ctx, model_merge_adapter(&dense, f.model));
        assert_false(dense->dit->config.factored);
        assert_int_equal(dense->dit->config.adapter.kind, ADAPTER_NONE);
        run(&f, f.model, (DitMode){0}, adapted, NULL);
        run(&f, dense, (DitMode){0}, merged, NULL);
        const double error = distance(sizeof adapted / sizeof *adapted, adapted, merged);
        if (!(error < 2e-5)) fail_msg("%s (%d): off by %g", adapter_name(adapters[i].kind), i, error);
        model_close(&dense);
        fixture_close(&f);
    }
    Fixture f;
    Model *dense;
    const DitConfig config = models_config(false);
    fixture_open(&f, &config, 1, true);
    assert_fails(f.ctx, model_merge_adapter(&dense, f.model), KINDIT_ERROR_ARGUMENT, "no adapter");
    fixture_close(&f);
}

// The derivative along a direction in the space of all that trains, against a central difference. 3e-3: outputs are
// single precision, and the difference divides their rounding by the step.
static void test_differences(void **state) {
    (void)state;
    for (int i = 0; i < N_ADAPTERS; i++) {
        Fixture f;
        static float out[BATCH * 2 * IMAGE];
        const DitConfig config = adapted_config(i);
        fixture_open(&f, &config, 2, true);
        const ParamLayout *layout = &f.model->dit->layout;
        const size_t n = params_trained(layout), first = layout->n_frozen;
        const float step = 2e-3f * sqrtf(12 / (float)config.width); // along as many more numbers as the square of it
        float *host = calloc(4 * n, sizeof *host), *direction = host + n, *moved = host + 2 * n, *gradient;
        assert_non_null(host);
        assert_ok(f.ctx, engine_alloc(f.engine, n, &gradient));
        engine_download(f.engine, host, f.model->params.shared + first, n);
        rng_fill_normal((RngKey){.seed = 3, .purpose = RNG_TEST}, direction, n);
        run(&f, f.model, (DitMode){0}, out, gradient);
        engine_download(f.engine, host + 3 * n, gradient, n);
        double expected = 0, loss[2];
        for (size_t k = 0; k < n; k++) expected += (double)host[3 * n + k] * (double)direction[k];
        for (int side = 0; side < 2; side++) {
            for (size_t k = 0; k < n; k++) moved[k] = host[k] + (side ? step : -step) * direction[k];
            engine_upload(f.engine, f.model->params.shared + first, moved, n);
            loss[side] = run(&f, f.model, (DitMode){0}, out, NULL);
        }
        const double found = (loss[1] - loss[0]) / (2.0 * (double)step);
        // DoRA's norms count as constants in its gradient, but move here: its own test is golden.
        if (adapters[i].kind != ADAPTER_DORA && !(fabs(found - expected) < 3e-3 * fabs(expected)))
            fail_msg("%s (%d): difference %g, gradient %g", adapter_name(adapters[i].kind), i, found, expected);
        engine_free(f.engine, &gradient);
        free(host);
        fixture_close(&f);
    }
}

static float *gradient_of(const DitConfig *config, int threads, DitMode mode, float *out, size_t *n) {
    Fixture f;
    float *gradient, *host;
    fixture_open(&f, config, threads, true);
    *n = params_trained(&f.model->dit->layout);
    assert_ok(f.ctx, engine_alloc(f.engine, *n, &gradient));
    run(&f, f.model, mode, out, gradient);
    host = calloc(*n, sizeof *host);
    assert_non_null(host);
    engine_download(f.engine, host, gradient, *n);
    engine_free(f.engine, &gradient);
    fixture_close(&f);
    return host;
}

// Threads and recomputing change no bit; bf16 changes little, but something.
static void test_modes(void **state) {
    (void)state;
    for (int i = 0; i < N_ADAPTERS; i++) {
        static float out[4][BATCH * 2 * IMAGE];
        const DitConfig config = adapted_config(i);
        size_t n;
        float *g[] = {gradient_of(&config, 2, (DitMode){0}, out[0], &n),
                      gradient_of(&config, 1, (DitMode){0}, out[1], &n),
                      gradient_of(&config, 2, (DitMode){.recompute = true}, out[2], &n),
                      gradient_of(&config, 2, (DitMode){.type = ENGINE_BF16}, out[3], &n)};
        for (int k = 1; k < 3; k++) {
            assert_memory_equal(out[0], out[k], sizeof out[0]);
            assert_memory_equal(g[0], g[k], n * sizeof **g);
        }
        const double error = distance(n, g[3], g[0]);
        if (!(error > 1e-4 && error < 0.06)) fail_msg("%s (%d): bf16: %g", adapter_name(adapters[i].kind), i, error);
        for (int k = 0; k < 4; k++) free(g[k]);
    }
}

// An adapted matrix starts as its base's.
static void test_start(void **state) {
    (void)state;
    for (int i = 0; i < N_ADAPTERS; i++) {
        Fixture f;
        const DitConfig config = adapted_config(i);
        fixture_open(&f, &config, 1, false);
        const Dit *dit = f.model->dit;
        const Linear *k = &dit->blocks[config.depth - 1].k;
        const int n = k->m1 * k->m2;
        double *W = calloc(2 * (size_t)n, sizeof *W);
        float *shared = calloc(dit->layout.n_shared, sizeof *shared);
        engine_download(f.engine, shared, f.model->params.shared, dit->layout.n_shared);
        assert_ok(f.ctx, k->kind->merge(k, f.ctx, shared, NULL, W));
        assert_ok(f.ctx, k->base->merge(k, f.ctx, shared, NULL, W + n));
        for (int j = 0; j < n; j++) {
            const double moved = fabs(W[j] - W[n + j]);
            if (moved > 1e-7) fail_msg("%s (%d): W[%d] moves by %g", adapter_name(adapters[i].kind), i, j, moved);
        }
        free(shared);
        free(W);
        fixture_close(&f);
    }
}

// kaiming_uniform_(a = sqrt(5)): uniform within 1 / sqrt(fan_in), its variance a third of the square of that.
static void test_lora_start(void **state) {
    (void)state;
    Fixture f;
    DitConfig config = adapted_config(0);
    config.width = 96;
    config.adapter.rank = 40;
    config.adapter.alpha = 20;
    fixture_open(&f, &config, 1, false);
    const Linear *linear = &f.model->dit->blocks[0].in;
    const ParamSpec *specs = f.model->dit->layout.specs, *a = &specs[linear->param[LORA_A]],
                    *s = &specs[linear->param[LORA_S]];
    const size_t n = params_spec_size(a, 0);
    float *host = calloc(n, sizeof *host), scale[40];
    double squares = 0, largest = 0;
    engine_download(f.engine, host, f.model->params.shared + a->shared_offset, n);
    for (size_t i = 0; i < n; i++) {
        squares += (double)host[i] * (double)host[i] / (double)n;
        if (fabs((double)host[i]) > largest) largest = fabs((double)host[i]);
    }
    assert_float_equal(squares, 1.0 / 96 / 3, 1.0 / 96 / 3 * 0.06); // 3840 numbers: 1.4 % is a standard deviation
    assert_true(largest <= 1 / sqrt(96) && largest > 0.99 / sqrt(96));
    engine_download(f.engine, scale, f.model->params.shared + s->shared_offset, 40);
    for (int i = 0; i < 40; i++) assert_true(scale[i] == 0.5f);
    free(host);
    fixture_close(&f);
}

// Written and read again, whole, and in 8 bits, where adapters keep 16.
static void test_file(void **state) {
    Scratch *scratch = *state;
    static const int classes[] = {0, 1, 2, 3};
    Engine *engine;
    assert_ok(scratch->ctx, engine_create(&engine, scratch->ctx));
    for (int i = 0; i < N_ADAPTERS; i++)
        for (int type = STORAGE_F32; type <= STORAGE_INT8; type += STORAGE_INT8) {
            char name[64];
            const DitConfig config = adapted_config(i);
            Model *model = models_create(scratch->ctx, engine, &config), *found;
            snprintf(name, sizeof name, "%d-%d.safetensors", i, type);
            const char *path = scratch_path(scratch, name);
            assert_ok(scratch->ctx, model_write(model, path, (StorageType)type, false));
            assert_ok(scratch->ctx, model_open(&found, scratch->ctx, engine, path, NULL));
            assert_memory_equal(&found->dit->config.adapter, &config.adapter, sizeof config.adapter);
            models_assert_equal(found, model, classes, 4, (StorageType)type);
            model_close(&found);
            model_close(&model);
        }
    engine_close(&engine);
}

static void refuse(KinditContext *ctx, DitConfig config, AdapterConfig adapter, const char *text) {
    Dit *dit;
    config.adapter = adapter;
    assert_fails(ctx, dit_create(&dit, ctx, &config), KINDIT_ERROR_ARGUMENT, text);
}

static void test_refused(void **state) {
    Scratch *scratch = *state;
    const DitConfig dense = models_config(false); // of width 12
    DitConfig factored = models_config(true);
    refuse(scratch->ctx, dense, (AdapterConfig){.kind = ADAPTER_LORA, .rank = 13, .alpha = 1}, "at most 12");
    refuse(scratch->ctx, dense, (AdapterConfig){.kind = ADAPTER_LORA, .alpha = 1}, "rank: expected 1");
    refuse(scratch->ctx, dense, (AdapterConfig){.kind = ADAPTER_LOHA, .rank = 2}, "alpha");
    refuse(scratch->ctx, dense, (AdapterConfig){.kind = ADAPTER_OFT, .blocks = 5}, "4 or 6 would do");
    refuse(scratch->ctx, dense, (AdapterConfig){.kind = ADAPTER_OFT, .blocks = 12}, "6 would do");
    refuse(scratch->ctx, dense, (AdapterConfig){.kind = ADAPTER_OFT, .blocks = 3, .cayley_terms = 1}, "1 term");
    refuse(scratch->ctx, dense, (AdapterConfig){.kind = ADAPTER_OFT, .blocks = 3, .rank = 4}, "has no rank");
    refuse(scratch->ctx, dense, (AdapterConfig){.kind = ADAPTER_SVDIFF}, "rides on a factored model");
    refuse(scratch->ctx, factored, (AdapterConfig){.kind = ADAPTER_LORA, .rank = 2, .alpha = 1}, "3 components each");
    factored.n_tailor = 0;
    refuse(scratch->ctx, factored, (AdapterConfig){.kind = ADAPTER_DORA, .rank = 2, .alpha = 1}, "rides on a dense");
}

static void test_config_refused(void **state) {
    Scratch *scratch = *state;
    static const struct {
        const char *json, *text;
    } cases[] = {
        {"{\"kind\": \"lora\", \"rank\": 2, \"alpha\": 1, \"dropout\": 0.1}", "has no \"dropout\""},
        {"{\"kind\": \"lora\", \"rank\": 2.5, \"alpha\": 1}", "a whole number"},
        {"{\"kind\": \"lora\", \"rank\": 2}", "alpha"},
        {"{\"kind\": \"loro\", \"rank\": 2}", "no kind \"loro\""},
        {"{\"kind\": \"oft\", \"blocks\": 0, \"cayley_terms\": 0}", "blocks"},
        {"3", "expected an object"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        AdapterConfig adapter;
        cJSON *json = cJSON_Parse(cases[i].json);
        assert_non_null(json);
        assert_fails(scratch->ctx, adapter_parse(json, scratch->ctx, "config.json", &adapter), KINDIT_ERROR_FORMAT,
                     cases[i].text);
        cJSON_Delete(json);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_merge), cmocka_unit_test(test_differences), cmocka_unit_test(test_modes),
        cmocka_unit_test(test_start), cmocka_unit_test(test_lora_start),  scratch_test(test_file),
        scratch_test(test_refused),   scratch_test(test_config_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
