#include <stdio.h>

#include "cli/cli.h"
#include "model/merge.h"
#include "model/peft.h"

static struct {
    const char *output, *adapter;
    int64_t type;
    bool force, json;
} settings;

static const Option *merge_options(int *n) {
    static const Option options[] = {
        {"--output", "-o", OPTION_STRING, &settings.output, "PATH",
         "model to write: a folder, or one file if the name ends in .safetensors", 0, 0, NULL},
        {"--adapter", NULL, OPTION_STRING, &settings.adapter, "DIR",
         "fold in this one, a folder of peft's for diffusers' DiT, and MODEL is the dense model that it rides on", 0, 0,
         NULL},
        {"--type", NULL, OPTION_CHOICE, &settings.type, STORAGE_NAMES, "how to store the weights (default f32)", 0, 0,
         NULL},
        {"--force", NULL, OPTION_FLAG, &settings.force, NULL, "replace what is there", 0, 0, NULL},
        {"--json", NULL, OPTION_FLAG, &settings.json, NULL, "print JSON", 0, 0, NULL},
    };
    *n = sizeof options / sizeof *options;
    return options;
}

static int print_result(const Model *adapted) {
    const AdapterConfig *adapter = &adapted->dit->config.adapter;
    if (!settings.json) {
        printf("%s: dense, with %s folded in\n", settings.output, adapter_name(adapter->kind));
        return EXIT_DONE;
    }
    cJSON *json = cJSON_CreateObject();
    cJSON_AddStringToObject(json, "model", settings.output);
    cJSON_AddItemToObject(json, "adapter", adapter_build(adapter));
    cJSON_AddNumberToObject(json, "n_classes", adapted->dit->config.n_classes);
    return cli_print_json(json);
}

static int merge_run(KinditContext *ctx, int n_positional, char **positional) {
    (void)n_positional;
    if (!settings.output) return cli_usage("merge", "-o PATH is missing");
    Engine *engine = NULL;
    Model *model = NULL, *read = NULL, *dense = NULL;
    KinditStatus status = engine_create(&engine, ctx);
    if (!status) status = model_open(&model, ctx, engine, positional[0], NULL);
    if (!status && settings.adapter) status = peft_read(&read, model, settings.adapter);
    const Model *adapted = read ? read : model;
    if (!status) status = model_merge_adapter(&dense, adapted);
    if (!status) status = model_write(dense, settings.output, (StorageType)settings.type, settings.force);
    int code = status ? cli_report(ctx, status) : print_result(adapted);
    model_close(&dense);
    model_close(&read);
    model_close(&model);
    engine_close(&engine);
    return code;
}

const Command command_merge = {
    .name = "merge",
    .summary = "fold an adapter into the dense model that it makes of its base",
    .arguments = "MODEL [--adapter DIR] -o PATH [options]",
    .examples = "kindit merge tests/golden/adapt/lora -o dense.safetensors\n"
                "kindit merge run -o dense --type bf16\n"
                "kindit merge base --adapter from-peft -o dense",
    .notes =
        "Every matrix is formed in double and rounded once: the merged model draws what the adapted one draws, but "
        "for rounding. It is an ordinary dense model: it can be adapted again, factorized and exported.",
    .min_positional = 1,
    .max_positional = 1,
    .options = merge_options,
    .run = merge_run,
};
