// What model a method trains, of a base.
#include "adapt/layers.h"

static int smaller(int a, int b) {
    return a < b ? a : b;
}

// Components that the tailors of n_classes have in all: what the paper gives every method (Table 7).
static int usual_rank(const DitConfig *base, int n_classes) {
    DitConfig usual = *base;
    if (usual.n_tailor == 0) dit_config_usual_factors(&usual);
    const int64_t rank = (int64_t)usual.n_tailor * n_classes;
    return rank < 1 ? 1 : rank < base->width ? (int)rank : base->width;
}

// LoRA trains (m1 + m2) r numbers of a matrix and `blocks` rotations about m1^2 / (2 blocks): the number at which the
// sums over the six matrices meet, rounded down, is that of Table 7.
int adapt_blocks(const DitConfig *base, int n_classes) {
    const int64_t D = base->width, h = base->mlp_ratio, rank = usual_rank(base, n_classes);
    const int64_t squares = D * (5 + h * h), sums = 8 + 2 * (1 + h), blocks = squares / (2 * sums * rank);
    return blocks < 1 ? 1 : (int)blocks;
}

static int dividing(int blocks, int width) {
    blocks = smaller(blocks, width / 2);
    while (width % blocks != 0) blocks--;
    return blocks;
}

static void choose(AdapterConfig *adapter, const DitConfig *base, int n_classes) {
    int rank = usual_rank(base, n_classes);
    switch (adapter->kind) {
    case ADAPTER_OFT:
        if (!adapter->blocks) adapter->blocks = dividing(adapt_blocks(base, n_classes), base->width);
        return;
    case ADAPTER_LOHA: rank = rank > 1 ? rank / 2 : 1; break;
    case ADAPTER_NONE:
    case ADAPTER_SVDIFF: return;
    default: break;
    }
    if (!adapter->rank) adapter->rank = rank;
    if (!adapter->alpha && adapter->kind != ADAPTER_COMPONENTS) adapter->alpha = adapter->rank;
}

KinditStatus adapt_configure(DitConfig *config, KinditContext *ctx, const AdaptSettings *settings,
                             const AdaptMethod *method, int n_classes) {
    if (settings->n_tailor) config->n_tailor = settings->n_tailor;
    const DitConfig base = *config;
    config->n_classes = n_classes;
    TRY(layers_configure(config, ctx, settings, method));
    config->adapter = settings->adapter;
    config->adapter.kind = method->adapter;
    if (method->adapter == ADAPTER_NONE) return dit_config_check(config, ctx);
    choose(&config->adapter, &base, n_classes);
    config->fused_qkv = false;
    config->n_tailor = 0;
    if (method->start == ADAPT_ALL_VECTORS || method->start == ADAPT_RANDOM_VECTORS) {
        dit_config_usual_factors(config);
        config->factored = true;
        config->n_tailor = 0;
        if (settings->n_learngene) config->n_learngene = smaller(settings->n_learngene, config->width);
        if (method->start == ADAPT_ALL_VECTORS) config->n_learngene = config->width;
    }
    return dit_config_check(config, ctx);
}

void adapt_reconfigure(DitConfig *config, const AdaptSettings *settings) {
    const AdapterConfig *wanted = &settings->adapter;
    if (settings->n_tailor) config->n_tailor = settings->n_tailor;
    if (settings->n_learngene) config->n_learngene = settings->n_learngene;
    if (wanted->rank) config->adapter.rank = wanted->rank;
    if (wanted->alpha != 0) config->adapter.alpha = wanted->alpha;
    if (wanted->blocks) config->adapter.blocks = wanted->blocks;
    if (wanted->cayley_terms) config->adapter.cayley_terms = wanted->cayley_terms;
}
