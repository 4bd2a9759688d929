#include "cli/model_options.h"

static struct {
    const char *preset;
    int64_t kind, width, depth, heads, patch, mlp_ratio, n_learngene, n_tailor;
    bool fused_qkv, factor_adaln, no_learn_sigma, learngene_given, tailor_given;
    int64_t image_size, channels, n_classes;
} settings;

const Option *model_options(int *n) {
    static const Option options[] = {
        {"--preset", NULL, OPTION_STRING, &settings.preset, "NAME",
         "DiT-S/2, DiT-B/2, DiT-L/2, DiT-XL/2, or /4, /8: sets width, depth, heads and patch", 0, 0, NULL},
        {"--kind", NULL, OPTION_CHOICE, &settings.kind, "kind|off",
         "kind: learngene and tailors (default); off: the plain DiT", 0, 0, NULL},
        {"--width", NULL, OPTION_INT, &settings.width, "D", "width of a token", 1, 16384, NULL},
        {"--depth", NULL, OPTION_INT, &settings.depth, "L", "number of blocks", 1, 256, NULL},
        {"--heads", NULL, OPTION_INT, &settings.heads, "N", "attention heads", 1, 256, NULL},
        {"--patch", NULL, OPTION_INT, &settings.patch, "P", "side of a patch", 1, 64, NULL},
        {"--mlp-ratio", NULL, OPTION_INT, &settings.mlp_ratio, "R",
         "hidden width of the MLP over the width (default 4)", 1, 16, NULL},
        {"--n-learngene", NULL, OPTION_INT, &settings.n_learngene, "N",
         "N_G, components of the learngene (default 53/128 of the width, the paper's share)", 0, 65536,
         &settings.learngene_given},
        {"--n-tailor", NULL, OPTION_INT, &settings.n_tailor, "N",
         "N_T, components of each tailor (default width / 256, at least 1)", 0, 65536, &settings.tailor_given},
        {"--fused-qkv", NULL, OPTION_FLAG, &settings.fused_qkv, NULL, "factor q, k and v as one matrix", 0, 0, NULL},
        {"--factor-adaln", NULL, OPTION_FLAG, &settings.factor_adaln, NULL, "factor the adaLN matrices too", 0, 0,
         NULL},
        {"--no-learn-sigma", NULL, OPTION_FLAG, &settings.no_learn_sigma, NULL,
         "predict epsilon alone, with the schedule's fixed variance", 0, 0, NULL},
    };
    *n = sizeof options / sizeof *options;
    return options;
}

const Option *model_shape_options(int *n) {
    static const Option options[] = {
        {"--image-size", NULL, OPTION_INT, &settings.image_size, "N", "side of the model's input (default 32)", 1, 4096,
         NULL},
        {"--channels", NULL, OPTION_INT, &settings.channels, "N", "channels of the model's input (default 4)", 1, 64,
         NULL},
        {"--n-classes", NULL, OPTION_INT, &settings.n_classes, "N", "number of classes (default 1000; bench: 10)", 1,
         DIT_MAX_CLASSES, NULL},
    };
    *n = sizeof options / sizeof *options;
    return options;
}

bool model_options_given(void) {
    return settings.preset || settings.width || settings.depth || settings.heads || settings.patch ||
           settings.mlp_ratio || settings.kind || settings.learngene_given || settings.tailor_given ||
           settings.fused_qkv || settings.factor_adaln || settings.no_learn_sigma;
}

static void replace(int *field, int64_t value) {
    if (value > 0) *field = (int)value;
}

static KinditStatus require(KinditContext *ctx, int value, const char *option) {
    if (value > 0) return KINDIT_OK;
    return context_fail(ctx, KINDIT_ERROR_ARGUMENT,
                        "the size of the model is open: give %s, or a whole size such as --preset DiT-S/2", option);
}

KinditStatus model_options_config(KinditContext *ctx, bool with_shape, DitConfig *config) {
    config->width = config->depth = config->heads = config->patch = 0; // no silent default for a model's size
    if (settings.preset) TRY(dit_config_preset(config, ctx, settings.preset));
    replace(&config->width, settings.width);
    replace(&config->depth, settings.depth);
    replace(&config->heads, settings.heads);
    replace(&config->patch, settings.patch);
    replace(&config->mlp_ratio, settings.mlp_ratio);
    TRY(require(ctx, config->width, "--width"));
    TRY(require(ctx, config->depth, "--depth"));
    TRY(require(ctx, config->heads, "--heads"));
    TRY(require(ctx, config->patch, "--patch"));
    config->learn_sigma = !settings.no_learn_sigma;
    config->factored = settings.kind == 0;
    config->fused_qkv = config->factored && settings.fused_qkv;
    config->factor_adaln = config->factored && settings.factor_adaln;
    dit_config_usual_factors(config);
    if (settings.learngene_given) config->n_learngene = (int)settings.n_learngene;
    if (settings.tailor_given) config->n_tailor = (int)settings.n_tailor;
    if (!config->factored) config->n_learngene = config->n_tailor = 0;
    if (with_shape) {
        replace(&config->image_size, settings.image_size);
        replace(&config->channels, settings.channels);
        replace(&config->n_classes, settings.n_classes);
    }
    return dit_config_check(config, ctx);
}
