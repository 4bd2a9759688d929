#include "cli/train_options.h"

#include <stdio.h>
#include <string.h>

#include "base/file.h"

static struct {
    TrainPlace place;
    int64_t batch, accumulate, keep;
    TrainSettings train; // values of the options given
} settings = {.keep = -1};

enum { MOST_OPTIONS = 32 };

const Option *train_options(int *n) {
    static bool given[MOST_OPTIONS];
    static const Option table[] = {
        {"--data", NULL, OPTION_STRING, &settings.place.data, "DIR", "data set to train on (kindit data)", 0, 0, NULL},
        {"--output", "-o", OPTION_STRING, &settings.place.run, "RUN", "run folder to make", 0, 0, NULL},
        {"--resume", NULL, OPTION_FLAG, &settings.place.resume, NULL, "go on from the run's last checkpoint", 0, 0,
         NULL},
        {"--batch", NULL, OPTION_INT, &settings.batch, "N", "samples at a time (default 256)", 1, 65536, NULL},
        {"--accumulate", NULL, OPTION_INT, &settings.accumulate, "N", "batches per step (default 1)", 1, 65536, NULL},
        {"--steps", NULL, OPTION_INT, &settings.train.steps, "N", "optimiser steps in all (default 400000)", 1, 1e12,
         NULL},
        {"--time", NULL, OPTION_DOUBLE, &settings.train.max_seconds, "SECONDS",
         "stop after this long, with a checkpoint to resume from (default: no limit)", 0, 1e9, NULL},
        {"--lr", NULL, OPTION_DOUBLE, &settings.train.lr, "X", "learning rate (default 1e-4; adapt: the method's)", 0,
         10, NULL},
        {"--weight-decay", NULL, OPTION_DOUBLE, &settings.train.weight_decay, "X", "AdamW's (default 0)", 0, 10, NULL},
        {"--ema", NULL, OPTION_DOUBLE, &settings.train.ema_decay, "X", "decay of the averaged weights (default 0.9999)",
         0, 1, NULL},
        {"--label-dropout", NULL, OPTION_DOUBLE, &settings.train.label_dropout, "P",
         "share of labels replaced by the null label (default 0.1; adapt: the method's)", 0, 1, NULL},
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
        {"--json", NULL, OPTION_FLAG, &settings.place.json, NULL, "print the result as JSON", 0, 0, NULL},
    };
    static Option options[MOST_OPTIONS];
    *n = sizeof table / sizeof *table;
    memcpy(options, table, sizeof table);
    for (int i = 0; i < *n; i++) options[i].given = &given[i];
    return options;
}

TrainPlace train_options_place(void) {
    return settings.place;
}

int train_options_check(const char *command) {
    if (!settings.place.run) return cli_usage(command, "-o RUN is missing");
    if (!settings.place.data && !settings.place.resume) return cli_usage(command, "--data DIR is missing");
    return EXIT_DONE;
}

void train_options_apply(TrainSettings *train) {
    int n;
    const Option *options = train_options(&n);
    const char *first = (const char *)&settings.train;
    for (int i = 0; i < n; i++) {
        const char *value = options[i].value;
        if (!*options[i].given || value < first || value >= first + sizeof settings.train) continue;
        size_t size = options[i].type == OPTION_FLAG ? sizeof(bool) : sizeof(int64_t); // or double
        memcpy((char *)train + (value - first), value, size);
    }
    if (settings.batch) train->batch = (int)settings.batch;
    if (settings.accumulate) train->accumulate = (int)settings.accumulate;
    if (settings.keep >= 0) train->keep_checkpoints = (int)settings.keep;
}

KinditStatus train_options_data(KinditContext *ctx, char data[1024]) {
    if (settings.place.data) return file_path(data, ctx, "%s", settings.place.data);
    if (file_is_folder(data)) return KINDIT_OK; // as it was named where the run began
    return context_fail(ctx, KINDIT_ERROR_IO, "%s: the run's data set is not here: say where it is with --data DIR",
                        data);
}

int train_options_report(const TrainResult *result) {
    const char *run = settings.place.run;
    if (settings.place.json) {
        cJSON *json = cJSON_CreateObject();
        cJSON_AddStringToObject(json, "run", run);
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
    printf("model: %s/checkpoints/step-%lld\n", run, (long long)result->step);
    return EXIT_DONE;
}
