#include <stdio.h>

#include "cli/cli.h"
#include "model/exchange.h"

static struct {
    const char *output;
    int64_t heads, type;
    bool force;
} settings;

static const Option *import_options(int *n) {
    static const Option options[] = {
        {"--output", "-o", OPTION_STRING, &settings.output, "PATH",
         "model to write: a folder, or one file if the name ends in .safetensors", 0, 0, NULL},
        {"--heads", NULL, OPTION_INT, &settings.heads, "N",
         "attention heads of an original DiT that is not one of S, B, L, XL: its file does not say", 1, 256, NULL},
        {"--type", NULL, OPTION_CHOICE, &settings.type, STORAGE_NAMES, "how to store the weights (default f32)", 0, 0,
         NULL},
        {"--force", NULL, OPTION_FLAG, &settings.force, NULL, "replace what is there", 0, 0, NULL},
    };
    *n = sizeof options / sizeof *options;
    return options;
}

static int import_run(KinditContext *ctx, int n_positional, char **positional) {
    (void)n_positional;
    if (!settings.output) return cli_usage("import", "-o PATH is missing");
    Engine *engine = NULL;
    Model *model = NULL;
    DitCounts counts;
    char parameters[32];
    KinditStatus status = engine_create(&engine, ctx);
    if (!status) status = exchange_import(&model, ctx, engine, positional[0], (int)settings.heads);
    if (!status) status = model_write(model, settings.output, (StorageType)settings.type, settings.force);
    if (!status) {
        dit_count(model->dit, 1, &counts);
        printf("%s: a dense model of %s parameters and %d classes\n", settings.output,
               cli_format_count(parameters, (double)counts.total), model->dit->config.n_classes);
    }
    model_close(&model);
    engine_close(&engine);
    return cli_report(ctx, status);
}

const Command command_import = {
    .name = "import",
    .summary = "read a DiT of the original code or of diffusers",
    .arguments = "FILE|FOLDER -o PATH [options]",
    .examples = "kindit import tests/golden/exchange/dit/ema.pt --heads 2 -o dit.safetensors\n"
                "kindit import tests/golden/exchange/diffusers -o diffusers.safetensors\n"
                "kindit import DiT-XL-2-256x256.pt -o xl",
    .notes = "A FILE is the original code's state dict, in .safetensors or as torch.save wrote it (of a training "
             "checkpoint the averaged weights, ema); no code in it runs. A FOLDER is diffusers': a pipeline or its "
             "transformer. The model computes what the other program computes: its frequencies and eps are kept in the "
             "config.",
    .min_positional = 1,
    .max_positional = 1,
    .options = import_options,
    .run = import_run,
};
