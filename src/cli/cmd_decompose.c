#include <stdio.h>

#include "cli/cli.h"
#include "kind/decompose.h"

static struct {
    const char *output;
    int64_t type;
    bool force;
} settings;

static const Option *decompose_options(int *n) {
    static const Option options[] = {
        {"--output", "-o", OPTION_STRING, &settings.output, "DIR", "folder to make", 0, 0, NULL},
        {"--type", NULL, OPTION_CHOICE, &settings.type, STORAGE_NAMES,
         "how to store the weights (default f32; less is smaller, and no longer the same bits)", 0, 0, NULL},
        {"--force", NULL, OPTION_FLAG, &settings.force, NULL, "replace the folder if it exists", 0, 0, NULL},
    };
    *n = sizeof options / sizeof *options;
    return options;
}

static void print_result(const Model *model) {
    DitCounts counts;
    char learngene[32], tailor[32];
    dit_count(model->dit, 1, &counts);
    printf("%s: learngene.safetensors (%s parameters) and %d tailors of %s parameters each in tailors/\n",
           settings.output, cli_format_count(learngene, (double)(counts.learngene + counts.shared)),
           model->dit->config.n_classes, cli_format_count(tailor, (double)counts.tailor));
}

static int decompose_run(KinditContext *ctx, int n_positional, char **positional) {
    (void)n_positional;
    if (!settings.output) return cli_usage("decompose", "-o DIR is missing");
    Engine *engine = NULL;
    Model *model = NULL;
    KinditStatus status = engine_create(&engine, ctx);
    if (!status) status = model_open(&model, ctx, engine, positional[0], NULL);
    if (!status) status = decompose_write(model, ctx, settings.output, (StorageType)settings.type, settings.force);
    if (!status) print_result(model);
    model_close(&model);
    engine_close(&engine);
    return cli_report(ctx, status);
}

const Command command_decompose = {
    .name = "decompose",
    .summary = "take a model apart: one learngene file and a tailor file for each class",
    .arguments = "MODEL -o DIR [options]",
    .examples = "kindit decompose models/letters.safetensors -o parts\n"
                "kindit decompose runs/letters/checkpoints/step-4000 --type int8 -o parts",
    .notes =
        "The folder is itself a model, whole or with any of its tailor files removed. Taking apart is copying rows: "
        "the parts together draw the same samples to the bit, and again when parts are stored in the type they "
        "had.",
    .min_positional = 1,
    .max_positional = 1,
    .options = decompose_options,
    .run = decompose_run,
};
