// What sizes a DiT may have.
#include <stdio.h>
#include <string.h>

#include "model/dit.h"

static const struct {
    const char *name;
    int width, depth, heads;
} presets[] = {{"S", 384, 12, 6}, {"B", 768, 12, 12}, {"L", 1024, 24, 16}, {"XL", 1152, 28, 16}};
enum { N_PRESETS = sizeof presets / sizeof *presets };

DitConfig dit_config_default(void) {
    return (DitConfig){.image_size = 32,
                       .channels = 4,
                       .patch = 2,
                       .width = 384,
                       .depth = 12,
                       .heads = 6,
                       .mlp_ratio = 4,
                       .learn_sigma = true,
                       .factored = true,
                       .mlp_norm_eps = DIT_NORM_EPS};
}

KinditStatus dit_config_preset(DitConfig *config, KinditContext *ctx, const char *name) {
    for (size_t i = 0; i < N_PRESETS; i++)
        for (int patch = 2; patch <= 8; patch *= 2) {
            char full[32];
            snprintf(full, sizeof full, "DiT-%s/%d", presets[i].name, patch);
            if (strcmp(full, name) != 0) continue;
            config->width = presets[i].width;
            config->depth = presets[i].depth;
            config->heads = presets[i].heads;
            config->patch = patch;
            return KINDIT_OK;
        }
    return context_fail(ctx, KINDIT_ERROR_ARGUMENT,
                        "no preset '%s'; there are DiT-S, DiT-B, DiT-L, DiT-XL with /2, /4, /8", name);
}

void dit_config_usual_factors(DitConfig *config) {
    config->n_learngene = config->width * 53 / 128;
    config->n_tailor = config->width < 512 ? 1 : config->width / 256;
}

int dit_config_usual_heads(int width, int depth) {
    for (size_t i = 0; i < N_PRESETS; i++)
        if (presets[i].width == width && presets[i].depth == depth) return presets[i].heads;
    return 0;
}

static KinditStatus config_check_range(KinditContext *ctx, const char *field, int value, int low, int high) {
    if (value >= low && value <= high) return KINDIT_OK;
    return context_fail(ctx, KINDIT_ERROR_ARGUMENT, "model config: %s is %d, expected %d to %d", field, value, low,
                        high);
}

KinditStatus dit_config_check(const DitConfig *config, KinditContext *ctx) {
    TRY(config_check_range(ctx, "image_size", config->image_size, 2, 4096));
    TRY(config_check_range(ctx, "channels", config->channels, 1, 64));
    TRY(config_check_range(ctx, "patch", config->patch, 1, 64));
    TRY(config_check_range(ctx, "width", config->width, 4, 16384));
    TRY(config_check_range(ctx, "depth", config->depth, 1, 256));
    TRY(config_check_range(ctx, "heads", config->heads, 1, 256));
    TRY(config_check_range(ctx, "mlp_ratio", config->mlp_ratio, 1, 16));
    TRY(config_check_range(ctx, "number of classes", config->n_classes, 0, DIT_MAX_CLASSES));
    TRY(config_check_range(ctx, "time_shift", config->time_shift, 0, 1));
    if (!(config->mlp_norm_eps >= 1e-12 && config->mlp_norm_eps <= 1))
        return context_fail(ctx, KINDIT_ERROR_ARGUMENT, "model config: mlp_norm_eps is %g, expected 1e-12 to 1",
                            config->mlp_norm_eps);
    if (config->image_size % config->patch)
        return context_fail(ctx, KINDIT_ERROR_ARGUMENT, "model config: image_size %d is not a multiple of patch %d",
                            config->image_size, config->patch);
    if (dit_config_tokens(config) > 1 << 16)
        return context_fail(ctx, KINDIT_ERROR_ARGUMENT, "model config: %d tokens, at most 65536: use larger patches",
                            dit_config_tokens(config));
    if (config->width % 4 || config->width % config->heads)
        return context_fail(ctx, KINDIT_ERROR_ARGUMENT,
                            "model config: width %d must be a multiple of 4 (2-D positions) and of heads %d",
                            config->width, config->heads);
    const AdapterBase base = {config->factored, config->width, config->n_tailor};
    TRY(adapter_check(&config->adapter, ctx, &base));
    if (config->adapter.kind != ADAPTER_NONE && config->fused_qkv)
        return context_fail(ctx, KINDIT_ERROR_ARGUMENT,
                            "model config: fused_qkv: with an adapter q, k and v are apart: expected false");
    const bool adapted = config->adapter.kind != ADAPTER_NONE;
    if (config->classifier && (config->factored || adapted || config->learn_sigma || config->n_classes < 2))
        return context_fail(ctx, KINDIT_ERROR_ARGUMENT,
                            "model config: a classifier is dense, without adapter or learned sigma, and of 2 classes "
                            "at least");
    if (!config->factored) {
        if (config->n_learngene || config->n_tailor || config->factor_adaln)
            return context_fail(ctx, KINDIT_ERROR_ARGUMENT,
                                "model config: n_learngene, n_tailor and factor_adaln belong to factored models only");
        return KINDIT_OK;
    }
    TRY(config_check_range(ctx, "n_learngene", config->n_learngene, 1, 1 << 16));
    return config_check_range(ctx, "n_tailor", config->n_tailor, 0, 1 << 12);
}

int dit_config_tokens(const DitConfig *config) {
    int side = config->image_size / config->patch;
    return side * side;
}

int dit_config_out_channels(const DitConfig *config) {
    return config->learn_sigma ? 2 * config->channels : config->channels;
}

size_t dit_config_output(const DitConfig *config) {
    if (config->classifier) return (size_t)config->n_classes;
    return (size_t)dit_config_out_channels(config) * (size_t)config->image_size * (size_t)config->image_size;
}
