#include "train/trainer.h"

#include <inttypes.h>
#include <math.h>

#include "base/clock.h"
#include "base/file.h"
#include "model/model_run.h"
#include "train/checkpoint.h"
#include "train/train_batch.h"
#include "train/train_log.h"
#include "train/train_settings.h"
#include "train/train_step.h"

// What a run minimises.
typedef struct Objective {
    const char *terms[2]; // the two numbers of a sample, as metrics.csv calls them
    double weight[2];     // what each adds to the loss
    void (*accumulate)(TrainStep *step, const TrainBatch *batch, float weight); // train_step_accumulate or its like
} Objective;

typedef struct Trainer {
    KinditContext *ctx;
    Engine *engine;
    const char *run;
    TrainJob job;
    TrainSettings settings;
    const Objective *objective;
    double began;
    cJSON *record; // what run.json holds
    Dataset *dataset;
    TrainBatch batch;
    Schedule schedule;
    Model *model;
    Optimizer optimizer;
    TrainStep step;
    TrainLog log;
    size_t step_bytes; // engine memory held while stepping
} Trainer;

// ---- what is minimised ---------------------------------------------------------------------------------------------

static void accumulate_diffusion(TrainStep *step, const TrainBatch *batch, float weight) {
    train_step_accumulate(step, batch->x0, batch->noise, batch->t, batch->labels, batch->settings->batch, weight);
}

static void accumulate_classification(TrainStep *step, const TrainBatch *batch, float weight) {
    train_step_classify(step, batch->x0, batch->labels, batch->settings->batch, weight);
}

static const Objective diffusion = {{"mse", "vlb"}, {1, 1}, accumulate_diffusion};
static const Objective classification = {{"cross_entropy", "accuracy"}, {1, 0}, accumulate_classification};

// ---- opening -------------------------------------------------------------------------------------------------------

KinditStatus train_check_new(KinditContext *ctx, const char *run) {
    char path[1024];
    int64_t step; // of a checkpoint without its record: this run's own must not be mistaken for it
    TRY(file_path(path, ctx, "%s/run.json", run));
    TRY(model_run_newest(ctx, run, &step));
    if (step < 0 && !file_exists(path)) return KINDIT_OK;
    return context_fail(ctx, KINDIT_ERROR_ARGUMENT, "%s: already holds a run: resume it, or choose another folder",
                        run);
}

// The record of this run: written for a new one, held against the old one when it goes on.
static KinditStatus open_record(Trainer *trainer, bool resume) {
    KinditContext *ctx = trainer->ctx;
    const TrainJob *job = &trainer->job;
    char path[1024];
    TRY(train_record_build(&trainer->record, ctx, &job->config, &trainer->settings, trainer->dataset, job->adapt));
    if (!resume) return train_check_new(ctx, trainer->run);
    TRY(file_path(path, ctx, "%s/run.json", trainer->run));
    cJSON *old = NULL;
    TRY(json_read(&old, ctx, path));
    KinditStatus status = train_record_compare(ctx, path, old, trainer->record);
    cJSON_Delete(old);
    return status;
}

// The model, whose weights are still zero. Its config says what it is trained by and from, so that whoever samples it
// uses the same schedule, and whoever takes it apart knows whose learngene it has.
static KinditStatus open_model(Trainer *trainer) {
    KinditContext *ctx = trainer->ctx;
    TRY(model_create_blank(&trainer->model, ctx, trainer->engine, &trainer->job.config, trainer->dataset->classes, NULL,
                           trainer->job.frozen));
    cJSON *config = trainer->model->config;
    const cJSON *training = cJSON_GetObjectItemCaseSensitive(trainer->record, "settings");
    if (json_add_copy(config, "training", training) && json_add_copy(config, "adapt", trainer->job.adapt))
        return KINDIT_OK;
    return context_fail(ctx, KINDIT_ERROR_MEMORY, "out of memory for the model's config");
}

// The weights and the optimiser, as they start or as the newest checkpoint of the run has them.
static KinditStatus open_weights(Trainer *trainer, bool resume) {
    const TrainSettings *s = &trainer->settings;
    KinditContext *ctx = trainer->ctx;
    int64_t step = -1;
    AdamSettings adam = {.lr = (float)s->lr,
                         .beta1 = (float)s->beta1,
                         .beta2 = (float)s->beta2,
                         .eps = (float)s->adam_eps,
                         .weight_decay = (float)s->weight_decay,
                         .ema_decay = (float)s->ema_decay,
                         .gradient_scale = 1};
    if (resume) TRY(model_run_newest(ctx, trainer->run, &step));
    if (step < 0) TRY(trainer->job.start(&trainer->job, trainer->model, s->seed));
    TRY(optimizer_create(&trainer->optimizer, ctx, trainer->engine, &trainer->model->dit->layout,
                         &trainer->model->params, &adam));
    return step < 0 ? KINDIT_OK : checkpoint_read(ctx, trainer->run, step, trainer->model, &trainer->optimizer);
}

static KinditStatus open_buffers(Trainer *trainer) {
    const TrainSettings *s = &trainer->settings;
    KinditContext *ctx = trainer->ctx;
    const bool classifier = trainer->model->dit->config.classifier;
    const Schedule *schedule = classifier ? NULL : &trainer->schedule;
    TRY(schedule_create(&trainer->schedule, ctx, s->diffusion_steps, s->beta_first, s->beta_last));
    TRY(train_step_create(&trainer->step, trainer->model, schedule, s->batch, s->accumulate, train_mode(s)));
    trainer->step.guide = trainer->job.guide;
    return train_batch_create(&trainer->batch, ctx, trainer->engine, trainer->dataset, s, !classifier);
}

// The run's files come last: whatever can be refused has been by then.
static KinditStatus open_run(Trainer *trainer, bool resume) {
    const TrainGuide *guide = trainer->job.guide;
    KinditContext *ctx = trainer->ctx;
    char path[1024];
    if (resume)
        context_log(ctx, KINDIT_LOG_INFO, "%s: goes on from step %" PRId64, trainer->run, trainer->optimizer.step);
    TRY(file_make_folder(ctx, trainer->run));
    TRY(file_path(path, ctx, "%s/run.json", trainer->run));
    TRY(json_write(ctx, path, trainer->record));
    return train_log_open(&trainer->log, ctx, trainer->run, trainer->job.task, trainer->objective->terms,
                          &trainer->settings, dit_training_flops(trainer->model->dit) + (guide ? guide->flops : 0),
                          trainer->optimizer.step);
}

static KinditStatus check_classifier(const Trainer *trainer) {
    const TrainSettings *s = &trainer->settings;
    if (s->label_dropout == 0 && s->sample_every == 0 && !trainer->dataset->latents) return KINDIT_OK;
    return context_fail(trainer->ctx, KINDIT_ERROR_ARGUMENT,
                        "%s: a classifier is trained on images, without dropped labels and without samples drawn",
                        trainer->dataset->path);
}

static KinditStatus trainer_open(Trainer *trainer, const char *data, bool resume) {
    KinditContext *ctx = trainer->ctx;
    TRY(train_settings_check(&trainer->settings, ctx));
    TRY(dataset_open(&trainer->dataset, ctx, data));
    DitConfig *config = &trainer->job.config;
    config->image_size = trainer->dataset->size;
    config->channels = trainer->dataset->channels;
    config->n_classes = trainer->dataset->n_classes;
    if (trainer->settings.mse_only) config->learn_sigma = false;
    trainer->objective = config->classifier ? &classification : &diffusion;
    if (config->classifier) TRY(check_classifier(trainer));
    TRY(open_record(trainer, resume));
    TRY(open_model(trainer));
    TRY(open_weights(trainer, resume));
    TRY(open_buffers(trainer));
    return open_run(trainer, resume);
}

static void trainer_close(Trainer *trainer) {
    train_log_close(&trainer->log);
    train_batch_close(&trainer->batch);
    train_step_close(&trainer->step);
    schedule_close(&trainer->schedule);
    optimizer_close(&trainer->optimizer);
    model_close(&trainer->model);
    dataset_close(&trainer->dataset);
    cJSON_Delete(trainer->record);
}

// ---- one step ------------------------------------------------------------------------------------------------------

// Of step number `step`, the first being 1: linear warm-up, then constant, then linearly towards 0 after the last step.
static double learning_rate(const TrainSettings *s, int64_t step) {
    double up = s->warmup > 0 ? (double)step / (double)s->warmup : 1;
    double decay = fmin((double)s->decay, (double)s->steps);
    double down = s->decay > 0 ? (double)(s->steps - step + 1) / (decay + 1) : 1;
    return s->lr * fmin(1, fmin(up, down));
}

static KinditStatus fail_not_finite(Trainer *trainer, const StepReport *report) {
    int64_t good;
    TRY(model_run_newest(trainer->ctx, trainer->run, &good));
    char where[1024] = "there is no checkpoint yet";
    if (good >= 0)
        TRY(file_path(where, trainer->ctx, "the last good checkpoint is %s/checkpoints/step-%" PRId64, trainer->run,
                      good));
    return context_fail(trainer->ctx, KINDIT_ERROR_NUMERIC,
                        "step %" PRId64 ": loss %g, gradient norm %g; %s; a smaller learning rate than %g may help",
                        report->step, report->loss, report->gradient_norm, where, trainer->settings.lr);
}

static KinditStatus train_one_step(Trainer *trainer, StepReport *report) {
    const TrainSettings *s = &trainer->settings;
    TrainStep *step = &trainer->step;
    TrainBatch *batch = &trainer->batch;
    const double began = clock_seconds(), samples = (double)s->batch * s->accumulate;
    const int64_t done = trainer->optimizer.step;
    *report = (StepReport){.step = done + 1, .lr = learning_rate(s, done + 1)};
    train_step_begin(step);
    for (int a = 0; a < s->accumulate; a++) {
        train_batch_read(batch, (done * s->accumulate + a) * s->batch);
        trainer->objective->accumulate(step, batch, 1.0f / (float)s->accumulate);
        for (int i = 0; i < s->batch; i++) {
            for (int k = 0; k < 2; k++) report->term[k] += step->terms[k][i] / samples;
            report->loss += step->distance[i] / samples;
        }
    }
    for (int k = 0; k < 2; k++) report->loss += trainer->objective->weight[k] * report->term[k];
    report->gradient_norm = train_step_gradient_norm(step);
    if (!isfinite(report->loss) || !isfinite(report->gradient_norm)) return fail_not_finite(trainer, report);
    train_step_update(step, &trainer->optimizer, report->lr);
    report->seconds = clock_seconds() - began;
    trainer->step_bytes = engine_allocated(trainer->engine);
    return KINDIT_OK;
}

// ---- the loop ------------------------------------------------------------------------------------------------------

static bool is_due(int64_t every, int64_t step) {
    return every > 0 && step % every == 0;
}

// Older checkpoints go only once the new one is safe.
static KinditStatus leave_checkpoint(Trainer *trainer) {
    TRY(checkpoint_write(trainer->ctx, trainer->run, trainer->model, &trainer->optimizer, trainer->record));
    return checkpoint_prune(trainer->ctx, trainer->run, trainer->settings.keep_checkpoints);
}

// A grid that cannot be drawn (guidance blew it up, too large for a picture) is no reason to end a run; one that the
// user interrupted is not finished, and *cancelled then says that the run is to stop.
static KinditStatus leave_samples(Trainer *trainer, bool *cancelled) {
    KinditStatus status =
        train_log_samples(&trainer->log, trainer->model, &trainer->optimizer, trainer->dataset->latents);
    *cancelled = status == KINDIT_CANCELLED;
    if (*cancelled) return KINDIT_OK;
    if (status != KINDIT_ERROR_NUMERIC && status != KINDIT_ERROR_ARGUMENT) return status;
    context_log(trainer->ctx, KINDIT_LOG_WARNING, "step %" PRId64 ": no grid: %s", trainer->optimizer.step,
                kindit_context_message(trainer->ctx));
    return KINDIT_OK;
}

static KinditStatus train_loop(Trainer *trainer) {
    const TrainSettings *s = &trainer->settings;
    bool cancelled = false, timed_out = false;
    while (trainer->optimizer.step < s->steps && !cancelled && !timed_out) {
        StepReport report;
        TRY(train_one_step(trainer, &report));
        TRY(train_log_step(&trainer->log, &report));
        if (is_due(s->checkpoint_every, report.step)) TRY(leave_checkpoint(trainer));
        if (is_due(s->sample_every, report.step)) TRY(leave_samples(trainer, &cancelled));
        cancelled = cancelled || context_cancelled(trainer->ctx);
        timed_out = s->max_seconds > 0 && clock_seconds() - trainer->began >= s->max_seconds;
    }
    TRY(leave_checkpoint(trainer));
    if (!cancelled || trainer->optimizer.step == s->steps) return KINDIT_OK;
    return context_fail(trainer->ctx, KINDIT_CANCELLED,
                        "%s: stopped at step %" PRId64 " of %" PRId64 "; resume to go on", trainer->run,
                        trainer->optimizer.step, s->steps);
}

static KinditStatus start_pretraining(const TrainJob *job, Model *model, uint64_t seed) {
    (void)job;
    return dit_init(model->dit, &model->params, seed);
}

TrainJob train_job_pretrain(const DitConfig *config) {
    return (TrainJob){.task = "pretrain", .config = *config, .start = start_pretraining};
}

KinditStatus train_run(KinditContext *ctx, Engine *engine, const char *run, const char *data, const TrainJob *job,
                       const TrainSettings *settings, bool resume, TrainResult *result) {
    Trainer trainer = {
        .ctx = ctx, .engine = engine, .run = run, .job = *job, .settings = *settings, .began = clock_seconds()};
    *result = (TrainResult){0};
    KinditStatus status = trainer_open(&trainer, data, resume);
    if (!status) {
        status = train_loop(&trainer);
        train_log_summary(&trainer.log, result);
        result->step = trainer.optimizer.step;
        result->peak_bytes = trainer.step_bytes;
        result->finished = result->step >= settings->steps;
    }
    trainer_close(&trainer);
    return status;
}
