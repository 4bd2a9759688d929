// A small base, a data set to adapt it to, and runs of that.
#ifndef TESTS_ADAPT_ADAPTING_H
#define TESTS_ADAPT_ADAPTING_H

#include "adapt/adapt.h"
#include "data/tiny_dataset.h"
#include "model/models.h"

enum { BASE_CLASSES = 4, NEW_CLASSES = 3, SIDE = 4, STEPS = 6 };

typedef struct Bench {
    Scratch *scratch;
    KinditContext *ctx;
    Engine *engine;
    char data[1024], base[1024]; // 3 classes to adapt to; a factored or a dense model of 4
    Model *model;                // the base
} Bench;

// Random weights small enough to train with: those of models.h, a tenth as large.
static inline void shrink(Engine *engine, float *vector, size_t n) {
    float *host = test_calloc(n, sizeof *host);
    engine_download(engine, host, vector, n);
    for (size_t i = 0; i < n; i++) host[i] *= 0.1f;
    engine_upload(engine, vector, host, n);
    test_free(host);
}

static inline Bench bench_open(Scratch *scratch, bool factored, int depth) {
    Bench b = {.scratch = scratch, .ctx = scratch->ctx};
    DitConfig config = models_config(factored);
    config.patch = 2;
    config.depth = depth;
    assert_ok(b.ctx, engine_create(&b.engine, b.ctx));
    snprintf(b.data, sizeof b.data, "%s", scratch_path(scratch, "data"));
    snprintf(b.base, sizeof b.base, "%s", scratch_path(scratch, "base"));
    tiny_dataset_write(b.ctx, b.data, NEW_CLASSES, 6, SIDE, 3);
    b.model = models_create(b.ctx, b.engine, &config);
    const ParamLayout *layout = &b.model->dit->layout;
    shrink(b.engine, b.model->params.shared, layout->n_shared);
    for (int c = 0; c < BASE_CLASSES && layout->n_tailor; c++)
        shrink(b.engine, b.model->params.tailor[c], layout->n_tailor);
    cJSON_AddItemToObject(b.model->config, "training", cJSON_Parse("{\"diffusion_steps\": 50, \"step\": 9}"));
    assert_ok(b.ctx, model_write(b.model, b.base, STORAGE_F32, false));
    return b;
}

static inline void bench_close(Bench *b) {
    model_close(&b->model);
    engine_close(&b->engine);
}

static inline AdaptPlan plan_small(Bench *b, const AdaptSettings *settings, int64_t steps) {
    AdaptPlan plan;
    assert_ok(b->ctx, adapt_plan_new(&plan, b->ctx, settings, b->data));
    plan.train.batch = 5;
    plan.train.steps = steps;
    plan.train.ema_decay = 0.5;
    plan.train.seed = 3;
    plan.train.sample_every = plan.train.checkpoint_every = 0;
    return plan;
}

static inline AdaptSettings settings_for(const Bench *b, const char *method) {
    return (AdaptSettings){.base = b->base, .method = method};
}

// Trains in scratch/name by this plan, and opens what came of it.
static inline Model *train(Bench *b, const AdaptPlan *plan, const char *name, bool resume) {
    TrainResult result;
    Model *model;
    char run[1024];
    snprintf(run, sizeof run, "%s", scratch_path(b->scratch, name));
    assert_ok(b->ctx, adapt_run(b->ctx, b->engine, plan, run, resume, &result));
    assert_true(result.finished);
    assert_ok(b->ctx, model_open(&model, b->ctx, b->engine, run, NULL));
    return model;
}

// The last `rows` shared rows of a tensor are the same in both, to the bit.
static inline bool is_same_shared(const Model *model, const Model *base, const char *name, size_t rows) {
    const ParamSpec *to = params_find(&model->dit->layout, name), *from = params_find(&base->dit->layout, name);
    const size_t n = rows * from->row, skip = params_spec_size(to, 0) - n, skip_from = params_spec_size(from, 0) - n;
    float *x = test_calloc(n, sizeof *x), *y = test_calloc(n, sizeof *y);
    engine_download(model->engine, x, model->params.shared + to->shared_offset + skip, n);
    engine_download(base->engine, y, base->params.shared + from->shared_offset + skip_from, n);
    const bool same = memcmp(x, y, n * sizeof *x) == 0;
    test_free(x);
    test_free(y);
    return same;
}

static inline void assert_same_files(Bench *b, const char *run, const char *other) {
    static const char *const files[] = {"weights", "m", "v", "ema", "state", "model"};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        char x[1200], y[1200];
        snprintf(x, sizeof x, "%s/%s/checkpoints/step-%d/%s.safetensors", b->scratch->folder, run, STEPS, files[i]);
        snprintf(y, sizeof y, "%s/%s/checkpoints/step-%d/%s.safetensors", b->scratch->folder, other, STEPS, files[i]);
        if (!models_same_file(b->ctx, x, y)) fail_msg("%s and %s differ", x, y);
    }
}

// Two runs, "whole" of all steps and "parts" of half of them, with the base gone since: the plan, by the record alone,
// by which "parts" goes on to all of them.
static inline AdaptPlan stop_halfway(Bench *b, const AdaptSettings *settings) {
    const AdaptSettings nothing = {0};
    AdaptPlan plan;
    for (int half = 0; half < 2; half++) {
        plan = plan_small(b, settings, half ? STEPS / 2 : STEPS);
        Model *model = train(b, &plan, half ? "parts" : "whole", false);
        model_close(&model);
        adapt_plan_close(&plan);
    }
    file_remove_tree(b->ctx, b->base);
    assert_ok(b->ctx, adapt_plan_resumed(&plan, b->ctx, &nothing, scratch_path(b->scratch, "parts")));
    plan.train.steps = STEPS;
    return plan;
}

// "parts" goes on, to the bits of "whole".
static inline void go_on(Bench *b, const AdaptPlan *plan) {
    Model *model = train(b, plan, "parts", true);
    model_close(&model);
    assert_same_files(b, "whole", "parts");
}

static inline void assert_refused(Bench *b, const AdaptSettings *settings, const char *data, const char *text) {
    AdaptPlan plan;
    assert_fails(b->ctx, adapt_plan_new(&plan, b->ctx, settings, data), KINDIT_ERROR_ARGUMENT, text);
    assert_null(plan.record);
}

#endif
