#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "cli/model_options.h"
#include "cli/progress.h"
#include "train/trainer.h"

static struct {
    const char *data, *run;
    bool resume, json;
    int64_t batch, accumulate, keep;
    TrainSettings train; // values of the options given
} settings = {.keep = -1};

enum { MOST_OPTIONS = 48 };

static const Option *pretrain_options(int *n) {
    static bool given[MOST_OPTIONS];
    static const Option own[] = {
        {"--data", NULL, OPTION_STRING, &settings.data, "DIR", "data set to train on (kindit data)", 0, 0, NULL},
        {"--output", "-o", OPTION_STRING, &settings.run, "RUN", "run folder to make", 0, 0, NULL},
        {"--resume", NULL, OPTION_FLAG, &settings.resume, NULL, "go on from the run's last checkpoint", 0, 0, NULL},
        {"--batch", NULL, OPTION_INT, &settings.batch, "N", "samples at a time (default 256)", 1, 65536, NULL},
        {"--accumulate", NULL, OPTION_INT, &settings.accumulate, "N", "batches per step (default 1)", 1, 65536, NULL},
        {"--steps", NULL, OPTION_INT, &settings.train.steps, "N", "optimiser steps in all (default 400000)", 1, 1e12,
         NULL},
        {"--time", NULL, OPTION_DOUBLE, &settings.train.max_seconds, "SECONDS",
         "stop after this long, with a checkpoint to resume from (default: no limit)", 0, 1e9, NULL},
        {"--lr", NULL, OPTION_DOUBLE, &settings.train.lr, "X", "learning rate (default 1e-4)", 0, 10, NULL},
        {"--weight-decay", NULL, OPTION_DOUBLE, &settings.train.weight_decay, "X", "AdamW's (default 0)", 0, 10, NULL},
        {"--ema", NULL, OPTION_DOUBLE, &settings.train.ema_decay, "X", "decay of the averaged weights (default 0.9999)",
         0, 1, NULL},
        {"--label-dropout", NULL, OPTION_DOUBLE, &settings.train.label_dropout, "P",
         "share of labels replaced by the null label (default 0.1)", 0, 1, NULL},
        {"--warmup", NULL, OPTION_INT, &settings.train.warmup, "N", "steps of linear warm-up (default 0)", 0, 1e12,
         NULL},
        {"--decay", NULL, OPTION_INT, &settings.train.decay, "N",
         "last steps, over which the learning rate falls linearly to 0 (default 0)", 0, 1e12, NULL},
        {"--mse-only", NULL, OPTION_FLAG, &settings.train.mse_only, NULL,
         "train on epsilon's squared error alone (the paper's Eq. 1)", 0, 0, NULL},
        {"--seed", NULL, OPTION_INT, &settings.train.seed, "N", "of everything random (default 0)", 0, 9e15, NULL},
        {"--bf16", NULL, OPTION_FLAG, &settings.train.bf16, NULL,
         "keep activations in bfloat16: half their memory; weights stay float32", 0, 0, NULL},
        {"--recompute", NULL, OPTION_FLAG, &settings.train.recompute, NULL,
         "keep blocks' inputs alone, compute the rest twice: less memory, same bits", 0, 0, NULL},
        {"--log-every", NULL, OPTION_INT, &settings.train.log_every, "N",
         "steps between lines of metrics.csv (default 100)", 0, 1e12, NULL},
        {"--checkpoint-every", NULL, OPTION_INT, &settings.train.checkpoint_every, "N",
         "steps between checkpoints (default 10000; 0: only at the end)", 0, 1e12, NULL},
        {"--sample-every", NULL, OPTION_INT, &settings.train.sample_every, "N",
         "steps between sample grids (default 10000; 0: never)", 0, 1e12, NULL},
        {"--keep", NULL, OPTION_INT, &settings.keep, "N", "checkpoints to keep (default 2; 0: all)", 0, 1e6, NULL},
        {"--json", NULL, OPTION_FLAG, &settings.json, NULL, "print the result as JSON", 0, 0, NULL},
    };
    static Option options[MOST_OPTIONS];
    int n_model, n_own = sizeof own / sizeof *own;
    const Option *model = model_options(&n_model);
    *n = cli_join_options(options, own, n_own, model, n_model);
    for (int i = 0; i < n_own; i++) options[i].given = &given[i];
    return options;
}

static int print_result(const TrainResult *result) {
    if (settings.json) {
        cJSON *json = cJSON_CreateObject();
        cJSON_AddStringToObject(json, "run", settings.run);
        cJSON_AddNumberToObject(json, "step", (double)result->step);
        cJSON_AddBoolToObject(json, "finished", result->finished);
        cJSON_AddNumberToObject(json, "loss", result->loss);
        cJSON_AddNumberToObject(json, "images_per_second", result->images_per_second);
        cJSON_AddNumberToObject(json, "gflops_per_second", result->flops_per_second / 1e9);
        cJSON_AddNumberToObject(json, "peak_bytes", (double)result->peak_bytes);
        return cli_print_json(json);
    }
    char bytes[32];
    printf("step %lld%s  loss %.4f  %.0f images/s  %.1f GFLOP/s  peak memory %s\n", (long long)result->step,
           result->finished ? "" : " (unfinished: go on with --resume)", result->loss, result->images_per_second,
           result->flops_per_second / 1e9, cli_format_bytes(bytes, (double)result->peak_bytes));
    printf("model: %s/checkpoints/step-%lld\n", settings.run, (long long)result->step);
    return EXIT_DONE;
}

// The options that were given, over what `train` holds.
static void apply_options(TrainSettings *train) {
    int n;
    const Option *options = pretrain_options(&n);
    const char *first = (const char *)&settings.train;
    for (int i = 0; i < n; i++) {
        const char *value = options[i].value;
        if (!options[i].given || !*options[i].given || value < first || value >= first + sizeof settings.train)
            continue;
        size_t size = options[i].type == OPTION_FLAG ? sizeof(bool) : sizeof(int64_t); // or double
        memcpy((char *)train + (value - first), value, size);
    }
    if (settings.batch) train->batch = (int)settings.batch;
    if (settings.accumulate) train->accumulate = (int)settings.accumulate;
    if (settings.keep >= 0) train->keep_checkpoints = (int)settings.keep;
}

// What is to be trained: the model described by the options, its images and classes by the data set.
static KinditStatus plan_new(KinditContext *ctx, TrainSettings *train, DitConfig *config, char data[1024]) {
    Dataset *dataset;
    *train = train_settings_default();
    TRY(file_path(data, ctx, "%s", settings.data));
    TRY(dataset_open(&dataset, ctx, data));
    *config = dit_config_default();
    config->image_size = dataset->size;
    config->channels = dataset->channels;
    config->n_classes = dataset->n_classes;
    dataset_close(&dataset);
    return model_options_config(ctx, false, config);
}

// What a run was, so that `--resume -o RUN` is enough to go on; options given are held against it by train_run.
static KinditStatus plan_resumed(KinditContext *ctx, TrainSettings *train, DitConfig *config, char data[1024]) {
    cJSON *adapt;
    TRY(train_record_read(ctx, settings.run, train, config, data, &adapt));
    cJSON_Delete(adapt); // train_run says that it is another command's
    if (settings.data)
        TRY(file_path(data, ctx, "%s", settings.data));
    else if (!file_is_folder(data)) // as it was named where the run began
        return context_fail(ctx, KINDIT_ERROR_IO, "%s: the run's data set is not here: say where it is with --data DIR",
                            data);
    return model_options_given() ? model_options_config(ctx, false, config) : KINDIT_OK;
}

static int pretrain_run(KinditContext *ctx, int n_positional, char **positional) {
    (void)n_positional, (void)positional;
    if (!settings.run) return cli_usage("pretrain", "-o RUN is missing");
    if (!settings.data && !settings.resume) return cli_usage("pretrain", "--data DIR is missing");
    char data[1024];
    DitConfig config;
    TrainSettings train;
    Engine *engine = NULL;
    TrainResult result = {0};
    KinditStatus status =
        settings.resume ? plan_resumed(ctx, &train, &config, data) : plan_new(ctx, &train, &config, data);
    if (!status) status = engine_create(&engine, ctx);
    if (!status) {
        apply_options(&train);
        progress_limit(train.max_seconds);
        const TrainJob job = train_job_pretrain(&config);
        status = train_run(ctx, engine, settings.run, data, &job, &train, settings.resume, &result);
    }
    engine_close(&engine);
    return status ? cli_report(ctx, status) : print_result(&result);
}

const Command command_pretrain = {
    .name = "pretrain",
    .summary = "train a decomposable DiT on a data set",
    .arguments = "--data DIR -o RUN [options]",
    .examples =
        "kindit pretrain --data data/glyphs --width 128 --depth 5 --heads 4 --patch 4 --n-learngene 56 --n-tailor 2"
        " --batch 64 --lr 1e-3 --ema 0.999 --steps 4000 -o runs/letters\n"
        "kindit pretrain --resume --steps 8000 -o runs/letters\n"
        "kindit pretrain --data latents --preset DiT-B/2 --n-learngene 318 --n-tailor 3 -o runs/paper\n"
        "kindit pretrain --data latents --preset DiT-B/2 --kind off -o runs/plain",
    .notes =
        "A run folder holds run.json, metrics.csv, TensorBoard events, samples/ and checkpoints/step-N/; each "
        "checkpoint "
        "is a model that every other command opens.\n"
        "Ctrl-C finishes the step, leaves a checkpoint and exits with 130; a second Ctrl-C stops at once, and the last "
        "checkpoint stays whole. A run resumed gives the same weights, bit for bit, as one never interrupted.",
    .options = pretrain_options,
    .run = pretrain_run,
};
