// How many blocks a method of layers keeps, and so how deep its model is.
#include "adapt/layers.h"

static KinditStatus check_settings(KinditContext *ctx, const AdaptSettings *settings, const AdaptMethod *method) {
    const char *option = NULL, *owner = NULL;
    if (settings->keep_blocks && method->blocks == ADAPT_ALL_BLOCKS)
        option = "a number of blocks to keep", owner = "heur-lg, auto-lg and laptop";
    if (settings->budget && method->blocks != ADAPT_NEEDED_BLOCKS) option = "a budget", owner = "laptop";
    if (settings->pseudo_steps && method->blocks != ADAPT_SIMILAR_BLOCKS)
        option = "a number of pseudo-steps", owner = "auto-lg";
    if (option)
        return context_fail(ctx, KINDIT_ERROR_ARGUMENT, "method %s: %s belongs to %s", method->name, option, owner);
    if (!settings->keep_blocks || !settings->budget) return KINDIT_OK;
    return context_fail(ctx, KINDIT_ERROR_ARGUMENT,
                        "a budget says how many blocks to keep: give it or a number of blocks, not both");
}

static KinditStatus count_params(const DitConfig *config, KinditContext *ctx, int depth, int64_t *out) {
    DitConfig other = *config;
    DitCounts counts;
    Dit *dit;
    other.depth = depth;
    TRY(dit_create(&dit, ctx, &other));
    dit_count(dit, 0, &counts);
    *out = counts.total;
    dit_close(&dit);
    return KINDIT_OK;
}

// All blocks are of one size, so the budget says how many there can be.
static KinditStatus blocks_within(const DitConfig *config, KinditContext *ctx, int64_t budget, int *n_keep) {
    int64_t one, two;
    TRY(count_params(config, ctx, 1, &one));
    TRY(count_params(config, ctx, 2, &two));
    if (budget < one)
        return context_fail(ctx, KINDIT_ERROR_ARGUMENT,
                            "a budget of %lld parameters: a model of one block has %lld of them, and each more %lld",
                            (long long)budget, (long long)one, (long long)(two - one));
    const int64_t most = 1 + (budget - one) / (two - one);
    *n_keep = most < config->depth ? (int)most : config->depth;
    return KINDIT_OK;
}

KinditStatus layers_keep(int *n_keep, KinditContext *ctx, const AdaptSettings *settings, const DitConfig *config) {
    *n_keep = settings->keep_blocks ? settings->keep_blocks : (config->depth + 1) / 2;
    if (settings->budget) return blocks_within(config, ctx, settings->budget, n_keep);
    if (*n_keep >= 1 && *n_keep <= config->depth) return KINDIT_OK;
    return context_fail(ctx, KINDIT_ERROR_ARGUMENT, "blocks to keep: expected 1 to %d, found %d", config->depth,
                        *n_keep);
}

KinditStatus layers_configure(DitConfig *config, KinditContext *ctx, const AdaptSettings *settings,
                              const AdaptMethod *method) {
    int n_keep;
    TRY(check_settings(ctx, settings, method));
    if (method->blocks == ADAPT_ALL_BLOCKS) return KINDIT_OK;
    TRY(layers_keep(&n_keep, ctx, settings, config));
    if (method->blocks == ADAPT_NEEDED_BLOCKS) config->depth = n_keep;
    return KINDIT_OK;
}
