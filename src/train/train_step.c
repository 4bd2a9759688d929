#include "train/train_step.h"

#include <math.h>

static size_t sample_floats(const DitConfig *config, int channels) {
    return (size_t)channels * (size_t)config->image_size * (size_t)config->image_size;
}

// A step opens at most a tailor per sample, and no more than there are.
static int slots_needed(const Dit *dit, int batch, int accumulate) {
    const int64_t samples = (int64_t)batch * accumulate;
    return samples < dit->config.n_classes ? (int)samples : dit->config.n_classes;
}

void train_step_count(const Dit *dit, int batch, int accumulate, size_t *gradient_bytes, size_t *buffer_bytes) {
    const DitConfig *config = &dit->config;
    const size_t noised = config->classifier ? 0 : sample_floats(config, config->channels) + 1; // image and timestep
    const size_t tailors = (size_t)slots_needed(dit, batch, accumulate) * dit->layout.n_tailor;
    *gradient_bytes = (params_trained(&dit->layout) + tailors) * sizeof(float);
    *buffer_bytes = (size_t)batch * (noised + 2 * dit_config_output(config)) * sizeof(float);
}

static KinditStatus open_micro_gate(struct MicroGate *micro, KinditContext *ctx, size_t batch, size_t max_slots) {
    TRY(memory_alloc(ctx, batch, sizeof *micro->slot, &micro->slot));
    TRY(memory_alloc(ctx, max_slots, sizeof *micro->of_step, &micro->of_step));
    TRY(memory_alloc(ctx, batch, sizeof *micro->tailor, &micro->tailor));
    TRY(memory_alloc(ctx, batch, sizeof *micro->dtailor, &micro->dtailor));
    micro->gate = (Gate){.slot = micro->slot, .tailor = micro->tailor, .dtailor = micro->dtailor};
    return KINDIT_OK;
}

// The step's gate keeps what earlier micro-batches opened; the model must see (pack, multiply) only what this one
// names.
static const Gate *narrow_gate(TrainStep *step) {
    const ClassGate *all = &step->gate;
    struct MicroGate *micro = &step->micro;
    micro->gate.n_samples = all->gate.n_samples;
    micro->gate.n_slots = 0;
    for (int slot = 0; slot < all->gate.n_slots; slot++) micro->of_step[slot] = -1;
    for (int i = 0; i < all->gate.n_samples; i++) {
        const int slot = all->gate.slot[i];
        if (slot >= 0 && micro->of_step[slot] < 0) {
            const int own = micro->of_step[slot] = micro->gate.n_slots++;
            micro->tailor[own] = all->gate.tailor[slot];
            micro->dtailor[own] = all->gate.dtailor[slot];
        }
        micro->slot[i] = slot < 0 ? -1 : micro->of_step[slot];
    }
    return &micro->gate;
}

static KinditStatus open_diffusion(TrainStep *step) {
    Engine *engine = step->model->engine;
    KinditContext *ctx = step->model->ctx;
    const DitConfig *config = &step->model->dit->config;
    const size_t batch = (size_t)step->batch;
    TRY(loss_batch_create(&step->diffusion, ctx, step->batch));
    TRY(engine_alloc(engine, batch * sample_floats(config, config->channels), &step->xt));
    TRY(engine_alloc(engine, batch, &step->t));
    return memory_alloc(ctx, batch, sizeof(float), &step->t_host);
}

static KinditStatus open_buffers(TrainStep *step, int accumulate, DitMode mode) {
    const Model *model = step->model;
    const Dit *dit = model->dit;
    Engine *engine = model->engine;
    KinditContext *ctx = model->ctx;
    const size_t batch = (size_t)step->batch, out = dit_config_output(&dit->config);
    TRY(dit_workspace_create(&step->workspace, dit, engine, step->batch, mode));
    TRY(gate_create(&step->gate, engine, ctx, step->batch, dit->config.n_classes,
                    slots_needed(dit, step->batch, accumulate), dit->layout.n_tailor, true));
    TRY(open_micro_gate(&step->micro, ctx, batch, (size_t)step->gate.max_slots));
    TRY(step->schedule ? open_diffusion(step) : memory_alloc(ctx, batch, sizeof(int), &step->best));
    TRY(engine_alloc(engine, params_trained(&dit->layout), &step->dshared));
    TRY(engine_alloc(engine, batch * out, &step->output));
    TRY(engine_alloc(engine, batch * out, &step->doutput));
    TRY(memory_alloc(ctx, batch, sizeof(float), &step->distance));
    TRY(memory_alloc(ctx, batch, sizeof(float), &step->terms[0]));
    return memory_alloc(ctx, batch, sizeof(float), &step->terms[1]);
}

KinditStatus train_step_create(TrainStep *out, Model *model, const Schedule *schedule, int batch, int accumulate,
                               DitMode mode) {
    mode.training = true;
    *out =
        (TrainStep){.model = model, .schedule = schedule, .batch = batch, .with_vlb = model->dit->config.learn_sigma};
    KinditStatus status = open_buffers(out, accumulate, mode);
    if (status) train_step_close(out);
    return status;
}

void train_step_close(TrainStep *step) {
    if (!step->model) return;
    Engine *engine = step->model->engine;
    memory_free(&step->terms[1]);
    memory_free(&step->terms[0]);
    memory_free(&step->distance);
    memory_free(&step->best);
    memory_free(&step->t_host);
    engine_free(engine, &step->t);
    engine_free(engine, &step->doutput);
    engine_free(engine, &step->output);
    engine_free(engine, &step->xt);
    engine_free(engine, &step->dshared);
    loss_batch_close(&step->diffusion);
    memory_free(&step->micro.dtailor);
    memory_free(&step->micro.tailor);
    memory_free(&step->micro.of_step);
    memory_free(&step->micro.slot);
    gate_close(&step->gate);
    dit_workspace_close(&step->workspace);
    *step = (TrainStep){0};
}

void train_step_begin(TrainStep *step) {
    engine_zero(step->model->engine, step->dshared, params_trained(&step->model->dit->layout));
    gate_reset(&step->gate);
}

void train_step_forward(TrainStep *step, const float *x0, const float *noise, const int *t, const int *labels, int n,
                        DitBatch *batch) {
    const Model *model = step->model;
    const DitConfig *config = &model->dit->config;
    Engine *engine = model->engine;
    DiffusionBatch *diffusion = &step->diffusion;
    loss_batch_fill(diffusion, step->schedule, t, n);
    engine_noise(engine, n, sample_floats(config, config->channels), diffusion->sqrt_alpha_bar,
                 diffusion->sqrt_one_minus, x0, noise, step->xt);
    for (int i = 0; i < n; i++) step->t_host[i] = (float)step->schedule->timestep[t[i]];
    engine_upload(engine, step->t, step->t_host, (size_t)n);
    gate_open(&step->gate, &model->params, labels, n);
    *batch = (DitBatch){.n = n, .x = step->xt, .t = step->t, .labels = labels, .gate = narrow_gate(step)};
    dit_forward(model->dit, step->workspace, model->params.shared, batch, step->output);
}

// The pass that gives step->mse and step->vlb; *batch, filled in, is what backward is to be given.
static void measure(TrainStep *step, DitBatch *batch, const float *x0, const float *noise, const int *t,
                    const int *labels, int n, float weight) {
    const DitConfig *config = &step->model->dit->config;
    train_step_forward(step, x0, noise, t, labels, n, batch);
    engine_loss(step->model->engine, n, config->channels, sample_floats(config, 1), step->output, x0, step->xt, noise,
                step->with_vlb ? &step->diffusion.terms : NULL, weight, step->mse, step->with_vlb ? step->vlb : NULL,
                step->doutput);
}

// The gradient of the mean over the batch, times `weight`, goes where the gradients go.
static void backward(TrainStep *step, const DitBatch *batch, float weight) {
    const Model *model = step->model;
    const TrainGuide *guide = step->guide;
    DitBatch aimed = *batch;
    DitTargets targets = {.error = step->distance};
    for (int i = 0; i < batch->n; i++) step->distance[i] = 0;
    if (guide) {
        targets.stream = guide->aim(guide->data, batch);
        targets.weight = weight * guide->weight / (float)batch->n;
        aimed.targets = &targets;
    }
    dit_backward(model->dit, step->workspace, model->params.shared, &aimed, step->doutput, step->dshared);
    for (int i = 0; i < batch->n && guide; i++) step->distance[i] *= guide->weight;
}

void train_step_accumulate(TrainStep *step, const float *x0, const float *noise, const int *t, const int *labels, int n,
                           float weight) {
    DitBatch batch;
    measure(step, &batch, x0, noise, t, labels, n, weight);
    backward(step, &batch, weight);
}

void train_step_classify(TrainStep *step, const float *x, const int *labels, int n, float weight) {
    const Model *model = step->model;
    const int classes = model->dit->config.n_classes;
    Engine *engine = model->engine;
    gate_shut(&step->gate, n);
    DitBatch batch = {.n = n, .x = x, .gate = &step->gate.gate};
    dit_forward(model->dit, step->workspace, model->params.shared, &batch, step->output);
    engine_cross_entropy(engine, n, classes, step->output, labels, weight, step->cross_entropy, step->doutput);
    engine_best_class(engine, n, classes, step->output, step->best);
    for (int i = 0; i < n; i++) step->correct[i] = step->best[i] == labels[i] ? 1 : 0;
    backward(step, &batch, weight);
}

void train_step_measure(TrainStep *step, const float *x0, const float *noise, const int *t, const int *labels, int n) {
    DitBatch batch;
    gate_reset(&step->gate);
    measure(step, &batch, x0, noise, t, labels, n, 1);
}

double train_step_gradient_norm(const TrainStep *step) {
    const ParamLayout *layout = &step->model->dit->layout;
    Engine *engine = step->model->engine;
    double sum = engine_sum_squares(engine, params_trained(layout), step->dshared);
    for (int slot = 0; slot < step->gate.gate.n_slots; slot++)
        sum += engine_sum_squares(engine, layout->n_tailor, step->gate.dtailor[slot]);
    return sqrt(sum);
}

void train_step_update(TrainStep *step, Optimizer *optimizer, double lr) {
    optimizer->settings.lr = (float)lr;
    optimizer_step(optimizer, &step->model->params, step->dshared, &step->gate);
}
