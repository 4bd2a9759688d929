#include <stdio.h>

#include "cli/cli.h"
#include "kind/decompose.h"

static struct {
    const char *output, *into;
    int64_t type;
    bool type_given, force;
} settings;

static const Option *decompose_options(int *n) {
    static const Option options[] = {
        {"--output", "-o", OPTION_STRING, &settings.output, "DIR", "folder to make", 0, 0, NULL},
        {"--into", NULL, OPTION_STRING, &settings.into, "DIR",
         "put the tailors into this decomposed folder, which has the same learngene", 0, 0, NULL},
        {"--type", NULL, OPTION_CHOICE, &settings.type, STORAGE_NAMES,
         "how to store the weights (default f32; less is smaller, and no longer the same bits)", 0, 0,
         &settings.type_given},
        {"--force", NULL, OPTION_FLAG, &settings.force, NULL, "replace the folder if it exists", 0, 0, NULL},
    };
    *n = sizeof options / sizeof *options;
    return options;
}

static void print_result(const Model *model) {
    DitCounts counts;
    char learngene[32], tailor[32];
    dit_count(model->dit, 1, &counts);
    if (settings.into) {
        printf("%s: %d tailors of %s parameters each more in tailors/\n", settings.into, model->dit->config.n_classes,
               cli_format_count(tailor, (double)counts.tailor));
        return;
    }
    printf("%s: learngene.safetensors (%s parameters) and %d tailors of %s parameters each in tailors/\n",
           settings.output, cli_format_count(learngene, (double)(counts.learngene + counts.shared)),
           model->dit->config.n_classes, cli_format_count(tailor, (double)counts.tailor));
}

static int decompose_run(KinditContext *ctx, int n_positional, char **positional) {
    (void)n_positional;
    if (!settings.output == !settings.into) return cli_usage("decompose", "either -o DIR or --into DIR");
    if (settings.into && (settings.type_given || settings.force))
        return cli_usage("decompose", "--into takes the folder's type, and replaces nothing");
    Engine *engine = NULL;
    Model *model = NULL;
    KinditStatus status = engine_create(&engine, ctx);
    if (!status) status = model_open(&model, ctx, engine, positional[0], NULL);
    if (!status && settings.into) status = decompose_into(model, ctx, settings.into);
    if (!status && settings.output)
        status = decompose_write(model, ctx, settings.output, (StorageType)settings.type, settings.force);
    if (!status) print_result(model);
    model_close(&model);
    engine_close(&engine);
    return cli_report(ctx, status);
}

const Command command_decompose = {
    .name = "decompose",
    .summary = "take a model apart: one learngene file and a tailor file for each class",
    .arguments = "MODEL (-o DIR | --into DIR) [options]",
    .examples = "kindit decompose models/letters.safetensors -o parts\n"
                "kindit decompose runs/lower --into parts\n"
                "kindit decompose runs/letters/checkpoints/step-4000 --type int8 -o parts",
    .notes =
        "The folder is itself a model, whole or with any of its tailor files removed. Taking apart is copying rows: "
        "the parts together draw the same samples to the bit, and again when parts are stored in the type they "
        "had.\n"
        "--into takes tailors that were trained beside the folder's own learngene (`kindit adapt --method kind`): the "
        "folder then draws the classes of both.",
    .min_positional = 1,
    .max_positional = 1,
    .options = decompose_options,
    .run = decompose_run,
};
