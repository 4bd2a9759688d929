#include <stdio.h>

#include "cli/cli.h"
#include "kind/decompose.h"
#include "model/model_source.h"

static struct {
    const char *classes, *output;
    int64_t budget, budget_parameters, type;
    bool force, json;
} settings;

static const Option *assemble_options(int *n) {
    static const Option options[] = {
        {"--classes", NULL, OPTION_STRING, &settings.classes, "A,B", "classes wanted, most wanted first (default: all)",
         0, 0, NULL},
        {"--budget", NULL, OPTION_SIZE, &settings.budget, "SIZE", "at most this many bytes of weights: 4MB, 3.5MiB", 0,
         0, NULL},
        {"--budget-parameters", NULL, OPTION_SIZE, &settings.budget_parameters, "N",
         "at most this many parameters: 500k, 2M", 0, 0, NULL},
        {"--output", "-o", OPTION_STRING, &settings.output, "PATH",
         "model to write: a folder, or one file if the name ends in .safetensors", 0, 0, NULL},
        {"--type", NULL, OPTION_CHOICE, &settings.type, STORAGE_NAMES, "how to store the weights (default f32)", 0, 0,
         NULL},
        {"--force", NULL, OPTION_FLAG, &settings.force, NULL, "replace what is there", 0, 0, NULL},
        {"--json", NULL, OPTION_FLAG, &settings.json, NULL, "print what was chosen as JSON", 0, 0, NULL},
    };
    *n = sizeof options / sizeof *options;
    return options;
}

static KinditStatus print_plan(KinditContext *ctx, const char *path, const AssemblePlan *plan) {
    if (!settings.json) {
        printf("%s\n", plan->text);
        if (settings.output) printf("model: %s\n", settings.output);
        return KINDIT_OK;
    }
    ModelSource source;
    TRY(model_source_open(&source, ctx, path));
    cJSON *json = cJSON_CreateObject();
    cJSON_AddStringToObject(json, "source", path);
    if (settings.output) cJSON_AddStringToObject(json, "model", settings.output);
    cJSON_AddStringToObject(json, "storage", storage_name((StorageType)settings.type));
    cJSON_AddNumberToObject(json, "n_classes", plan->n_classes);
    cJSON_AddNumberToObject(json, "n_left_out", plan->n_left_out);
    cJSON_AddNumberToObject(json, "bytes", (double)plan->bytes);
    cJSON_AddNumberToObject(json, "parameters", (double)plan->parameters);
    cJSON_AddNumberToObject(json, "learngene_bytes", (double)plan->learngene_bytes);
    cJSON_AddNumberToObject(json, "tailor_bytes", (double)plan->tailor_bytes);
    cJSON_AddStringToObject(json, "why", plan->text);
    cJSON *classes = cJSON_AddArrayToObject(json, "classes");
    for (int i = 0; i < plan->n_classes; i++)
        cJSON_AddItemToArray(classes, cJSON_CreateString(source.classes[plan->classes[i]].id));
    model_source_close(&source);
    return cli_print_json(json) == EXIT_DONE ? KINDIT_OK : KINDIT_ERROR_MEMORY;
}

static int assemble_run(KinditContext *ctx, int n_positional, char **positional) {
    (void)n_positional;
    AssembleBudget budget = {settings.budget, settings.budget_parameters};
    StorageType type = (StorageType)settings.type;
    AssemblePlan plan;
    Engine *engine = NULL;
    KinditStatus status = assemble_plan(&plan, ctx, positional[0], settings.classes, &budget, type);
    if (status) return cli_report(ctx, status);
    if (settings.output) status = engine_create(&engine, ctx);
    if (!status && settings.output)
        status = assemble_write(ctx, engine, positional[0], &plan, settings.output, type, settings.force);
    if (!status) status = print_plan(ctx, positional[0], &plan);
    engine_close(&engine);
    assemble_plan_close(&plan);
    return cli_report(ctx, status);
}

const Command command_assemble = {
    .name = "assemble",
    .summary = "put a model together from a learngene and the tailors of some classes",
    .arguments = "SOURCE [options]",
    .examples = "kindit assemble parts --classes A,B,C -o abc.safetensors\n"
                "kindit assemble parts --budget 6MB --type int8 -o small.safetensors\n"
                "kindit assemble parts --budget-parameters 1.5M --json",
    .notes = "SOURCE is a decomposed folder or a whole model. Within a budget classes are taken in the order asked for "
             "until "
             "the next one would not fit; without -o only the plan is shown, and no weights are read.",
    .min_positional = 1,
    .max_positional = 1,
    .options = assemble_options,
    .run = assemble_run,
};
