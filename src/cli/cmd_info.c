#include <stdio.h>

#include "cli/info.h"
#include "cli/model_options.h"

static struct {
    bool json, machine, train;
    int64_t batch, accumulate;
    double open_tailors;
} settings = {.open_tailors = 1};

static const Option *info_options(int *n) {
    static const Option own[] = {
        {"--json", NULL, OPTION_FLAG, &settings.json, NULL, "print JSON", 0, 0, NULL},
        {"--machine", NULL, OPTION_FLAG, &settings.machine, NULL,
         "this machine: processor, vectors, what multiplies; peak FLOP/s and bandwidth, measured now", 0, 0, NULL},
        {"--train", NULL, OPTION_FLAG, &settings.train, NULL, "predict the memory of a training step", 0, 0, NULL},
        {"--batch", NULL, OPTION_INT, &settings.batch, "N", "with --train: samples at a time (default 256)", 1, 65536,
         NULL},
        {"--accumulate", NULL, OPTION_INT, &settings.accumulate, "N", "with --train: batches per step (default 1)", 1,
         65536, NULL},
        {"--open-tailors", NULL, OPTION_DOUBLE, &settings.open_tailors, "X",
         "count FLOPs and trainable parameters with the tailors of X classes at once (default 1)", 0, DIT_MAX_CLASSES,
         NULL},
    };
    static Option options[32];
    Option model[24];
    int n_model, n_shape;
    const Option *a = model_options(&n_model), *b = model_shape_options(&n_shape);
    n_model = cli_join_options(model, a, n_model, b, n_shape);
    *n = cli_join_options(options, own, sizeof own / sizeof *own, model, n_model);
    return options;
}

static KinditStatus add_described(cJSON *json, KinditContext *ctx, const InfoRequest *request) {
    DitConfig config = dit_config_default();
    config.n_classes = 1000;
    TRY(model_options_config(ctx, true, &config));
    cJSON_AddStringToObject(json, "type", "model");
    cJSON_AddStringToObject(json, "form", "described by options");
    return info_add_structure(json, ctx, &config, request);
}

static int info_run(KinditContext *ctx, int n_positional, char **positional) {
    InfoRequest request = {settings.open_tailors, settings.train, train_settings_default()};
    if (settings.batch) request.settings.batch = (int)settings.batch;
    if (settings.accumulate) request.settings.accumulate = (int)settings.accumulate;
    if (!settings.machine && !n_positional && !model_options_given())
        return cli_usage("info", "name a file or folder, or describe a model (--preset DiT-B/2), or ask for --machine");
    if (n_positional && (settings.machine || model_options_given()))
        return cli_usage("info", "'%s' and options that describe something else: give one of them", positional[0]);
    cJSON *json = cJSON_CreateObject();
    KinditStatus status;
    if (settings.machine)
        status = info_add_machine(json, ctx);
    else if (n_positional)
        status = info_add_path(json, ctx, positional[0], &request);
    else
        status = add_described(json, ctx, &request);
    if (!status && settings.json) return cli_print_json(json);
    if (!status) info_print(json);
    cJSON_Delete(json);
    return cli_report(ctx, status);
}

const Command command_info = {
    .name = "info",
    .summary = "look inside a model, learngene, tailor, checkpoint, run, data set or machine",
    .arguments = "[PATH] [options]",
    .examples = "kindit info models/letters.safetensors\n"
                "kindit info parts/tailors/A.safetensors\n"
                "kindit info --preset DiT-B/2 --n-classes 150 --n-learngene 318 --n-tailor 3 --json\n"
                "kindit info --train --preset DiT-S/2 --batch 64\n"
                "kindit info --machine",
    .notes =
        "Only headers are read, and a model described by options is counted without being made. Parameters: shared is "
        "all that travels with the learngene but is not factored; tailor is one class, its label row included; "
        "assembled "
        "is a model of one class; trainable is what --open-tailors X fresh tailors would train, label rows and null "
        "row "
        "included. FLOPs are of one image through the model, two per multiply-add.",
    .max_positional = 1,
    .options = info_options,
    .run = info_run,
};
