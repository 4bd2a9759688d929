#include "diffusion/sampler.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/json.h"
#include "diffusion/sampler_memory.h"

enum { MAX_BATCH = 1 << 16 };

// What one run of the sampler holds; nothing is allocated once it is open.
typedef struct Sampler {
    const Model *model;
    SamplerSettings settings;
    Schedule schedule;
    bool halves; // an unconditional half follows the conditional one in each forward pass
    int batch, channels, out_channels;
    int passes;         // steps whose conditioning is computed at once
    size_t plane, size; // floats of a channel, of an image
    DitWorkspace *workspace;
    TailorHold hold; // of the batch's tailors
    ClassGate gate;
    ParamSet label_rows; // with keep_label_rows: tailors that are zero but for their label row
    float *x, *output;   // (batch or 2 batch, C, S, S), (same, C or 2C, S, S)
    float *noise, *t;    // (batch, C, S, S), (passes, batch or 2 batch)
    float *t_host;       // the same
    int *labels;         // the same: a pass's once for each
    RngKey *keys;
} Sampler;

// What is asked of it: images `first` .. of a run, or with `start` from given numbers.
typedef struct Draw {
    int n;
    const int *labels;
    int64_t first;
    const float *start, *noise; // (n, C, S, S), (steps, n, C, S, S), or NULL: drawn from the seed
    float *trajectory, *out;
    double began;
} Draw;

SamplerSettings sampler_settings_default(void) {
    return (SamplerSettings){
        .method = SAMPLER_DDPM, .steps = 250, .guidance = 1.5, .guided = GUIDANCE_ALL, .clip = true, .batch = 64};
}

SamplerSettings sampler_settings_from(const KinditSampleSettings *settings) {
    return (SamplerSettings){
        .method = settings->sampler == KINDIT_DDIM ? SAMPLER_DDIM : SAMPLER_DDPM,
        .steps = settings->steps,
        .eta = settings->eta,
        .guidance = settings->guidance,
        .guided = settings->guide_first_3 ? GUIDANCE_FIRST_3 : GUIDANCE_ALL,
        .clip = settings->clip,
        .no_tailors = settings->no_tailors,
        .keep_label_rows = settings->keep_label_rows,
        .seed = settings->seed,
        .batch = settings->batch,
        .bf16 = settings->bf16,
        .int8 = settings->int8,
    };
}

static KinditStatus check_settings(const Model *model, const SamplerSettings *s, int n, const int *labels) {
    KinditContext *ctx = model->ctx;
    const DitConfig *config = &model->dit->config;
    if (!(s->eta >= 0 && s->eta <= 1))
        return context_fail(ctx, KINDIT_ERROR_ARGUMENT, "eta: expected 0 to 1, found %g", s->eta);
    if (!isfinite(s->guidance))
        return context_fail(ctx, KINDIT_ERROR_ARGUMENT, "guidance: expected a number, found %g", s->guidance);
    if (s->batch < 1 || s->batch > MAX_BATCH)
        return context_fail(ctx, KINDIT_ERROR_ARGUMENT, "sampling batch: expected 1 to %d, found %d", MAX_BATCH,
                            s->batch);
    if (s->no_tailors && !config->factored)
        return context_fail(ctx, KINDIT_ERROR_ARGUMENT, "a dense model has no tailors to shut");
    if (s->keep_label_rows && !s->no_tailors)
        return context_fail(ctx, KINDIT_ERROR_ARGUMENT, "label rows are kept apart only when the tailors are shut");
    for (int i = 0; i < n; i++)
        if (labels[i] < 0 || labels[i] > config->n_classes)
            return context_fail(ctx, KINDIT_ERROR_ARGUMENT, "label of image %d: expected 0 to %d (no class), found %d",
                                i, config->n_classes, labels[i]);
    return KINDIT_OK;
}

KinditStatus sampler_schedule(Schedule *out, const Model *model) {
    int n;
    double first, last;
    TRY(schedule_read_config(model->ctx, model->config, &n, &first, &last));
    return schedule_create(out, model->ctx, n, first, last);
}

// The same, respaced to the steps asked for.
static KinditStatus open_schedule(Schedule *out, const Model *model, int steps) {
    Schedule full;
    TRY(sampler_schedule(&full, model));
    KinditStatus status = schedule_respace(out, model->ctx, &full, steps, false);
    schedule_close(&full);
    return status;
}

// Tailors whose components are all zero and so add nothing (s = 0), with the label rows they really have.
static KinditStatus open_label_rows(Sampler *s) {
    const Model *model = s->model;
    const ParamLayout *layout = &model->dit->layout;
    const ParamSpec *label = &layout->specs[model->dit->label];
    TRY(params_alloc(&s->label_rows, model->engine, model->ctx, layout, model->params.n_classes));
    for (int c = 0; c < model->params.n_classes; c++) {
        TRY(tailor_hold_take(&s->hold, &c, 1));
        engine_copy(model->engine, s->label_rows.tailor[c] + label->tailor_offset,
                    s->hold.params.tailor[c] + label->tailor_offset, label->row);
    }
    return tailor_hold_take(&s->hold, NULL, 0);
}

static KinditStatus open_buffers(Sampler *s, const Draw *draw) {
    Engine *engine = s->model->engine;
    KinditContext *ctx = s->model->ctx;
    const Dit *dit = s->model->dit;
    const size_t rows = (size_t)(s->halves ? 2 * s->batch : s->batch);
    const int n_classes = dit->config.n_classes;
    const int tailors = sampler_tailors(s->model, &s->settings, draw->n, draw->labels);
    const DitMode mode = sampler_mode(&s->settings, (int)rows, tailors);
    const size_t conditions = rows * (size_t)mode.passes;
    s->passes = mode.passes;
    TRY(tailor_hold_create(&s->hold, s->model, tailors));
    TRY(dit_workspace_create(&s->workspace, dit, engine, (int)rows, mode));
    TRY(gate_create(&s->gate, engine, ctx, (int)conditions, n_classes, tailors, dit->layout.n_tailor, false));
    TRY(engine_alloc(engine, rows * s->size, &s->x));
    TRY(engine_alloc(engine, rows * (size_t)s->out_channels * s->plane, &s->output));
    TRY(engine_alloc(engine, (size_t)s->batch * s->size, &s->noise));
    TRY(engine_alloc(engine, conditions, &s->t));
    TRY(memory_alloc(ctx, conditions, sizeof(float), &s->t_host));
    TRY(memory_alloc(ctx, conditions, sizeof(int), &s->labels));
    TRY(memory_alloc(ctx, (size_t)s->batch, sizeof(RngKey), &s->keys));
    if (s->settings.keep_label_rows) TRY(open_label_rows(s));
    return open_schedule(&s->schedule, s->model, s->settings.steps);
}

static void sampler_close(Sampler *s) {
    Engine *engine = s->model->engine;
    schedule_close(&s->schedule);
    params_close(&s->label_rows);
    memory_free(&s->keys);
    memory_free(&s->labels);
    memory_free(&s->t_host);
    engine_free(engine, &s->t);
    engine_free(engine, &s->noise);
    engine_free(engine, &s->output);
    engine_free(engine, &s->x);
    gate_close(&s->gate);
    tailor_hold_close(&s->hold);
    dit_workspace_close(&s->workspace);
}

static KinditStatus sampler_open(Sampler *s, const Model *model, const SamplerSettings *settings, const Draw *draw) {
    const DitConfig *config = &model->dit->config;
    *s = (Sampler){.model = model,
                   .settings = *settings,
                   .batch = settings->batch < draw->n ? settings->batch : draw->n,
                   .channels = config->channels,
                   .out_channels = dit_config_out_channels(config),
                   .plane = (size_t)config->image_size * (size_t)config->image_size};
    s->size = (size_t)s->channels * s->plane;
    s->halves = sampler_rows(settings, 1) == 2;
    KinditStatus status = open_buffers(s, draw);
    if (status != KINDIT_OK) sampler_close(s);
    return status;
}

static float to_float_sqrt(double x) {
    return (float)sqrt(x > 0 ? x : 0);
}

// Ho et al. 2020, Eq. 7: the posterior's mean, with the learned variance between the posterior's and beta, or beta as
// DiT has it when its variance is not learned (FIXED_LARGE).
static SamplerStep ddpm_step(const Sampler *s, int i) {
    const Schedule *schedule = &s->schedule;
    return (SamplerStep){.x0_xt = to_float_sqrt(1 / schedule->alpha_bar[i]),
                         .x0_eps = to_float_sqrt(1 / schedule->alpha_bar[i] - 1),
                         .clip = s->settings.clip,
                         .mean_x0 = (float)schedule->mean_x0[i],
                         .mean_xt = (float)schedule->mean_xt[i],
                         .learned_variance = s->model->dit->config.learn_sigma,
                         .log_low = (float)schedule->posterior_log_variance[i],
                         .log_high = (float)log(schedule->beta[i]),
                         .sigma = to_float_sqrt(schedule->beta[i]),
                         .add_noise = i > 0};
}

// Song et al. 2020, Eq. 12 and 16.
static SamplerStep ddim_step(const Sampler *s, int i) {
    const Schedule *schedule = &s->schedule;
    double alpha_bar = schedule->alpha_bar[i], previous = schedule->alpha_bar_prev[i];
    double sigma = s->settings.eta * sqrt((1 - previous) / (1 - alpha_bar)) * sqrt(1 - alpha_bar / previous);
    return (SamplerStep){.x0_xt = to_float_sqrt(1 / alpha_bar),
                         .x0_eps = to_float_sqrt(1 / alpha_bar - 1),
                         .clip = s->settings.clip,
                         .mean_x0 = to_float_sqrt(previous),
                         .mean_eps = to_float_sqrt(1 - previous - sigma * sigma),
                         .sigma = (float)sigma,
                         .add_noise = i > 0 && sigma > 0};
}

// Names the tailors of images at .. at + n - 1; those of the unconditional half have no class. Those that the batch
// before had are open and packed.
static KinditStatus open_classes(Sampler *s, const Draw *draw, int at, int n) {
    const int null_label = s->model->dit->config.n_classes, rows = s->halves ? 2 * n : n, all = s->passes * rows;
    if (at > 0 && n == s->batch && memcmp(draw->labels + at, s->labels, (size_t)n * sizeof *s->labels) == 0)
        return KINDIT_OK;
    for (int i = 0; i < all; i++) s->labels[i] = i % rows < n ? draw->labels[at + i % rows] : null_label;
    dit_workspace_repack(s->workspace);
    gate_reset(&s->gate);
    if (s->settings.keep_label_rows) {
        gate_open(&s->gate, &s->label_rows, s->labels, all);
    } else if (s->settings.no_tailors) {
        gate_shut(&s->gate, all);
    } else {
        TRY(tailor_hold_take(&s->hold, s->labels, rows));
        gate_open(&s->gate, &s->hold.params, s->labels, all);
    }
    return KINDIT_OK;
}

// Of n rows a pass, the conditioning of step k and of those after it, up to `passes` in all.
static void condition(Sampler *s, int n, int k) {
    const int left = s->schedule.n - k, all = n * (s->passes < left ? s->passes : left);
    for (int i = 0; i < all; i++) {
        const int pass = i / n;
        s->t_host[i] = (float)s->schedule.timestep[left - 1 - pass];
    }
    engine_upload(s->model->engine, s->t, s->t_host, (size_t)all);
    Gate gate = s->gate.gate;
    gate.n_samples = all;
    DitBatch batch = {.n = all, .t = s->t, .labels = s->labels, .gate = &gate};
    dit_condition(s->model->dit, s->workspace, s->model->params.shared, &batch);
}

// output (n, C or 2C, S, S) = the model's answer for x (n, C, S, S) in step k, guided.
static void predict(Sampler *s, int n, int k) {
    Engine *engine = s->model->engine;
    const int rows = s->halves ? 2 * n : n, pass = k % s->passes;
    if (pass == 0) condition(s, rows, k);
    if (s->halves) engine_copy(engine, s->x + (size_t)n * s->size, s->x, (size_t)n * s->size);
    Gate gate = s->gate.gate;
    gate.n_samples = rows;
    DitBatch batch = {.n = rows, .x = s->x, .labels = s->labels, .gate = &gate};
    dit_forward_conditioned(s->model->dit, s->workspace, s->model->params.shared, &batch, pass * rows, s->output);
    if (!s->halves) return;
    const int guided = s->settings.guided == GUIDANCE_FIRST_3 && s->channels > 3 ? 3 : s->channels;
    const float *unconditional = s->output + (size_t)n * (size_t)s->out_channels * s->plane;
    engine_guide(engine, n, s->out_channels, guided, s->plane, (float)s->settings.guidance, unconditional, s->output);
}

static void draw_normal(Sampler *s, const Draw *draw, int at, int n, RngPurpose purpose, int step, float *out) {
    for (int i = 0; i < n; i++)
        s->keys[i] = (RngKey){.seed = s->settings.seed,
                              .sample = (uint64_t)(draw->first + at + i),
                              .step = (uint32_t)step,
                              .purpose = purpose};
    engine_fill_normal(s->model->engine, n, s->size, s->keys, out);
}

static void report(const Sampler *s, const Draw *draw, int at, int n, int step) {
    char text[96];
    const int steps = s->schedule.n;
    snprintf(text, sizeof text, "images %d-%d of %d, step %d of %d", at + 1, at + n, draw->n, step + 1, steps);
    KinditProgress progress = {.task = "sample",
                               .done = (int64_t)at * steps + (int64_t)n * (step + 1),
                               .total = (int64_t)draw->n * steps,
                               .seconds = clock_seconds() - draw->began,
                               .text = text};
    context_progress(s->model->ctx, &progress);
}

// Images at .. at + n - 1 of `draw`, all steps; step k (0 first) is entry n_steps - 1 - k of the schedule.
static KinditStatus draw_batch(Sampler *s, const Draw *draw, int at, int n) {
    Engine *engine = s->model->engine;
    KinditContext *ctx = s->model->ctx;
    const size_t offset = (size_t)at * s->size, length = (size_t)n * s->size;
    TRY(open_classes(s, draw, at, n));
    if (draw->start)
        engine_upload(engine, s->x, draw->start + offset, length);
    else
        draw_normal(s, draw, at, n, RNG_SAMPLE_START, 0, s->x);
    for (int k = 0; k < s->schedule.n; k++) {
        if (context_cancelled(ctx)) return context_fail(ctx, KINDIT_CANCELLED, "sampling was stopped");
        const int i = s->schedule.n - 1 - k;
        const size_t of_step = (size_t)k * (size_t)draw->n * s->size + offset;
        predict(s, n, k);
        SamplerStep step = s->settings.method == SAMPLER_DDPM ? ddpm_step(s, i) : ddim_step(s, i);
        if (step.add_noise && draw->noise)
            engine_upload(engine, s->noise, draw->noise + of_step, length);
        else if (step.add_noise)
            draw_normal(s, draw, at, n, RNG_SAMPLE_STEP, k, s->noise);
        engine_sampler_step(engine, n, s->channels, s->out_channels, s->plane, &step, s->output, s->noise, s->x);
        if (draw->trajectory) engine_download(engine, draw->trajectory + of_step, s->x, length);
        report(s, draw, at, n, k);
    }
    if (!engine_all_finite(engine, s->x, length))
        return context_fail(ctx, KINDIT_ERROR_NUMERIC,
                            "images %d to %d are not finite: the model's weights or the guidance (%g) are too large",
                            at, at + n - 1, s->settings.guidance);
    engine_download(engine, draw->out + offset, s->x, length);
    return KINDIT_OK;
}

static KinditStatus sampler_draw(const Model *model, const SamplerSettings *settings, Draw *draw) {
    TRY(check_settings(model, settings, draw->n, draw->labels));
    if (draw->n == 0) return KINDIT_OK;
    Sampler sampler;
    TRY(sampler_open(&sampler, model, settings, draw));
    draw->began = clock_seconds();
    KinditStatus status = KINDIT_OK;
    for (int at = 0; at < draw->n && status == KINDIT_OK; at += sampler.batch) {
        int n = draw->n - at < sampler.batch ? draw->n - at : sampler.batch;
        status = draw_batch(&sampler, draw, at, n);
    }
    sampler_close(&sampler);
    return status;
}

KinditStatus sampler_run(const Model *model, const SamplerSettings *settings, int64_t first, int n, const int *labels,
                         float *out) {
    Draw draw = {.n = n, .labels = labels, .first = first, .out = out};
    return sampler_draw(model, settings, &draw);
}

KinditStatus sampler_run_from(const Model *model, const SamplerSettings *settings, int n, const int *labels,
                              const float *start, const float *noise, float *trajectory, float *out) {
    Draw draw = {.n = n, .labels = labels, .start = start, .noise = noise, .trajectory = trajectory, .out = out};
    return sampler_draw(model, settings, &draw);
}

void sampler_to_pixels(const float *images, int n, int channels, int size, uint8_t *out) {
    const size_t plane = (size_t)size * (size_t)size;
    for (int i = 0; i < n; i++)
        for (size_t p = 0; p < plane; p++)
            for (int c = 0; c < channels; c++) {
                float value = 127.5f * images[((size_t)i * (size_t)channels + (size_t)c) * plane + p] + 127.5f;
                value = value > 0 ? value : 0; // NaN becomes 0
                *out++ = (uint8_t)(value < 255 ? lrintf(value) : 255);
            }
}
