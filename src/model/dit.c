// The structure of a DiT: which layers there are, under which names, with which initial values and counts.
#include "model/dit.h"

#include <stdio.h>
#include <string.h>

#include "base/memory.h"

// One layer of the conditioning path (one row per sample) or of the token path.
static Linear dit_linear(const LinearKind *kind, const DitConfig *config, int rows, int m1, int m2, LinearInit init) {
    bool factored = kind == &linear_factored;
    return (Linear){.kind = kind,
                    .m1 = m1,
                    .m2 = m2,
                    .rows = rows,
                    .fan_out = m2,
                    .n_learngene = factored ? config->n_learngene : 0,
                    .n_tailor = factored ? config->n_tailor : 0,
                    .init = init};
}

// One of a block's six matrices: with the adapter, if there is one.
static Linear dit_matrix(const Dit *dit, int m1, int m2) {
    const DitConfig *config = &dit->config;
    const LinearKind *kind = config->factored ? &linear_factored : &linear_dense;
    Linear linear = dit_linear(kind, config, dit_config_tokens(config), m1, m2, LINEAR_INIT_XAVIER);
    if (config->adapter.kind == ADAPTER_NONE) return linear;
    linear.base = linear.kind;
    linear.kind = adapter_linear_kind(config->adapter.kind);
    linear.adapter = &config->adapter;
    return linear;
}

static KinditStatus dit_declare(Dit *dit, Linear *linear, const char *format, int block) {
    snprintf(linear->name, sizeof linear->name, format, block); // formats below are literals of this file
    linear->index = dit->n_linears;
    dit->linears[dit->n_linears++] = linear;
    return linear->kind->declare(linear, dit->ctx, &dit->layout);
}

static KinditStatus dit_declare_block(Dit *dit, int i) {
    const DitConfig *config = &dit->config;
    DitBlock *block = &dit->blocks[i];
    int D = config->width, H = config->width * config->mlp_ratio;
    const LinearKind *adaln_kind = config->factor_adaln ? &linear_factored : &linear_dense;

    block->adaln = dit_linear(adaln_kind, config, 1, D, 6 * D, LINEAR_INIT_ZERO);
    TRY(dit_declare(dit, &block->adaln, "blocks.%d.adaLN_modulation.1", i));
    if (config->fused_qkv) {
        block->q = dit_matrix(dit, D, 3 * D);
        TRY(dit_declare(dit, &block->q, "blocks.%d.attn.qkv", i));
    } else {
        block->q = block->k = block->v = dit_matrix(dit, D, D);
        block->q.fan_out = block->k.fan_out = block->v.fan_out = 3 * D;
        TRY(dit_declare(dit, &block->q, "blocks.%d.attn.q", i));
        TRY(dit_declare(dit, &block->k, "blocks.%d.attn.k", i));
        TRY(dit_declare(dit, &block->v, "blocks.%d.attn.v", i));
    }
    block->o = dit_matrix(dit, D, D);
    TRY(dit_declare(dit, &block->o, "blocks.%d.attn.proj", i));
    block->in = dit_matrix(dit, D, H);
    TRY(dit_declare(dit, &block->in, "blocks.%d.mlp.fc1", i));
    block->out = dit_matrix(dit, H, D);
    return dit_declare(dit, &block->out, "blocks.%d.mlp.fc2", i);
}

// The label table: row c belongs to tailor c and the null row to the learngene; a dense model shares all rows, and a
// classifier, which is told no label, has the null row alone.
static KinditStatus dit_declare_labels(Dit *dit) {
    int64_t shared_rows = dit->config.factored || dit->config.classifier ? 1 : (int64_t)dit->config.n_classes + 1;
    return params_declare(&dit->layout, dit->ctx, "y_embedder.embedding_table.weight", ROLE_LABELS,
                          dit->config.factored ? 1 : 0, 2, (int64_t[]){shared_rows, dit->config.width}, &dit->label);
}

static KinditStatus dit_declare_time(Dit *dit) {
    const DitConfig *config = &dit->config;
    dit->t_in = dit_linear(&linear_dense, config, 1, DIT_FREQUENCIES, config->width, LINEAR_INIT_NORMAL);
    TRY(dit_declare(dit, &dit->t_in, "t_embedder.mlp.0", 0));
    dit->t_out = dit_linear(&linear_dense, config, 1, config->width, config->width, LINEAR_INIT_NORMAL);
    return dit_declare(dit, &dit->t_out, "t_embedder.mlp.2", 0);
}

// From tokens to patches, or from their mean to logits.
static KinditStatus dit_declare_output(Dit *dit) {
    const DitConfig *config = &dit->config;
    int rows = config->classifier ? 1 : dit_config_tokens(config);
    int m2 = config->classifier ? config->n_classes : config->patch * config->patch * dit_config_out_channels(config);
    dit->final_linear = dit_linear(&linear_dense, config, rows, config->width, m2, LINEAR_INIT_ZERO);
    TRY(dit_declare(dit, &dit->final_linear, config->classifier ? "head" : "final_layer.linear", 0));
    dit->layout.specs[dit->final_linear.param[0]].quantise = false;
    return KINDIT_OK;
}

static KinditStatus dit_declare_all(Dit *dit) {
    const DitConfig *config = &dit->config;
    int D = config->width, T = dit_config_tokens(config), p = config->patch;

    dit->x_embedder = dit_linear(&linear_dense, config, T, config->channels * p * p, D, LINEAR_INIT_XAVIER);
    TRY(dit_declare(dit, &dit->x_embedder, "x_embedder.proj", 0));
    ParamSpec *conv = &dit->layout.specs[dit->x_embedder.param[0]]; // a Conv2d in the file; the same floats
    conv->n_dims = 4;
    memcpy(conv->shape, (int64_t[]){D, config->channels, p, p}, sizeof conv->shape);
    conv->quantise = false; // the layers that see pixels: few numbers, and every one of their errors is seen

    if (!config->classifier) TRY(dit_declare_time(dit));
    TRY(dit_declare_labels(dit));
    for (int i = 0; i < config->depth; i++) TRY(dit_declare_block(dit, i));
    dit->final_adaln = dit_linear(&linear_dense, config, 1, D, 2 * D, LINEAR_INIT_ZERO);
    TRY(dit_declare(dit, &dit->final_adaln, "final_layer.adaLN_modulation.1", 0));
    return dit_declare_output(dit);
}

KinditStatus dit_create(Dit **out, KinditContext *ctx, const DitConfig *config) {
    *out = NULL;
    TRY(dit_config_check(config, ctx));
    Dit *dit = NULL;
    TRY(memory_alloc(ctx, 1, sizeof *dit, &dit));
    dit->ctx = ctx;
    dit->config = *config;
    if (!config->factored) dit->config.fused_qkv = config->adapter.kind == ADAPTER_NONE; // as DiT
    KinditStatus status = memory_alloc(ctx, (size_t)config->depth, sizeof *dit->blocks, &dit->blocks);
    if (!status) status = memory_alloc(ctx, 5 + 7 * (size_t)config->depth, sizeof *dit->linears, &dit->linears);
    if (!status) status = dit_declare_all(dit);
    if (config->adapter.kind != ADAPTER_NONE) params_freeze(&dit->layout, ROLE_SHARED | ROLE_LEARNGENE);
    if (status) dit_close(&dit);
    *out = dit;
    return status;
}

void dit_close(Dit **dit) {
    if (!*dit) return;
    params_layout_close(&(*dit)->layout);
    memory_free(&(*dit)->blocks);
    memory_free(&(*dit)->linears);
    memory_free(dit);
}

// Initial values of the shared vector (class_index < 0) or of one tailor, in host memory.
static void dit_init_vector(const Dit *dit, uint64_t seed, int class_index, float *vector) {
    for (int i = 0; i < dit->n_linears; i++) {
        const Linear *linear = dit->linears[i];
        if (linear->base) linear->base->init(linear, seed, class_index, vector);
        linear->kind->init(linear, seed, class_index, vector);
    }
    const ParamSpec *label = &dit->layout.specs[dit->label];
    size_t n = label->row * (size_t)(class_index < 0 ? label->shape[0] : label->tailor_rows);
    float *rows = vector + (class_index < 0 ? label->shared_offset : label->tailor_offset);
    rng_fill_normal(
        (RngKey){
            .seed = seed, .sample = (uint64_t)dit->label, .step = (uint32_t)(class_index + 1), .purpose = RNG_INIT},
        rows, n);
    for (size_t i = 0; i < n; i++) rows[i] *= LINEAR_INIT_STD;
}

void dit_init_adapters(const Dit *dit, uint64_t seed, float *vector) {
    for (int i = 0; i < dit->n_linears; i++)
        if (dit->linears[i]->base) dit->linears[i]->kind->init(dit->linears[i], seed, -1, vector);
}

KinditStatus dit_init_tailor(const Dit *dit, float *tailor, Engine *engine, int class_index, uint64_t seed) {
    float *host = NULL;
    TRY(memory_alloc(dit->ctx, dit->layout.n_tailor, sizeof *host, &host));
    dit_init_vector(dit, seed, class_index, host);
    engine_upload(engine, tailor, host, dit->layout.n_tailor);
    memory_free(&host);
    return KINDIT_OK;
}

KinditStatus dit_init(const Dit *dit, ParamSet *params, uint64_t seed) {
    float *host = NULL;
    TRY(memory_alloc(dit->ctx, dit->layout.n_shared, sizeof *host, &host));
    dit_init_vector(dit, seed, -1, host);
    engine_upload(params->engine, params->shared, host, dit->layout.n_shared);
    memory_free(&host);
    for (int c = 0; c < params->n_classes && dit->layout.n_tailor; c++)
        TRY(dit_init_tailor(dit, params->tailor[c], params->engine, c, seed));
    return KINDIT_OK;
}

void dit_count(const Dit *dit, double open_tailors, DitCounts *out) {
    const DitConfig *config = &dit->config;
    double D = config->width, T = dit_config_tokens(config);
    const ParamSpec *label = &dit->layout.specs[dit->label];
    *out = (DitCounts){.position = (int64_t)(T * D), .label_rows = (int64_t)params_spec_size(label, config->n_classes)};
    for (int i = 0; i < dit->layout.n_specs; i++) {
        const ParamSpec *spec = &dit->layout.specs[i];
        int64_t shared = (int64_t)params_spec_size(spec, 0);
        *(spec->role == ROLE_LEARNGENE ? &out->learngene : &out->shared) += shared;
        out->tailor += (int64_t)params_spec_size(spec, 1) - shared;
        out->total += (int64_t)params_spec_size(spec, config->n_classes);
        out->trained += (int64_t)params_spec_size(spec, config->n_classes) - (spec->frozen ? shared : 0);
    }
    for (int i = 0; i < dit->n_linears; i++) {
        const Linear *linear = dit->linears[i];
        out->flops_linear += linear->rows * linear->kind->flops(linear, open_tailors * config->n_tailor);
    }
    out->flops_attention = config->depth * 4.0 * T * T * D; // QK^T and AV, 2 T T D each
}

double dit_training_flops(const Dit *dit) {
    DitCounts counts;
    dit_count(dit, 1, &counts);
    const int64_t shut = counts.total - counts.learngene - counts.shared - counts.tailor; // other classes' tailors
    const double share = (double)(counts.trained - shut) / (double)(counts.total - shut);
    return (2 + share) * counts.flops_linear + 3 * counts.flops_attention;
}
