#include <stdio.h>

#include "cli/cli.h"

static struct {
    const char *class, *output;
    int64_t to;
    bool learngene, json, to_given;
} settings;

static const Option *export_options(int *n) {
    static const Option options[] = {
        {"--class", NULL, OPTION_STRING, &settings.class, "A", "id or name of the class whose tailor is merged in", 0,
         0, NULL},
        {"--learngene", NULL, OPTION_FLAG, &settings.learngene, NULL,
         "the learngene alone, which draws without a class", 0, 0, NULL},
        {"--to", NULL, OPTION_CHOICE, &settings.to, "dit|diffusers|peft",
         "dit: one .safetensors with the original code's names; diffusers: a folder for DiTPipeline; peft: a folder "
         "with the adapter of a dense model, and in base/ what it rides on",
         0, 0, &settings.to_given},
        {"--output", "-o", OPTION_STRING, &settings.output, "PATH", "file or folder to make", 0, 0, NULL},
        {"--json", NULL, OPTION_FLAG, &settings.json, NULL,
         "print what was written, and what it computes otherwise, as JSON", 0, 0, NULL},
    };
    *n = sizeof options / sizeof *options;
    return options;
}

static int print_result(const KinditExportResult *result) {
    if (!settings.json) {
        printf("%s\n", settings.output);
        if (result->time_error > 0)
            printf(
                "time: fitted to the other program's frequencies; embeddings of timesteps are off by at most %.2g %%\n",
                100 * result->time_error);
        if (result->norm_eps_lost)
            printf("norm: the original code has eps 1e-6 everywhere; this model had another before its MLPs\n");
        if (settings.class || settings.learngene)
            printf("guidance: the merged tailor stays open for the null label too; draw with guidance 1, or take the "
                   "unconditional half from an export of --learngene\n");
        return EXIT_DONE;
    }
    cJSON *json = cJSON_CreateObject();
    cJSON_AddStringToObject(json, "output", settings.output);
    cJSON_AddStringToObject(json, "to", (const char *const[]){"dit", "diffusers", "peft"}[settings.to]);
    cJSON_AddNumberToObject(json, "time_error", result->time_error);
    cJSON_AddBoolToObject(json, "norm_eps_lost", result->norm_eps_lost);
    return cli_print_json(json);
}

static int export_run(KinditContext *ctx, int n_positional, char **positional) {
    (void)n_positional;
    if (!settings.output) return cli_usage("export", "-o PATH is missing");
    if (!settings.to_given) return cli_usage("export", "--to dit, --to diffusers or --to peft is missing");
    if (settings.to == KINDIT_PEFT && (settings.class || settings.learngene))
        return cli_usage("export",
                         "--to peft goes without --class and --learngene: adapters there are on dense models");
    if (settings.class && settings.learngene) return cli_usage("export", "--class or --learngene, not both");
    KinditExportResult result;
    KinditStatus status = kindit_export(ctx, positional[0], settings.learngene ? "" : settings.class,
                                        (KinditExchange)settings.to, settings.output, &result);
    return status ? cli_report(ctx, status) : print_result(&result);
}

const Command command_export = {
    .name = "export",
    .summary = "write a class, the learngene or a dense model as other programs read it",
    .arguments = "MODEL --to dit|diffusers|peft -o PATH [options]",
    .examples = "kindit export models/letters.safetensors --class A --to dit -o A-dit.safetensors\n"
                "kindit export models/letters.safetensors --class A --to diffusers -o A-diffusers\n"
                "kindit export models/letters.safetensors --learngene --to dit -o learngene-dit.safetensors\n"
                "kindit export tests/golden/adapt/lora --to peft -o lora-peft",
    .notes = "The tailor, or an adapter but for peft, is merged into dense matrices, W = U diag(s) V in double "
             "precision, rounded once.\n"
             "A diffusers folder has no vae: a model of latents draws with DiTPipeline.from_pretrained(PATH, vae=VAE), "
             "one of pixels with a stand-in (docs/formats.md).",
    .min_positional = 1,
    .max_positional = 1,
    .options = export_options,
    .run = export_run,
};
