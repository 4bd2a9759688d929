#include "cli/sample_options.h"

static struct {
    const char *classes;
    int64_t sampler, steps, cfg_channels, seed, batch;
    double eta, cfg;
    bool no_clip, no_tailors, keep_label_rows, bf16, int8, given;
} settings;

static void set_defaults(void) {
    KinditSampleSettings defaults = kindit_sample_settings_default();
    settings.sampler = defaults.sampler;
    settings.steps = defaults.steps;
    settings.eta = defaults.eta;
    settings.cfg = defaults.guidance;
    settings.cfg_channels = defaults.guide_first_3 ? 0 : 1;
    settings.batch = defaults.batch;
}

const Option *sample_options(int *n) {
    static const Option options[] = {
        {"--classes", NULL, OPTION_STRING, &settings.classes, "A,B",
         "ids or names of the classes to draw (default: all)", 0, 0, &settings.given},
        {"--sampler", NULL, OPTION_CHOICE, &settings.sampler, "ddpm|ddim", "how to walk back from noise (default ddpm)",
         0, 0, &settings.given},
        {"--steps", NULL, OPTION_INT, &settings.steps, "N", "steps of the sampler (default 250)", 1, 1000,
         &settings.given},
        {"--eta", NULL, OPTION_DOUBLE, &settings.eta, "X", "noise added by ddim (default 0: none)", 0, 1,
         &settings.given},
        {"--cfg", NULL, OPTION_DOUBLE, &settings.cfg, "W", "classifier-free guidance (default 1.5; 1: none)", 0, 1000,
         &settings.given},
        {"--cfg-channels", NULL, OPTION_CHOICE, &settings.cfg_channels, "3|all",
         "guide the first 3 channels of epsilon, as DiT's own code does, or all (default all)", 0, 0, &settings.given},
        {"--seed", NULL, OPTION_INT, &settings.seed, "N", "image i depends on the seed and i alone (default 0)", 0,
         9e15, &settings.given},
        {"--batch", NULL, OPTION_INT, &settings.batch, "N", "images drawn at once, at most (default 64)", 1, 65536,
         &settings.given},
        {"--bf16", NULL, OPTION_FLAG, &settings.bf16, NULL, "keep activations in bfloat16: half their memory", 0, 0,
         &settings.given},
        {"--int8", NULL, OPTION_FLAG, &settings.int8, NULL,
         "multiply 8-bit integers, where the processor does such (`kindit info --machine`)", 0, 0, &settings.given},
        {"--no-clip", NULL, OPTION_FLAG, &settings.no_clip, NULL, "let predicted pixels leave their range", 0, 0,
         &settings.given},
        {"--no-tailors", NULL, OPTION_FLAG, &settings.no_tailors, NULL,
         "shut every tailor: the learngene alone, with the null label (the paper's Figure 7)", 0, 0, &settings.given},
        {"--keep-label-rows", NULL, OPTION_FLAG, &settings.keep_label_rows, NULL,
         "with --no-tailors: keep each class's label row", 0, 0, &settings.given},
    };
    set_defaults();
    *n = sizeof options / sizeof *options;
    return options;
}

bool sample_options_given(void) {
    return settings.given;
}

int sample_options_check(const char *command) {
    if (settings.keep_label_rows && !settings.no_tailors)
        return cli_usage(command, "--keep-label-rows goes with --no-tailors");
    return EXIT_DONE;
}

KinditSampleSettings sample_options_settings(void) {
    return (KinditSampleSettings){
        .classes = settings.classes,
        .sampler = settings.sampler ? KINDIT_DDIM : KINDIT_DDPM,
        .steps = (int)settings.steps,
        .eta = settings.eta,
        .guidance = settings.cfg,
        .guide_first_3 = settings.cfg_channels == 0,
        .clip = !settings.no_clip,
        .no_tailors = settings.no_tailors,
        .keep_label_rows = settings.keep_label_rows,
        .seed = (uint64_t)settings.seed,
        .batch = (int)settings.batch,
        .bf16 = settings.bf16,
        .int8 = settings.int8,
    };
}

void sample_options_add_json(cJSON *json) {
    cJSON_AddStringToObject(json, "sampler", settings.sampler ? "ddim" : "ddpm");
    cJSON_AddNumberToObject(json, "steps", (double)settings.steps);
    cJSON_AddNumberToObject(json, "eta", settings.eta);
    cJSON_AddNumberToObject(json, "cfg", settings.cfg);
    cJSON_AddStringToObject(json, "cfg_channels", settings.cfg_channels ? "all" : "3");
    cJSON_AddNumberToObject(json, "seed", (double)settings.seed);
    cJSON_AddBoolToObject(json, "clip", !settings.no_clip);
    cJSON_AddBoolToObject(json, "tailors", !settings.no_tailors);
    cJSON_AddBoolToObject(json, "label_rows", !settings.no_tailors || settings.keep_label_rows);
    cJSON_AddBoolToObject(json, "bf16", settings.bf16);
    cJSON_AddBoolToObject(json, "int8", settings.int8);
}
