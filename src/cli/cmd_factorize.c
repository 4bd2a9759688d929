#include <stdio.h>

#include "cli/cli.h"
#include "kind/factorize.h"

static struct {
    const char *output, *classes;
    int64_t n_learngene, n_tailor, type;
    bool learngene_given, tailor_given, force, json;
} settings;

static const Option *factorize_options(int *n) {
    static const Option options[] = {
        {"--output", "-o", OPTION_STRING, &settings.output, "PATH",
         "model to write: a folder, or one file if the name ends in .safetensors", 0, 0, NULL},
        {"--n-learngene", NULL, OPTION_INT, &settings.n_learngene, "N",
         "components of the learngene, the strongest first (default: all that tailors leave)", 1, 65536,
         &settings.learngene_given},
        {"--n-tailor", NULL, OPTION_INT, &settings.n_tailor, "N",
         "of a dense model: components of each tailor, from those that follow (default 0)", 0, 4096,
         &settings.tailor_given},
        {"--classes", NULL, OPTION_STRING, &settings.classes, "A,B", "classes to keep (default: all)", 0, 0, NULL},
        {"--type", NULL, OPTION_CHOICE, &settings.type, STORAGE_NAMES, "how to store the weights (default f32)", 0, 0,
         NULL},
        {"--force", NULL, OPTION_FLAG, &settings.force, NULL, "replace what is there", 0, 0, NULL},
        {"--json", NULL, OPTION_FLAG, &settings.json, NULL, "print JSON", 0, 0, NULL},
    };
    *n = sizeof options / sizeof *options;
    return options;
}

static KinditStatus factorize(Model **out, const Model *model, double *kept) {
    const DitConfig *config = &model->dit->config;
    const int own_tailor = config->factored ? config->n_tailor : 0;
    const int n_tailor = settings.tailor_given ? (int)settings.n_tailor : own_tailor;
    int64_t n_learngene =
        config->factored ? config->n_learngene : config->width - (int64_t)config->n_classes * n_tailor;
    if (n_learngene < 1) n_learngene = 1; // too many tailors: the message counts them
    if (settings.learngene_given) n_learngene = settings.n_learngene;
    return factorize_create(out, model, (int)n_learngene, n_tailor, kept);
}

static int print_result(const Model *model, double kept) {
    const DitConfig *config = &model->dit->config;
    if (!settings.json) {
        printf("%s: %d components of the learngene keep %.4g %% of the energy; %d tailors of %d components\n",
               settings.output, config->n_learngene, 100 * kept, config->n_classes, config->n_tailor);
        return EXIT_DONE;
    }
    cJSON *json = cJSON_CreateObject();
    cJSON_AddStringToObject(json, "model", settings.output);
    cJSON_AddNumberToObject(json, "n_learngene", config->n_learngene);
    cJSON_AddNumberToObject(json, "n_tailor", config->n_tailor);
    cJSON_AddNumberToObject(json, "n_classes", config->n_classes);
    cJSON_AddNumberToObject(json, "kept", kept);
    return cli_print_json(json);
}

static int factorize_run(KinditContext *ctx, int n_positional, char **positional) {
    (void)n_positional;
    if (!settings.output) return cli_usage("factorize", "-o PATH is missing");
    Engine *engine = NULL;
    Model *model = NULL, *factored = NULL;
    double kept;
    KinditStatus status = engine_create(&engine, ctx);
    if (!status) status = model_open(&model, ctx, engine, positional[0], settings.classes);
    if (!status) status = factorize(&factored, model, &kept);
    if (!status) status = model_write(factored, settings.output, (StorageType)settings.type, settings.force);
    int code = status ? cli_report(ctx, status) : print_result(factored, kept);
    model_close(&factored);
    model_close(&model);
    engine_close(&engine);
    return code;
}

const Command command_factorize = {
    .name = "factorize",
    .summary = "bring a dense model into factored form by SVD, or rank a factored one's learngene anew",
    .arguments = "MODEL -o PATH [options]",
    .examples = "kindit factorize models/letters.safetensors -o ranked.safetensors\n"
                "kindit factorize dense.safetensors --n-learngene 64 -o factored\n"
                "kindit factorize dense.safetensors --n-learngene 56 --n-tailor 2 --classes A,B,C -o split",
    .notes =
        "Of a dense model each of q, k, v, o, in and out becomes U diag(s) V^T with components of falling strength: "
        "the "
        "learngene takes the first, tailors none or those that follow. With all of them it draws what the dense model "
        "draws, but for rounding. A learngene that was trained is decomposed anew: the same model, of which "
        "`kindit assemble --budget` can leave out more. Computed in double on one thread.",
    .min_positional = 1,
    .max_positional = 1,
    .options = factorize_options,
    .run = factorize_run,
};
