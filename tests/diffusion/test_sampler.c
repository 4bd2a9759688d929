// The sampler against the textbook's formulas on a small model with random weights, and what it promises: an image
// depends on the seed and its number alone.
#include <math.h>

#include "diffusion/sampler_memory.h"
#include "scratch.h"

enum { CLASSES = 3, CHANNELS = 4, SIDE = 4, PLANE = SIDE * SIDE, SIZE = CHANNELS * PLANE, MOST = 16 };

typedef struct Tiny {
    KinditContext *ctx;
    Engine *engine;
    Model *model;
} Tiny;

// DiT starts with a final layer of zeros, whose output says nothing: all weights are made random.
static void randomise(Tiny *tiny) {
    const ParamLayout *layout = &tiny->model->dit->layout;
    float *values = test_calloc(layout->n_shared + layout->n_tailor, sizeof *values);
    for (int c = -1; c < tiny->model->params.n_classes; c++) {
        const size_t n = c < 0 ? layout->n_shared : layout->n_tailor;
        rng_fill_normal((RngKey){.seed = 5, .sample = (uint64_t)(c + 1), .purpose = RNG_TEST}, values, n);
        for (size_t i = 0; i < n; i++) values[i] *= 0.1f;
        engine_upload(tiny->engine, c < 0 ? tiny->model->params.shared : tiny->model->params.tailor[c], values, n);
    }
    test_free(values);
}

static Tiny tiny_open(int threads, bool learn_sigma, bool factored) {
    static const ModelClass classes[CLASSES] = {{"a", "A"}, {"b", "B"}, {"c", "C"}};
    KinditContextSettings settings = {.threads = threads};
    DitConfig config = {.image_size = SIDE,
                        .channels = CHANNELS,
                        .patch = 2,
                        .width = 72,
                        .depth = 2,
                        .heads = 2,
                        .mlp_ratio = 2,
                        .learn_sigma = learn_sigma,
                        .factored = factored,
                        .n_learngene = factored ? 43 : 0,
                        .n_tailor = factored ? 2 : 0,
                        .n_classes = CLASSES,
                        .mlp_norm_eps = DIT_NORM_EPS};
    Tiny tiny = {0};
    assert_int_equal(kindit_context_create(&tiny.ctx, &settings), KINDIT_OK);
    assert_ok(tiny.ctx, engine_create(&tiny.engine, tiny.ctx));
    assert_ok(tiny.ctx, model_create(&tiny.model, tiny.ctx, tiny.engine, &config, classes, 1));
    randomise(&tiny);
    return tiny;
}

static void tiny_close(Tiny *tiny) {
    model_close(&tiny->model);
    engine_close(&tiny->engine);
    kindit_context_close(&tiny->ctx);
}

static SamplerSettings quick(SamplerMethod method, int steps) {
    SamplerSettings settings = sampler_settings_default();
    settings.method = method;
    settings.steps = steps;
    settings.seed = 42;
    return settings;
}

static const int some_labels[MOST] = {0, 1, 2, CLASSES, 2, 1, 0, 0, 1, 2, 2, 2, CLASSES, 0, 1, 0};

// ---- the textbook --------------------------------------------------------------------------------------------------

// The model's answer for one image and label alone.
static void answer(const Tiny *tiny, const float *x, int timestep, int label, float *output) {
    const Dit *dit = tiny->model->dit;
    const size_t n_out = (size_t)dit_config_out_channels(&dit->config) * PLANE;
    DitWorkspace *workspace;
    ClassGate gate;
    float *x_engine, *t_engine, *out_engine, t = (float)timestep;
    assert_ok(tiny->ctx, dit_workspace_create(&workspace, dit, tiny->engine, 1, (DitMode){0}));
    assert_ok(tiny->ctx, gate_create(&gate, tiny->engine, tiny->ctx, 1, CLASSES, 1, dit->layout.n_tailor, false));
    assert_ok(tiny->ctx, engine_alloc(tiny->engine, SIZE, &x_engine));
    assert_ok(tiny->ctx, engine_alloc(tiny->engine, 1, &t_engine));
    assert_ok(tiny->ctx, engine_alloc(tiny->engine, n_out, &out_engine));
    engine_upload(tiny->engine, x_engine, x, SIZE);
    engine_upload(tiny->engine, t_engine, &t, 1);
    gate_open(&gate, &tiny->model->params, &label, 1);
    DitBatch batch = {.n = 1, .x = x_engine, .t = t_engine, .labels = &label, .gate = &gate.gate};
    dit_forward(dit, workspace, tiny->model->params.shared, &batch, out_engine);
    engine_download(tiny->engine, output, out_engine, n_out);
    engine_free(tiny->engine, &out_engine);
    engine_free(tiny->engine, &t_engine);
    engine_free(tiny->engine, &x_engine);
    gate_close(&gate);
    dit_workspace_close(&workspace);
}

// One element of one step, in double: Ho et al. 2020, Eq. 6-7; Song et al. 2020, Eq. 12.
static double textbook_element(const SamplerSettings *s, const Schedule *schedule, int i, double x, double eps,
                               double v, bool learned, double z) {
    const double abar = schedule->alpha_bar[i], previous = schedule->alpha_bar_prev[i], beta = schedule->beta[i];
    double x0 = (x - sqrt(1 - abar) * eps) / sqrt(abar);
    if (s->clip) x0 = fmax(-1, fmin(1, x0));
    if (s->method == SAMPLER_DDPM) {
        double mean = sqrt(previous) * beta / (1 - abar) * x0 + sqrt(1 - beta) * (1 - previous) / (1 - abar) * x;
        double low = schedule->posterior_log_variance[i], fraction = (v + 1) / 2;
        double log_variance = learned ? fraction * log(beta) + (1 - fraction) * low : log(beta);
        return i == 0 ? mean : mean + exp(0.5 * log_variance) * z;
    }
    double sigma = s->eta * sqrt((1 - previous) / (1 - abar)) * sqrt(1 - abar / previous);
    eps = (x - sqrt(abar) * x0) / sqrt(1 - abar);
    return sqrt(previous) * x0 + sqrt(fmax(0, 1 - previous - sigma * sigma)) * eps + (i == 0 ? 0 : sigma * z);
}

// All steps of one image; `x` starts as x_T, noise (steps, stride) holds z of this image.
static void textbook(const Tiny *tiny, const SamplerSettings *s, int label, const float *noise, size_t stride,
                     float *x) {
    const bool learned = tiny->model->dit->config.learn_sigma;
    Schedule full, schedule;
    assert_ok(tiny->ctx, schedule_create(&full, tiny->ctx, 1000, 1e-4, 0.02));
    assert_ok(tiny->ctx, schedule_respace(&schedule, tiny->ctx, &full, s->steps, false));
    for (int k = 0; k < s->steps; k++) {
        float with[2 * SIZE], without[2 * SIZE];
        const int i = s->steps - 1 - k;
        answer(tiny, x, schedule.timestep[i], label, with);
        answer(tiny, x, schedule.timestep[i], CLASSES, without);
        for (int e = 0; e < SIZE; e++) {
            bool guided = s->guided == GUIDANCE_ALL || e < 3 * PLANE;
            double eps = guided ? without[e] + s->guidance * (with[e] - without[e]) : with[e];
            x[e] = (float)textbook_element(s, &schedule, i, x[e], eps, learned ? with[SIZE + e] : 0, learned,
                                           noise[(size_t)k * stride + (size_t)e]);
        }
    }
    schedule_close(&schedule);
    schedule_close(&full);
}

static void check_textbook(const SamplerSettings *settings, bool learn_sigma, bool factored) {
    enum { N = 4, STEPS = 6 };
    static float start[N * SIZE], noise[STEPS * N * SIZE], trajectory[STEPS * N * SIZE], out[N * SIZE];
    Tiny tiny = tiny_open(1, learn_sigma, factored);
    assert_int_equal(settings->steps, STEPS);
    rng_fill_normal((RngKey){.seed = 1, .purpose = RNG_TEST}, start, N * SIZE);
    rng_fill_normal((RngKey){.seed = 2, .purpose = RNG_TEST}, noise, STEPS * N * SIZE);
    assert_ok(tiny.ctx, sampler_run_from(tiny.model, settings, N, some_labels, start, noise, trajectory, out));
    assert_memory_equal(out, trajectory + (STEPS - 1) * N * SIZE, sizeof out);
    for (int n = 0; n < N; n++) {
        float x[SIZE];
        memcpy(x, start + n * SIZE, sizeof x);
        textbook(&tiny, settings, some_labels[n], noise + n * SIZE, N * SIZE, x);
        for (int e = 0; e < SIZE; e++)
            if (!(fabsf(x[e] - out[n * SIZE + e]) <= 2e-4f * (1 + fabsf(x[e]))))
                fail_msg("image %d element %d: expected %g, found %g", n, e, x[e], out[n * SIZE + e]);
    }
    tiny_close(&tiny);
}

static void test_ddpm(void **state) {
    (void)state;
    SamplerSettings settings = quick(SAMPLER_DDPM, 6);
    settings.batch = 3; // a batch that the images don't fill
    settings.guidance = 2.5;
    check_textbook(&settings, true, true);
    check_textbook(&settings, false, true);
    settings.guided = GUIDANCE_FIRST_3;
    check_textbook(&settings, true, true);
    check_textbook(&settings, true, false);
}

static void test_ddim(void **state) {
    (void)state;
    SamplerSettings settings = quick(SAMPLER_DDIM, 6);
    check_textbook(&settings, true, true);
    settings.eta = 0.7;
    check_textbook(&settings, true, true);
    settings.guidance = 1;
    check_textbook(&settings, false, true);
}

// ---- promises ------------------------------------------------------------------------------------------------------

// Bit for bit: whatever the batch, the number of threads, and which part of the run is asked for.
static void check_same_images(SamplerMethod method, bool factored) {
    enum { N = 13, FIRST = 4 };
    static float expected[N * SIZE], found[N * SIZE];
    static const int batches[] = {1, 2, 5, 64};
    SamplerSettings settings = quick(method, 4);
    settings.eta = method == SAMPLER_DDIM ? 0.5 : 0;
    settings.batch = 4;
    Tiny one = tiny_open(1, true, factored), two = tiny_open(2, true, factored);
    assert_ok(one.ctx, sampler_run(one.model, &settings, 100, N, some_labels, expected));
    for (size_t b = 0; b < sizeof batches / sizeof *batches; b++) {
        settings.batch = batches[b];
        assert_ok(two.ctx, sampler_run(two.model, &settings, 100, N, some_labels, found));
        assert_memory_equal(found, expected, sizeof expected);
    }
    assert_ok(two.ctx, sampler_run(two.model, &settings, 100 + FIRST, N - FIRST, some_labels + FIRST, found));
    assert_memory_equal(found, expected + FIRST * SIZE, (N - FIRST) * SIZE * sizeof *found);
    settings.seed++;
    assert_ok(two.ctx, sampler_run(two.model, &settings, 100, N, some_labels, found));
    assert_memory_not_equal(found, expected, sizeof expected);
    tiny_close(&two);
    tiny_close(&one);
}

static void test_same_images(void **state) {
    (void)state;
    check_same_images(SAMPLER_DDPM, true);
    check_same_images(SAMPLER_DDIM, true);
    check_same_images(SAMPLER_DDPM, false);
}

// The class and no other tailor decides an image: overwriting the others changes nothing.
static void test_other_tailors_are_not_read(void **state) {
    (void)state;
    static float before[SIZE], after[SIZE], poison[16384];
    const int label = 1;
    SamplerSettings settings = quick(SAMPLER_DDPM, 5);
    Tiny tiny = tiny_open(2, true, true);
    const size_t n = tiny.model->dit->layout.n_tailor;
    assert_true(n <= sizeof poison / sizeof *poison);
    for (size_t i = 0; i < n; i++) poison[i] = NAN;
    assert_ok(tiny.ctx, sampler_run(tiny.model, &settings, 0, 1, &label, before));
    engine_upload(tiny.engine, tiny.model->params.tailor[0], poison, n);
    engine_upload(tiny.engine, tiny.model->params.tailor[2], poison, n);
    assert_ok(tiny.ctx, sampler_run(tiny.model, &settings, 0, 1, &label, after));
    assert_memory_equal(before, after, sizeof before);
    tiny_close(&tiny);
}

static void test_no_tailors(void **state) {
    (void)state;
    enum { N = 6 };
    static float nulls[N * SIZE], shut[N * SIZE], rows[N * SIZE], zeroed[N * SIZE];
    const int none[N] = {CLASSES, CLASSES, CLASSES, CLASSES, CLASSES, CLASSES}, labels[N] = {0, 1, 2, 0, 1, 2};
    SamplerSettings settings = quick(SAMPLER_DDPM, 5);
    Tiny tiny = tiny_open(2, true, true);
    assert_ok(tiny.ctx, sampler_run(tiny.model, &settings, 0, N, none, nulls));
    settings.no_tailors = true;
    assert_ok(tiny.ctx, sampler_run(tiny.model, &settings, 0, N, labels, shut));
    assert_memory_equal(shut, nulls, sizeof nulls);
    settings.keep_label_rows = true;
    assert_ok(tiny.ctx, sampler_run(tiny.model, &settings, 0, N, labels, rows));
    assert_memory_not_equal(rows, nulls, sizeof nulls);

    // The same as a model whose tailors' sigma are zero: their components then add nothing.
    static const float zeros[64];
    const ParamLayout *layout = &tiny.model->dit->layout;
    for (int i = 0; i < layout->n_specs; i++) {
        const ParamSpec *spec = &layout->specs[i];
        const char *suffix = strrchr(spec->name, '.');
        for (int c = 0; c < CLASSES && strcmp(suffix, ".s") == 0; c++)
            engine_upload(tiny.engine, tiny.model->params.tailor[c] + spec->tailor_offset, zeros,
                          (size_t)spec->tailor_rows * spec->row);
    }
    settings.no_tailors = settings.keep_label_rows = false;
    assert_ok(tiny.ctx, sampler_run(tiny.model, &settings, 0, N, labels, zeroed));
    assert_memory_equal(zeroed, rows, sizeof rows);
    tiny_close(&tiny);
}

// A model trained with another schedule is sampled with it.
static void test_schedule_of_the_model(void **state) {
    (void)state;
    static float usual[SIZE], other[SIZE];
    const int label = 0;
    SamplerSettings settings = quick(SAMPLER_DDIM, 10);
    Tiny tiny = tiny_open(1, true, true);
    assert_ok(tiny.ctx, sampler_run(tiny.model, &settings, 0, 1, &label, usual));
    cJSON *training = cJSON_AddObjectToObject(tiny.model->config, "training");
    cJSON_AddNumberToObject(training, "diffusion_steps", 1000);
    cJSON_AddNumberToObject(training, "beta_first", 1e-4);
    cJSON_AddNumberToObject(training, "beta_last", 0.02);
    assert_ok(tiny.ctx, sampler_run(tiny.model, &settings, 0, 1, &label, other));
    assert_memory_equal(other, usual, sizeof usual);
    cJSON_SetNumberValue(cJSON_GetObjectItem(training, "diffusion_steps"), 100);
    assert_ok(tiny.ctx, sampler_run(tiny.model, &settings, 0, 1, &label, other));
    assert_memory_not_equal(other, usual, sizeof usual);
    settings.steps = 101;
    assert_fails(tiny.ctx, sampler_run(tiny.model, &settings, 0, 1, &label, other), KINDIT_ERROR_ARGUMENT, "1 to 100");
    cJSON_SetNumberValue(cJSON_GetObjectItem(training, "diffusion_steps"), -1);
    assert_fails(tiny.ctx, sampler_run(tiny.model, &settings, 0, 1, &label, other), KINDIT_ERROR_FORMAT,
                 "diffusion_steps");
    tiny_close(&tiny);
}

typedef struct Watch {
    int64_t last, total;
    int stop_after, calls;
} Watch;

static void watch_progress(void *user, const KinditProgress *progress) {
    Watch *watch = user;
    assert_true(progress->done > watch->last && progress->done <= progress->total);
    watch->last = progress->done;
    watch->total = progress->total;
    watch->calls++;
}

static bool watch_cancelled(void *user) {
    const Watch *watch = user;
    return watch->stop_after > 0 && watch->calls >= watch->stop_after;
}

static void test_progress_and_cancel(void **state) {
    (void)state;
    static float out[5 * SIZE];
    Watch watch = {0};
    SamplerSettings settings = quick(SAMPLER_DDIM, 7);
    settings.batch = 2;
    Tiny tiny = tiny_open(1, true, true);
    tiny.ctx->settings.user = &watch;
    tiny.ctx->settings.progress = watch_progress;
    tiny.ctx->settings.cancelled = watch_cancelled;
    assert_ok(tiny.ctx, sampler_run(tiny.model, &settings, 0, 5, some_labels, out));
    assert_int_equal(watch.total, 35);
    assert_int_equal(watch.last, 35);
    const size_t held = engine_allocated(tiny.engine);
    watch = (Watch){.stop_after = 3};
    assert_int_equal(sampler_run(tiny.model, &settings, 0, 5, some_labels, out), KINDIT_CANCELLED);
    assert_int_equal(watch.calls, 3);
    assert_int_equal(engine_allocated(tiny.engine), held);
    tiny_close(&tiny);
}

static void test_refusals(void **state) {
    (void)state;
    static float out[SIZE];
    const int label = 0, beyond = CLASSES + 1;
    const SamplerSettings good = quick(SAMPLER_DDIM, 2);
    SamplerSettings bad;
    Tiny tiny = tiny_open(1, true, true), dense = tiny_open(1, true, false);
#define REFUSES(change, text)                                                                                          \
    bad = good;                                                                                                        \
    change;                                                                                                            \
    assert_fails(tiny.ctx, sampler_run(tiny.model, &bad, 0, 1, &label, out), KINDIT_ERROR_ARGUMENT, text)
    REFUSES(bad.steps = 0, "steps");
    REFUSES(bad.eta = -0.1, "eta");
    REFUSES(bad.eta = NAN, "eta");
    REFUSES(bad.guidance = INFINITY, "guidance");
    REFUSES(bad.batch = 0, "batch");
    REFUSES(bad.keep_label_rows = true, "label rows");
#undef REFUSES
    assert_fails(tiny.ctx, sampler_run(tiny.model, &good, 0, 1, &beyond, out), KINDIT_ERROR_ARGUMENT, "found 4");
    bad = good;
    bad.no_tailors = true;
    assert_fails(dense.ctx, sampler_run(dense.model, &bad, 0, 1, &label, out), KINDIT_ERROR_ARGUMENT, "dense");
    assert_ok(tiny.ctx, sampler_run(tiny.model, &good, 0, 0, NULL, NULL));
    bad = good;
    bad.guidance = 1e38;
    bad.clip = false;
    bad.steps = 5;
    assert_fails(tiny.ctx, sampler_run(tiny.model, &bad, 0, 1, &label, out), KINDIT_ERROR_NUMERIC, "guidance");
    tiny_close(&dense);
    tiny_close(&tiny);
}

static void test_pixels(void **state) {
    (void)state;
    // (1, 2, 2, 2): planes become interleaved; values beyond the range are clamped, halves go to even.
    const float images[8] = {-1, 1, 0, -2, 2, 0.0039f, NAN, -0.996f};
    const uint8_t expected[8] = {0, 255, 255, 128, 128, 0, 0, 1};
    uint8_t found[8];
    sampler_to_pixels(images, 1, 2, 2, found);
    assert_memory_equal(found, expected, sizeof expected);
}

// ---- memory --------------------------------------------------------------------------------------------------------

typedef struct Peak {
    const Engine *engine;
    size_t bytes;
} Peak;

static void note_peak(void *user, const KinditProgress *progress) {
    (void)progress;
    Peak *peak = user;
    if (engine_allocated(peak->engine) > peak->bytes) peak->bytes = engine_allocated(peak->engine);
}

// The memory foretold is the memory taken, to the byte.
static void check_memory(bool factored, SamplerSettings settings, int n, int threads) {
    Tiny tiny = tiny_open(threads, true, factored);
    Peak peak = {tiny.engine, 0};
    SamplerMemory memory;
    float out[MOST * SIZE];
    tiny.ctx->settings.progress = note_peak;
    tiny.ctx->settings.user = &peak;
    assert_ok(tiny.ctx, sampler_run(tiny.model, &settings, 0, n, some_labels, out));
    sampler_predict_memory(&memory, tiny.model->dit, &settings, n,
                           sampler_tailors(tiny.model, &settings, n, some_labels), threads);
    assert_int_equal(memory.total, peak.bytes);
    assert_int_equal(memory.weights, engine_allocated(tiny.engine) - memory.scratch); // what is left: scratch stays
    tiny_close(&tiny);
}

static void test_memory_is_foretold(void **state) {
    (void)state;
    for (int factored = 0; factored < 2; factored++)
        for (int threads = 1; threads <= 3; threads++) {
            SamplerSettings settings = quick(SAMPLER_DDIM, 2);
            check_memory(factored, settings, 1, threads);
            settings.batch = 5;
            check_memory(factored, settings, MOST, threads);
            settings.bf16 = true;
            settings.guidance = 1;
            check_memory(factored, settings, 3, threads);
            settings.guidance = 2;
            settings.no_tailors = settings.keep_label_rows = factored;
            check_memory(factored, settings, 3, threads);
        }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ddpm),
        cmocka_unit_test(test_ddim),
        cmocka_unit_test(test_same_images),
        cmocka_unit_test(test_other_tailors_are_not_read),
        cmocka_unit_test(test_no_tailors),
        cmocka_unit_test(test_schedule_of_the_model),
        cmocka_unit_test(test_progress_and_cancel),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_pixels),
        cmocka_unit_test(test_memory_is_foretold),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
