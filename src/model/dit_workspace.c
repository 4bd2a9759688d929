#include "model/dit_workspace.h"

#include <math.h>

#include "base/memory.h"

static size_t larger(size_t a, size_t b) {
    return a > b ? a : b;
}

// ---- the plan ------------------------------------------------------------------------------------------------------

// Hands out consecutive pieces of `base`, or only measures when base is NULL.
typedef struct Plan {
    float *base;
    size_t used;
} Plan;

static float *plan_take(Plan *plan, size_t n) {
    float *piece = plan->base ? plan->base + plan->used : NULL;
    plan->used += (n + 15) / 16 * 16;
    return piece;
}

static Activation plan_activation(Plan *plan, EngineType type, size_t n) {
    return (Activation){.data = plan_take(plan, engine_type_floats(type, n)), .type = type};
}

static Activation plan_saved(Plan *plan, DitMode mode, EngineType type, const Linear *linear, size_t B) {
    if (!linear->kind || !mode.training) return (Activation){0};
    const size_t kept = linear->kind->kept ? linear->kind->kept(linear) : 0;
    return (Activation){.data = plan_take(plan, linear_saved_floats(linear, (int)B, type) + kept), .type = type};
}

// Samples whose conditioning is computed at once.
static size_t conditioned(size_t B, DitMode mode) {
    return mode.passes > 1 ? B * (size_t)mode.passes : B;
}

// Samples that a linear sees at most: one row each for the conditioning.
static size_t samples_of(const Linear *linear, size_t B, DitMode mode) {
    return linear->rows == 1 ? conditioned(B, mode) : B;
}

// What each block has of its own in every mode: the conditioning (always fp32) and, in training, where it starts.
static void plan_own(Plan *plan, const Dit *dit, size_t B, DitMode mode, float *stream, BlockActivations *a) {
    const size_t D = (size_t)dit->config.width, N = B * (size_t)dit_config_tokens(&dit->config);
    const size_t R = conditioned(B, mode);
    a->ada = plan_take(plan, R * 6 * D);
    a->dada = mode.training ? plan_take(plan, B * 6 * D) : NULL;
    a->saved_adaln = plan_saved(plan, mode, ENGINE_F32, &dit->blocks[0].adaln, B);
    a->x_in = mode.training ? plan_take(plan, N * D) : stream;
}

static void plan_rest(Plan *plan, const Dit *dit, size_t B, DitMode mode, float *stream, BlockActivations *a) {
    const DitBlock *block = &dit->blocks[0];
    const EngineType type = mode.type;
    size_t D = (size_t)dit->config.width, N = B * (size_t)dit_config_tokens(&dit->config);
    a->x_mid = mode.training ? plan_take(plan, N * D) : stream;
    a->mean1 = plan_take(plan, N);
    a->rstd1 = plan_take(plan, N);
    a->mean2 = plan_take(plan, N);
    a->rstd2 = plan_take(plan, N);
    a->lse = plan_take(plan, N * (size_t)dit->config.heads);
    a->qkv = plan_activation(plan, type, N * 3 * D);
    a->attention = plan_activation(plan, type, N * D);
    a->o = plan_activation(plan, type, N * D);
    a->in = plan_activation(plan, type, N * D * (size_t)dit->config.mlp_ratio);
    a->out = mode.training ? plan_activation(plan, type, N * D) : a->o;
    a->saved_q = plan_saved(plan, mode, type, &block->q, B);
    a->saved_k = plan_saved(plan, mode, type, &block->k, B);
    a->saved_v = plan_saved(plan, mode, type, &block->v, B);
    a->saved_o = plan_saved(plan, mode, type, &block->o, B);
    a->saved_in = plan_saved(plan, mode, type, &block->in, B);
    a->saved_out = plan_saved(plan, mode, type, &block->out, B);
}

// blocks NULL: only measures.
static void plan_blocks(Plan *plan, const Dit *dit, size_t B, DitMode mode, float *stream, BlockActivations *blocks) {
    BlockActivations a;
    for (int i = 0; i < dit->config.depth; i++) {
        if (i == 0 || (mode.training && !mode.recompute)) plan_rest(plan, dit, B, mode, stream, &a);
        plan_own(plan, dit, B, mode, stream, &a);
        if (blocks) blocks[i] = a;
    }
}

static void plan_gradients(Plan *plan, const Dit *dit, size_t B, EngineType type, DitWorkspace *w) {
    size_t D = (size_t)dit->config.width, N = B * (size_t)dit_config_tokens(&dit->config);
    w->dx = plan_take(plan, N * D);
    w->dy = plan_activation(plan, type, N * D);
    w->dn = plan_activation(plan, ENGINE_F32, N * D); // q, k and v each add to it
    w->dqkv = w->dh = plan_activation(plan, type, N * D * larger(3, (size_t)dit->config.mlp_ratio));
    w->dada = plan_take(plan, B * 2 * D);
    w->dc_silu = plan_take(plan, B * D);
    w->dc = plan_take(plan, B * D);
    w->dt = plan_take(plan, B * D);
}

// The most tailors that a batch can open.
static int most_slots(const Dit *dit, int max_batch, DitMode mode) {
    int most = mode.slots ? mode.slots : max_batch;
    return most < dit->config.n_classes ? most : dit->config.n_classes;
}

// The most that any linear works in.
static size_t work_size(const Dit *dit, size_t B, DitMode mode) {
    size_t most = 0;
    for (int i = 0; i < dit->n_linears; i++) {
        const Linear *linear = dit->linears[i];
        if (linear->kind->work) most = larger(most, linear->kind->work(linear, (int)samples_of(linear, B, mode)));
    }
    return most;
}

// packs NULL: only measures.
static void plan_packs(Plan *plan, const Dit *dit, size_t B, DitMode mode, EnginePack *packs) {
    for (int i = 0; i < dit->n_linears; i++) {
        const Linear *linear = dit->linears[i];
        const size_t size = linear->kind->pack(linear, most_slots(dit, (int)B, mode));
        float *weights = mode.pack && linear->rows > 1 ? plan_take(plan, size) : NULL;
        const bool int8 = mode.int8 && linear->rows > 1 && dit->layout.specs[linear->param[0]].quantise;
        if (packs) packs[i] = (EnginePack){.weights = weights, .int8 = int8};
    }
}

// Lays a workspace out from `base`; with base NULL only measures (w->blocks and w->packs are then not touched).
static size_t plan_workspace(const Dit *dit, size_t B, DitMode mode, float *base, DitWorkspace *w) {
    const DitConfig *config = &dit->config;
    size_t D = (size_t)config->width, T = (size_t)dit_config_tokens(config), N = B * T;
    const size_t R = conditioned(B, mode);
    size_t pp = (size_t)config->patch * (size_t)config->patch;
    Plan plan = {.base = base};
    w->position = plan_take(&plan, T * D);
    w->patches = plan_take(&plan, N * (size_t)config->channels * pp);
    w->frequencies = plan_take(&plan, R * DIT_FREQUENCIES);
    w->t_in = plan_take(&plan, R * D);
    w->t_silu = plan_take(&plan, R * D);
    w->c = plan_take(&plan, R * D);
    w->c_silu = plan_take(&plan, R * D);
    w->x = plan_take(&plan, N * D);
    w->ada = plan_take(&plan, R * 2 * D);
    w->norm = plan_activation(&plan, mode.type, N * D);
    w->mean = plan_take(&plan, N);
    w->rstd = plan_take(&plan, N);
    w->work = plan_take(&plan, work_size(dit, B, mode));
    w->out_patches = plan_take(&plan, config->classifier ? 0 : N * pp * (size_t)dit_config_out_channels(config));
    w->features = plan_take(&plan, config->classifier ? B * D : 0);
    w->dfeatures = plan_take(&plan, config->classifier && mode.training ? B * D : 0);
    plan_blocks(&plan, dit, B, mode, w->x, base ? w->blocks : NULL);
    if (mode.pack || mode.int8) plan_packs(&plan, dit, B, mode, base ? w->packs : NULL);
    if (mode.training) plan_gradients(&plan, dit, B, mode.type, w);
    return plan.used;
}

size_t dit_workspace_floats(const Dit *dit, int max_batch, DitMode mode) {
    DitWorkspace unused = {0};
    return plan_workspace(dit, (size_t)max_batch, mode, NULL, &unused);
}

size_t dit_scratch_floats(const Dit *dit, int max_batch, int threads, DitMode mode) {
    const DitConfig *config = &dit->config;
    int T = dit_config_tokens(config), D = config->width;
    int slots = most_slots(dit, max_batch, mode);
    size_t most = engine_attention_scratch(threads, max_batch, T, D, config->heads, mode.training);
    if (mode.training) most = larger(most, engine_norm_scratch(max_batch, T, D));
    for (int i = 0; i < dit->n_linears; i++) {
        const Linear *linear = dit->linears[i];
        most = larger(most, linear->kind->scratch(linear, (int)samples_of(linear, (size_t)max_batch, mode), slots));
    }
    return most;
}

KinditStatus dit_check_batch(const Dit *dit, int max_batch) {
    enum { MOST_TOKENS = 1 << 30 };
    const int most = MOST_TOKENS / dit_config_tokens(&dit->config);
    if (max_batch >= 1 && max_batch <= most) return KINDIT_OK;
    return context_fail(dit->ctx, KINDIT_ERROR_ARGUMENT, "batch: expected 1 to %d samples of %d tokens, found %d", most,
                        dit_config_tokens(&dit->config), max_batch);
}

// ---- the workspace -------------------------------------------------------------------------------------------------

void dit_position_table(const DitConfig *config, float *table) {
    const size_t side = (size_t)(config->image_size / config->patch), D = (size_t)config->width, quarter = D / 4;
    for (size_t i = 0; i < quarter; i++) {
        const double frequency = pow(10000.0, -(double)i / (double)quarter);
        for (size_t at = 0; at < side; at++) {
            const double angle = (double)at * frequency;
            const float sine = (float)sin(angle), cosine = (float)cos(angle);
            for (size_t other = 0; other < side; other++) {
                float *of_column = table + (other * side + at) * D + i;
                float *of_row = table + (at * side + other) * D + 2 * quarter + i;
                of_column[0] = of_row[0] = sine;
                of_column[quarter] = of_row[quarter] = cosine;
            }
        }
    }
}

static KinditStatus fill_workspace(DitWorkspace *w, const Dit *dit) {
    KinditContext *ctx = dit->ctx;
    size_t T = (size_t)dit_config_tokens(&dit->config), D = (size_t)dit->config.width;
    float *table = NULL;
    TRY(dit_check_batch(dit, w->max_batch));
    TRY(memory_alloc(ctx, (size_t)dit->config.depth, sizeof *w->blocks, &w->blocks));
    if (w->mode.pack || w->mode.int8) {
        TRY(memory_alloc(ctx, (size_t)dit->n_linears, sizeof *w->packs, &w->packs));
        w->n_packs = dit->n_linears;
    }
    TRY(engine_alloc(w->engine, dit_workspace_floats(dit, w->max_batch, w->mode), &w->memory));
    TRY(engine_reserve(w->engine, dit_scratch_floats(dit, w->max_batch, engine_threads(w->engine), w->mode)));
    plan_workspace(dit, (size_t)w->max_batch, w->mode, w->memory, w);
    TRY(memory_alloc(ctx, T * D, sizeof *table, &table));
    dit_position_table(&dit->config, table);
    engine_upload(w->engine, w->position, table, T * D);
    memory_free(&table);
    return KINDIT_OK;
}

KinditStatus dit_workspace_create(DitWorkspace **out, const Dit *dit, Engine *engine, int max_batch, DitMode mode) {
    DitWorkspace *w = NULL;
    *out = NULL;
    TRY(memory_alloc(dit->ctx, 1, sizeof *w, &w));
    w->engine = engine;
    w->max_batch = max_batch;
    w->mode = mode;
    KinditStatus status = fill_workspace(w, dit);
    if (status) dit_workspace_close(&w);
    *out = w;
    return status;
}

void dit_workspace_close(DitWorkspace **workspace) {
    if (!*workspace) return;
    engine_free((*workspace)->engine, &(*workspace)->memory);
    memory_free(&(*workspace)->packs);
    memory_free(&(*workspace)->blocks);
    memory_free(workspace);
}

const float *dit_features(const DitWorkspace *w) {
    return w->features;
}

void dit_workspace_repack(DitWorkspace *w) {
    for (int i = 0; i < w->n_packs; i++) w->packs[i].ready = false;
}
