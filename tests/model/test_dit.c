// Structure, counts and the gate's promises at the level of a whole model.
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
// cmocka needs some of the above
#include <cmocka.h>

#include "model/dit.h"

enum { BATCH = 5, CLASSES = 4, IMAGE = 2 * 8 * 8 };

typedef struct Fixture {
    KinditContext *ctx;
    Engine *engine;
    Dit *dit;
    ParamSet params;
    DitWorkspace *workspace;
    float *x, *t, *out, *dshared;
    float *dtailor[CLASSES];
} Fixture;

static DitConfig small_config(void) {
    DitConfig config = dit_config_default();
    config.image_size = 8;
    config.channels = 2;
    config.width = 24;
    config.depth = 2;
    config.heads = 3;
    config.n_classes = CLASSES;
    config.n_learngene = 7;
    config.n_tailor = 2;
    return config;
}

static void fill_normal(Engine *engine, uint64_t seed, float *buffer, size_t n) {
    float *host = malloc(n * sizeof *host);
    assert_non_null(host);
    rng_fill_normal((RngKey){.seed = seed, .purpose = RNG_TEST}, host, n);
    for (size_t i = 0; i < n; i++) host[i] *= 0.2f;
    engine_upload(engine, buffer, host, n);
    free(host);
}

static void fixture_open(Fixture *f, const DitConfig *config, int threads) {
    memset(f, 0, sizeof *f);
    KinditContextSettings settings = kindit_context_settings_default();
    settings.threads = threads;
    assert_int_equal(kindit_context_create(&f->ctx, &settings), KINDIT_OK);
    assert_int_equal(engine_create(&f->engine, f->ctx), KINDIT_OK);
    assert_int_equal(dit_create(&f->dit, f->ctx, config), KINDIT_OK);
    const ParamLayout *layout = &f->dit->layout;
    assert_int_equal(params_alloc(&f->params, f->engine, f->ctx, layout, CLASSES), KINDIT_OK);
    fill_normal(f->engine, 1, f->params.shared, layout->n_shared); // no zero layers: they would hide the rest
    for (int c = 0; c < CLASSES && layout->n_tailor; c++)
        fill_normal(f->engine, 2 + (uint64_t)c, f->params.tailor[c], layout->n_tailor);
    assert_int_equal(dit_workspace_create(&f->workspace, f->dit, f->engine, BATCH, (DitMode){.training = true}),
                     KINDIT_OK);
    assert_int_equal(engine_alloc(f->engine, BATCH * IMAGE, &f->x), KINDIT_OK);
    assert_int_equal(engine_alloc(f->engine, BATCH, &f->t), KINDIT_OK);
    assert_int_equal(engine_alloc(f->engine, BATCH * IMAGE * 2, &f->out), KINDIT_OK);
    assert_int_equal(engine_alloc(f->engine, layout->n_shared, &f->dshared), KINDIT_OK);
    for (int c = 0; c < CLASSES; c++)
        assert_int_equal(engine_alloc(f->engine, layout->n_tailor + 1, &f->dtailor[c]), KINDIT_OK);
    fill_normal(f->engine, 99, f->x, BATCH * IMAGE);
    engine_upload(f->engine, f->t, (float[]){0, 10, 500, 999, 3}, BATCH);
}

static void fixture_close(Fixture *f) {
    for (int c = 0; c < CLASSES; c++) engine_free(f->engine, &f->dtailor[c]);
    engine_free(f->engine, &f->dshared);
    engine_free(f->engine, &f->out);
    engine_free(f->engine, &f->t);
    engine_free(f->engine, &f->x);
    dit_workspace_close(&f->workspace);
    params_close(&f->params);
    dit_close(&f->dit);
    engine_close(&f->engine);
    kindit_context_close(&f->ctx);
}

// Forward (and backward when asked) of samples first .. first + n - 1 with these labels; every class has its own slot.
static void run(Fixture *f, int first, int n, const int *labels, bool backward, float *out) {
    int slot[BATCH];
    const float *tailor[CLASSES];
    for (int i = 0; i < n; i++) slot[i] = labels[i] == CLASSES ? -1 : labels[i];
    for (int c = 0; c < CLASSES; c++) tailor[c] = f->params.tailor[c];
    Gate gate = {n, CLASSES, slot, tailor, f->dtailor};
    DitBatch batch = {.n = n, .x = f->x + (size_t)first * IMAGE, .t = f->t + first, .labels = labels, .gate = &gate};
    dit_forward(f->dit, f->workspace, f->params.shared, &batch, f->out);
    engine_download(f->engine, out, f->out, (size_t)n * IMAGE * 2);
    if (backward) dit_backward(f->dit, f->workspace, f->params.shared, &batch, f->out, f->dshared);
}

// A sample sees the learngene and its own class's tailor only.
static void test_gate_isolates(void **state) {
    (void)state;
    Fixture f;
    DitConfig config = small_config();
    fixture_open(&f, &config, 2);
    const int labels[BATCH] = {0, 2, CLASSES, 0, 3};
    static float before[BATCH][IMAGE * 2], after[BATCH][IMAGE * 2];
    run(&f, 0, BATCH, labels, false, before[0]);
    fill_normal(f.engine, 50, f.params.tailor[0], f.dit->layout.n_tailor);
    fill_normal(f.engine, 51, f.params.tailor[1], f.dit->layout.n_tailor);
    run(&f, 0, BATCH, labels, false, after[0]);
    for (int i = 0; i < BATCH; i++) {
        if (labels[i] == 0)
            assert_memory_not_equal(before[i], after[i], sizeof before[i]);
        else
            assert_memory_equal(before[i], after[i], sizeof before[i]);
    }
    fixture_close(&f);
}

// Only tailors of classes in the batch receive gradient; the others' buffers are not even written.
static void test_gate_gradients(void **state) {
    (void)state;
    Fixture f;
    DitConfig config = small_config();
    config.factor_adaln = true;
    fixture_open(&f, &config, 2);
    const int labels[BATCH] = {0, 2, CLASSES, 0, 2};
    static float out[BATCH * IMAGE * 2];
    float mark = -7.5f, seen;
    for (int c = 0; c < CLASSES; c++) engine_upload(f.engine, f.dtailor[c] + f.dit->layout.n_tailor, &mark, 1);
    run(&f, 0, BATCH, labels, true, out);
    for (int c = 0; c < CLASSES; c++) {
        double squares = engine_sum_squares(f.engine, f.dit->layout.n_tailor, f.dtailor[c]);
        if (c == 0 || c == 2)
            assert_true(squares > 0);
        else
            assert_true(squares == 0);
        engine_download(f.engine, &seen, f.dtailor[c] + f.dit->layout.n_tailor, 1);
        assert_true(seen == mark);
    }
    assert_true(engine_sum_squares(f.engine, f.dit->layout.n_shared, f.dshared) > 0);
    fixture_close(&f);
}

// A sample's output does not depend on what else is in the batch, to the bit.
static void test_batch_independent(void **state) {
    (void)state;
    Fixture f;
    DitConfig config = small_config();
    fixture_open(&f, &config, 2);
    const int labels[BATCH] = {1, 2, CLASSES, 0, 3};
    static float all[BATCH][IMAGE * 2], one[IMAGE * 2];
    run(&f, 0, BATCH, labels, false, all[0]);
    for (int i = 0; i < BATCH; i++) {
        run(&f, i, 1, labels + i, false, one);
        assert_memory_equal(all[i], one, sizeof one);
    }
    fixture_close(&f);
}

// The inference workspace computes what the training one does, in less memory.
static void test_inference_workspace(void **state) {
    (void)state;
    Fixture f;
    DitConfig config = small_config();
    fixture_open(&f, &config, 2);
    const int labels[BATCH] = {1, 2, CLASSES, 0, 3};
    static float training[BATCH * IMAGE * 2], inference[BATCH * IMAGE * 2];
    run(&f, 0, BATCH, labels, false, training);
    dit_workspace_close(&f.workspace);
    assert_int_equal(dit_workspace_create(&f.workspace, f.dit, f.engine, BATCH, (DitMode){0}), KINDIT_OK);
    run(&f, 0, BATCH, labels, false, inference);
    assert_memory_equal(training, inference, sizeof training);
    assert_true(dit_workspace_floats(f.dit, BATCH, (DitMode){0}) <
                dit_workspace_floats(f.dit, BATCH, (DitMode){.training = true}));
    fixture_close(&f);
}

static DitConfig deep_config(bool factored) {
    DitConfig config = small_config();
    config.depth = 4;
    config.factored = factored;
    if (!factored) config.n_learngene = config.n_tailor = 0;
    return config;
}

// Conditioning computed at once for several passes is that of each alone, to the bit.
static void test_passes(void **state) {
    (void)state;
    enum { N = 3, PASSES = 2 };
    const int labels[PASSES * N] = {1, CLASSES, 3, 1, CLASSES, 3}, slot[PASSES * N] = {1, -1, 3, 1, -1, 3};
    const float steps[PASSES * N] = {500, 500, 500, 20, 20, 20};
    for (int i = 0; i < 3; i++) { // dense, KIND, KIND with a factored adaLN
        Fixture f;
        DitConfig config = deep_config(i > 0);
        config.factor_adaln = i == 2;
        fixture_open(&f, &config, 2);
        static float alone[PASSES][N * IMAGE * 2], together[N * IMAGE * 2];
        float *t;
        assert_int_equal(engine_alloc(f.engine, PASSES * N, &t), KINDIT_OK);
        engine_upload(f.engine, t, steps, PASSES * N);
        for (int pass = 0; pass < PASSES; pass++) {
            engine_upload(f.engine, f.t, steps + pass * N, N);
            run(&f, 0, N, labels, false, alone[pass]);
        }
        assert_memory_not_equal(alone[0], alone[1], sizeof alone[0]);
        dit_workspace_close(&f.workspace);
        const DitMode mode = {.pack = true, .slots = CLASSES, .passes = PASSES};
        assert_int_equal(dit_workspace_create(&f.workspace, f.dit, f.engine, N, mode), KINDIT_OK);
        Gate gate = {PASSES * N, CLASSES, slot, (const float *const *)f.params.tailor, NULL};
        DitBatch batch = {.n = PASSES * N, .t = t, .labels = labels, .gate = &gate};
        dit_condition(f.dit, f.workspace, f.params.shared, &batch);
        batch = (DitBatch){.n = gate.n_samples = N, .x = f.x, .labels = labels, .gate = &gate};
        for (int pass = 0; pass < PASSES; pass++) {
            dit_forward_conditioned(f.dit, f.workspace, f.params.shared, &batch, pass * N, f.out);
            engine_download(f.engine, together, f.out, N * IMAGE * 2);
            assert_memory_equal(together, alone[pass], sizeof together);
        }
        engine_free(f.engine, &t);
        fixture_close(&f);
    }
}

// A pass with gradients in another mode: `out` and the shared gradient, which the caller frees.
static float *run_mode(const DitConfig *config, DitMode mode, float out[BATCH * IMAGE * 2]) {
    Fixture f;
    const int labels[BATCH] = {1, 2, CLASSES, 0, 3};
    fixture_open(&f, config, 2);
    dit_workspace_close(&f.workspace);
    mode.training = true;
    assert_int_equal(dit_workspace_create(&f.workspace, f.dit, f.engine, BATCH, mode), KINDIT_OK);
    run(&f, 0, BATCH, labels, true, out);
    float *gradient = malloc(f.dit->layout.n_shared * sizeof *gradient);
    assert_non_null(gradient);
    engine_download(f.engine, gradient, f.dshared, f.dit->layout.n_shared);
    fixture_close(&f);
    return gradient;
}

static void measure_mode(const DitConfig *config, DitMode mode, size_t *n_shared, size_t *floats) {
    Fixture f;
    fixture_open(&f, config, 1);
    mode.training = true;
    *n_shared = f.dit->layout.n_shared;
    *floats = dit_workspace_floats(f.dit, BATCH, mode);
    fixture_close(&f);
}

// Recomputing changes no bit and takes less memory.
static void test_recompute(void **state) {
    (void)state;
    static float kept[BATCH * IMAGE * 2], recomputed[BATCH * IMAGE * 2];
    for (int factored = 0; factored < 2; factored++)
        for (EngineType type = ENGINE_F32; type <= ENGINE_BF16; type++) {
            DitConfig config = deep_config(factored);
            DitMode keep = {.type = type}, again = {.type = type, .recompute = true};
            size_t n, floats_keep, floats_again;
            float *a = run_mode(&config, keep, kept), *b = run_mode(&config, again, recomputed);
            measure_mode(&config, keep, &n, &floats_keep);
            measure_mode(&config, again, &n, &floats_again);
            assert_memory_equal(kept, recomputed, sizeof kept);
            assert_memory_equal(a, b, n * sizeof *a);
            assert_true(floats_again < 0.6 * (double)floats_keep);
            free(a);
            free(b);
        }
}

static double relative_distance(size_t n, const float *x, const float *y) {
    double difference = 0, size = 0;
    for (size_t i = 0; i < n; i++) {
        difference += ((double)x[i] - y[i]) * ((double)x[i] - y[i]);
        size += (double)y[i] * y[i];
    }
    return sqrt(difference / size);
}

// bf16 keeps 8 bits: each stored number is off by 2^-9 of itself at most, at random, and some 40 of them lie between
// the input and the output of these four blocks, so that 40^0.5 2^-9 = 1.2 % is expected of the output at the worst,
// and twice as much of gradients. But not nothing: then bf16 would not be what it says.
static void test_bf16(void **state) {
    (void)state;
    static float exact[BATCH * IMAGE * 2], rounded[BATCH * IMAGE * 2];
    for (int factored = 0; factored < 2; factored++) {
        DitConfig config = deep_config(factored);
        DitMode f32 = {.type = ENGINE_F32}, bf16 = {.type = ENGINE_BF16};
        size_t n, floats_f32, floats_bf16;
        float *a = run_mode(&config, f32, exact), *b = run_mode(&config, bf16, rounded);
        measure_mode(&config, f32, &n, &floats_f32);
        measure_mode(&config, bf16, &n, &floats_bf16);
        double output = relative_distance(sizeof exact / sizeof *exact, rounded, exact),
               slope = relative_distance(n, b, a);
        if (!(output < 0.012 && output > 1e-4)) fail_msg("output: off by %g", output);
        if (!(slope < 0.024 && slope > 1e-4)) fail_msg("gradient: off by %g", slope);
        assert_true(floats_bf16 < 0.75 * (double)floats_f32);
        free(a);
        free(b);
    }
}

// The weights of `from`, in a layout where some come first because they are frozen.
static void copy_weights(Fixture *to, const Fixture *from) {
    const ParamLayout *layout = &from->dit->layout;
    for (int i = 0; i < layout->n_specs; i++) {
        const ParamSpec *a = &to->dit->layout.specs[i], *b = &layout->specs[i];
        engine_copy(to->engine, to->params.shared + a->shared_offset, from->params.shared + b->shared_offset,
                    params_spec_size(b, 0));
    }
    for (int c = 0; c < CLASSES; c++)
        engine_copy(to->engine, to->params.tailor[c], from->params.tailor[c], layout->n_tailor);
}

// n numbers of two engines are the same but for the order of sums, which may be cut into other parts.
static void assert_close(const Fixture *f, const float *found, const float *expected, size_t n, const char *what) {
    float *a = malloc((n + 1) * sizeof *a), *b = malloc((n + 1) * sizeof *b);
    assert_true(a && b);
    engine_download(f->engine, a, found, n);
    engine_download(f->engine, b, expected, n);
    const double off = n ? relative_distance(n, a, b) : 0;
    if (!(off < 1e-6)) fail_msg("%s: off by %g", what, off);
    free(a);
    free(b);
}

// What still trains gets the gradient that it gets when all trains; what is frozen has no place for one.
static void check_frozen(const DitConfig *config, unsigned roles) {
    Fixture all, some;
    const int labels[BATCH] = {1, 2, CLASSES, 0, 3};
    static float out[2][BATCH * IMAGE * 2];
    const float mark = -7.5f;
    float seen;
    fixture_open(&all, config, 2);
    fixture_open(&some, config, 2);
    const ParamLayout *layout = &some.dit->layout;
    params_freeze(&some.dit->layout, roles);
    copy_weights(&some, &all);
    engine_upload(some.engine, some.dshared + params_trained(layout), &mark, layout->n_frozen > 0);
    run(&all, 0, BATCH, labels, true, out[0]);
    run(&some, 0, BATCH, labels, true, out[1]);
    assert_memory_equal(out[0], out[1], sizeof out[0]);
    for (int i = 0; i < layout->n_specs; i++) {
        const ParamSpec *spec = &layout->specs[i];
        const float *found = params_gradient(layout, i, some.dshared);
        assert_int_equal(!found, (spec->role & roles) != 0);
        if (found)
            assert_close(&all, found, params_gradient(&all.dit->layout, i, all.dshared), params_spec_size(spec, 0),
                         spec->name);
    }
    for (int c = 0; c < CLASSES; c++) assert_close(&all, some.dtailor[c], all.dtailor[c], layout->n_tailor, "tailor");
    if (layout->n_frozen) {
        engine_download(some.engine, &seen, some.dshared + params_trained(layout), 1);
        assert_true(seen == mark);
    }
    fixture_close(&all);
    fixture_close(&some);
}

static void test_frozen(void **state) {
    (void)state;
    static const unsigned roles[] = {ROLE_SHARED, ROLE_LEARNGENE, ROLE_SHARED | ROLE_LEARNGENE,
                                     ROLE_SHARED | ROLE_LEARNGENE | ROLE_LABELS};
    for (size_t i = 0; i < sizeof roles / sizeof *roles; i++)
        for (int large = 0; large < 2; large++) { // many tokens go another way
            DitConfig config = deep_config(true);
            config.patch = large ? 1 : 2;
            config.factor_adaln = large;
            check_frozen(&config, roles[i]);
        }
    DitConfig dense = deep_config(false);
    check_frozen(&dense, ROLE_SHARED);
}

static void check_threads(const DitConfig *config) {
    Fixture f[3];
    const int labels[BATCH] = {1, 1, CLASSES, 0, 3};
    static float out[3][BATCH * IMAGE * 2];
    size_t n = 0;
    float *gradient[3];
    for (int i = 0; i < 3; i++) {
        fixture_open(&f[i], config, i + 1);
        run(&f[i], 0, BATCH, labels, true, out[i]);
        n = f[i].dit->layout.n_shared;
        gradient[i] = malloc(n * sizeof(float));
        assert_non_null(gradient[i]);
        engine_download(f[i].engine, gradient[i], f[i].dshared, n);
    }
    for (int i = 1; i < 3; i++) {
        assert_memory_equal(out[0], out[i], sizeof out[0]);
        assert_memory_equal(gradient[0], gradient[i], n * sizeof(float));
    }
    for (int i = 0; i < 3; i++) {
        free(gradient[i]);
        fixture_close(&f[i]);
    }
}

static void test_threads(void **state) {
    (void)state;
    DitConfig config = small_config();
    check_threads(&config);
    config.factored = false;
    config.n_learngene = config.n_tailor = 0;
    check_threads(&config);
}

// The paper's own accounting (Tables 1 and 2), in millions of parameters and G FLOPs.
static void check_counts(const char *preset, bool fused, bool adaln, int n_g, int n_t, double gated, double all,
                         double flops) {
    KinditContext *ctx = NULL;
    Dit *dit = NULL;
    DitCounts counts;
    DitConfig config = dit_config_default();
    assert_int_equal(kindit_context_create(&ctx, NULL), KINDIT_OK);
    assert_int_equal(dit_config_preset(&config, ctx, preset), KINDIT_OK);
    config.fused_qkv = fused;
    config.factor_adaln = adaln;
    config.n_classes = 150;
    config.n_learngene = n_g;
    config.n_tailor = n_t;
    assert_int_equal(dit_create(&dit, ctx, &config), KINDIT_OK);
    dit_count(dit, 1, &counts);
    double width = config.width; // the paper's rows count no class table
    assert_float_equal((counts.learngene + counts.shared + counts.tailor - 2 * width) / 1e6, gated, 5.1e-4);
    assert_float_equal((counts.total - (double)counts.label_rows) / 1e6, all, 5.1e-4);
    if (flops > 0) assert_float_equal(counts.flops_linear / 1e9, flops, 5.1e-4);
    assert_int_equal(counts.total, counts.learngene + counts.shared + 150 * counts.tailor);
    dit_close(&dit);
    kindit_context_close(&ctx);
}

static void test_counts(void **state) {
    (void)state;
    check_counts("DiT-B/2", false, false, 318, 3, 97.886, 172.070, 27.384);
    check_counts("DiT-L/2", false, false, 424, 4, 344.221, 607.958, 97.304);
    check_counts("DiT-B/2", true, true, 318, 3, 70.206, 164.983, 0);
    check_counts("DiT-L/2", true, true, 424, 4, 245.808, 582.768, 0);
}

static void test_config_refused(void **state) {
    (void)state;
    KinditContext *ctx = NULL;
    Dit *dit = NULL;
    assert_int_equal(kindit_context_create(&ctx, NULL), KINDIT_OK);
    DitConfig config = small_config();
    config.heads = 5;
    assert_int_equal(dit_create(&dit, ctx, &config), KINDIT_ERROR_ARGUMENT);
    assert_null(dit);
    assert_non_null(strstr(kindit_context_message(ctx), "heads 5"));
    config = small_config();
    config.patch = 3;
    assert_int_equal(dit_create(&dit, ctx, &config), KINDIT_ERROR_ARGUMENT);
    config = small_config();
    config.n_learngene = 0;
    assert_int_equal(dit_create(&dit, ctx, &config), KINDIT_ERROR_ARGUMENT);
    assert_int_equal(dit_config_preset(&config, ctx, "DiT-Q/2"), KINDIT_ERROR_ARGUMENT);
    kindit_context_close(&ctx);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gate_isolates),
        cmocka_unit_test(test_gate_gradients),
        cmocka_unit_test(test_batch_independent),
        cmocka_unit_test(test_inference_workspace),
        cmocka_unit_test(test_passes),
        cmocka_unit_test(test_recompute),
        cmocka_unit_test(test_bf16),
        cmocka_unit_test(test_frozen),
        cmocka_unit_test(test_threads),
        cmocka_unit_test(test_counts),
        cmocka_unit_test(test_config_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
