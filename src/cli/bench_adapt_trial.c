// One trial: a method on a task with a seed, trained and measured.
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/json.h"
#include "cli/bench_adapt.h"
#include "cli/sample_check.h"
#include "formats/grid.h"
#include "model/model_run.h"
#include "train/heldout.h"

typedef struct Trial {
    BenchAdapt *bench;
    KinditContext *ctx;
    const BenchTask *task;
    const AdaptMethod *method;
    int64_t seed;
    char run[1024], json[1024], png[1024], samples[1024];
    AdaptPlan plan;
    Dataset *dataset;
} Trial;

// ---- one bar for all trials ----------------------------------------------------------------------------------------

static struct {
    const Trial *trial;
    KinditContextSettings outer;
} bar;

static void show_progress(void *user, const KinditProgress *inner) {
    const BenchAdapt *bench = bar.trial->bench;
    const BenchAdaptSettings *settings = bench->settings;
    const int64_t done = inner->done < settings->steps ? inner->done : settings->steps;
    char text[160];
    if (strcmp(inner->task, "adapt") != 0) return; // measuring takes seconds
    snprintf(text, sizeof text, "%s %s seed %lld  %s", bar.trial->task->name, bar.trial->method->name,
             (long long)bar.trial->seed, inner->text);
    const KinditProgress progress = {.task = "bench adapt",
                                     .done = bench->n_done * settings->steps + done,
                                     .total = settings->seeds * bench->n_tasks * bench->n_methods * settings->steps,
                                     .seconds = clock_seconds() - bench->began,
                                     .text = text};
    bar.outer.progress(user, &progress);
}

static void show_warning(void *user, KinditLogLevel level, const char *message) {
    if (level == KINDIT_LOG_WARNING) bar.outer.log(user, level, message);
}

static void bar_begin(const Trial *trial) {
    KinditContextSettings *settings = &trial->ctx->settings;
    bar.trial = trial;
    bar.outer = *settings;
    if (settings->progress) settings->progress = show_progress;
    if (settings->log) settings->log = show_warning;
}

static void bar_end(const Trial *trial) {
    trial->ctx->settings = bar.outer;
}

// ---- training ------------------------------------------------------------------------------------------------------

// Steps between the points of the curve.
static int64_t stride(const BenchAdaptSettings *settings) {
    return (settings->steps + settings->points - 1) / settings->points;
}

static void choose_training(Trial *trial) {
    const BenchAdaptSettings *settings = trial->bench->settings;
    TrainSettings *train = &trial->plan.train;
    train->batch = (int)settings->batch;
    train->steps = settings->steps;
    if (settings->lr > 0) train->lr = settings->lr;
    train->ema_decay = fmax(0, 1 - 10.0 / (double)settings->steps); // the average forgets the start by the end
    train->seed = (uint64_t)trial->seed;
    train->log_every = settings->steps;
    train->checkpoint_every = stride(settings);
    train->sample_every = 0;
    train->keep_checkpoints = 0;
}

// *finished false: time was up.
static KinditStatus train(Trial *trial, cJSON *found, bool *finished) {
    BenchAdapt *bench = trial->bench;
    TrainResult result;
    char record[1024];
    TRY(file_path(record, trial->ctx, "%s/run.json", trial->run));
    if (bench->settings->max_seconds > 0) {
        const double left = bench->settings->max_seconds - (clock_seconds() - bench->began);
        *finished = left > 0;
        if (!*finished) return KINDIT_OK;
        trial->plan.train.max_seconds = left;
    }
    TRY(adapt_run(trial->ctx, bench->engine, &trial->plan, trial->run, file_exists(record), &result));
    *finished = result.finished;
    if (result.images_per_second > 0) // else it was trained by an earlier start, cut off before it measured
        cJSON_AddNumberToObject(found, "step_seconds", trial->plan.train.batch / result.images_per_second);
    return KINDIT_OK;
}

// ---- measuring -----------------------------------------------------------------------------------------------------

static KinditStatus write_grid(const Trial *trial, const Model *model, const SampleCheck *check) {
    const char **captions;
    Image page = {0};
    TRY(memory_alloc(trial->ctx, (size_t)check->n_classes, sizeof *captions, &captions));
    for (int c = 0; c < check->n_classes; c++) captions[c] = model->classes[c].name;
    const Grid grid = {.size = trial->dataset->size,
                       .channels = trial->dataset->channels,
                       .n_rows = check->n_classes,
                       .n_columns = check->n_per_class,
                       .captions = captions,
                       .pixels = check->pixels};
    KinditStatus status = grid_draw(&page, trial->ctx, &grid);
    if (!status) status = image_write_png(trial->ctx, trial->png, &page);
    image_close(&page);
    memory_free(&captions);
    return status;
}

// For pictures of several trials.
static KinditStatus write_pixels(const Trial *trial, const SampleCheck *check) {
    const int64_t size = trial->dataset->size;
    Tensor array = {.dtype = DTYPE_U8,
                    .n_dims = 4,
                    .shape = {check->n, size, size, trial->dataset->channels},
                    .data = check->pixels};
    TRY(tensor_measure(&array, trial->ctx, trial->samples));
    return npy_write(trial->ctx, trial->samples, &array);
}

static KinditStatus measure_samples(const Trial *trial, const Model *model, cJSON *found) {
    SampleCheck check;
    double accuracy;
    TRY(sample_check_open(&check, model, trial->dataset, (int)trial->bench->settings->n_per_class));
    KinditStatus status = sample_check_run(&check, model, &accuracy);
    if (!status) status = write_grid(trial, model, &check);
    if (!status) status = write_pixels(trial, &check);
    if (!status) cJSON_AddNumberToObject(found, "accuracy", accuracy);
    sample_check_close(&check);
    return status;
}

static KinditStatus measure_model(const Trial *trial, Model *model, int64_t step, cJSON *found) {
    const BenchAdaptSettings *settings = trial->bench->settings;
    HeldoutLoss loss;
    TRY(heldout_measure(&loss, model, trial->dataset, (int)settings->heldout, (int)settings->batch));
    cJSON *point = cJSON_CreateObject();
    cJSON_AddNumberToObject(point, "step", (double)step);
    cJSON_AddNumberToObject(point, "loss", loss.mse + loss.vlb);
    cJSON_AddItemToArray(cJSON_GetObjectItem(found, "curve"), point);
    if (step < settings->steps) return KINDIT_OK;
    cJSON_AddNumberToObject(found, "loss", loss.mse + loss.vlb);
    cJSON_AddNumberToObject(found, "mse", loss.mse);
    return measure_samples(trial, model, found);
}

static KinditStatus measure(const Trial *trial, cJSON *found) {
    const int64_t steps = trial->bench->settings->steps, every = stride(trial->bench->settings);
    KinditStatus status = KINDIT_OK;
    cJSON_AddArrayToObject(found, "curve");
    for (int64_t step = every; !status; step += every) {
        const int64_t at = step < steps ? step : steps;
        char path[1024];
        Model *model = NULL;
        status = model_run_path(path, trial->ctx, trial->run, at);
        if (!status) status = model_open(&model, trial->ctx, trial->bench->engine, path, NULL);
        if (!status) status = measure_model(trial, model, at, found);
        model_close(&model);
        if (at == steps) break;
    }
    return status;
}

// ---- the trial -----------------------------------------------------------------------------------------------------

// What trains, and what an image takes with its class's tailor.
static KinditStatus count(const Trial *trial, DitCounts *counts) {
    Dit *dit;
    TRY(dit_create(&dit, trial->ctx, &trial->plan.config));
    params_freeze(&dit->layout, trial->method->frozen);
    dit_count(dit, 1, counts);
    dit_close(&dit);
    return KINDIT_OK;
}

static KinditStatus describe(const Trial *trial, cJSON *found) {
    DitCounts counts;
    TRY(count(trial, &counts));
    cJSON_AddStringToObject(found, "task", trial->task->name);
    cJSON_AddStringToObject(found, "method", trial->method->name);
    cJSON_AddNumberToObject(found, "seed", (double)trial->seed);
    cJSON_AddStringToObject(found, "base", bench_adapt_is_dense(trial->method) ? "dense" : "kind");
    cJSON_AddNumberToObject(found, "n_classes", trial->plan.config.n_classes);
    cJSON_AddNumberToObject(found, "trainable_params", (double)counts.trained);
    cJSON_AddNumberToObject(found, "flops_per_image", counts.flops_linear + counts.flops_attention);
    cJSON_AddNumberToObject(found, "lr", trial->plan.train.lr);
    return KINDIT_OK;
}

static KinditStatus train_and_measure(Trial *trial, cJSON *found, bool *finished) {
    KinditStatus status = train(trial, found, finished);
    if (!status && *finished) status = measure(trial, found);
    if (status != KINDIT_ERROR_NUMERIC) return status;
    cJSON_AddStringToObject(found, "failed", kindit_context_message(trial->ctx));
    *finished = true;
    return KINDIT_OK;
}

// Its file first: a run without one is not finished.
static KinditStatus run_trial(Trial *trial, cJSON *found, bool *finished) {
    const BenchAdapt *bench = trial->bench;
    const bool dense = bench_adapt_is_dense(trial->method);
    const int64_t pseudo_steps = (bench->settings->steps + 3) / 4; // brief beside what it is for
    const AdaptSettings adapt = {.base = dense ? bench->base_dense : bench->base_kind,
                                 .method = trial->method->name,
                                 .pseudo_steps = trial->method->blocks == ADAPT_SIMILAR_BLOCKS ? pseudo_steps : 0};
    TRY(adapt_plan_new(&trial->plan, trial->ctx, &adapt, trial->task->path));
    TRY(dataset_open(&trial->dataset, trial->ctx, trial->task->path));
    choose_training(trial);
    TRY(describe(trial, found));
    TRY(train_and_measure(trial, found, finished));
    if (!*finished) return KINDIT_OK;
    TRY(json_write(trial->ctx, trial->json, found));
    return file_remove_tree(trial->ctx, trial->run);
}

KinditStatus bench_adapt_trial(cJSON **out, BenchAdapt *bench, const BenchTask *task, const AdaptMethod *method,
                               int64_t seed) {
    Trial trial = {.bench = bench, .ctx = bench->ctx, .task = task, .method = method, .seed = seed};
    char folder[1024];
    bool finished = false;
    *out = NULL;
    TRY(file_path(folder, bench->ctx, "%s/trials/%s", bench->settings->output, task->name));
    TRY(file_make_folder(bench->ctx, folder));
    TRY(file_path(trial.run, bench->ctx, "%s/%s-%lld", folder, method->name, (long long)seed));
    TRY(file_path(trial.json, bench->ctx, "%s.json", trial.run));
    TRY(file_path(trial.png, bench->ctx, "%s.png", trial.run));
    TRY(file_path(trial.samples, bench->ctx, "%s.npy", trial.run));
    if (file_exists(trial.json)) {
        TRY(file_remove_tree(bench->ctx, trial.run));
        return json_read(out, bench->ctx, trial.json);
    }
    *out = cJSON_CreateObject();
    bar_begin(&trial);
    KinditStatus status = run_trial(&trial, *out, &finished);
    bar_end(&trial);
    adapt_plan_close(&trial.plan);
    dataset_close(&trial.dataset);
    if (!status && finished) return KINDIT_OK;
    cJSON_Delete(*out);
    *out = NULL;
    return status;
}
