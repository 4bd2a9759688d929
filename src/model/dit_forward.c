// Forward and backward of a DiT, side by side. B samples, T tokens, D width, H hidden width of the MLP, N = B * T rows.
#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "model/dit.h"

// What one block leaves for its backward. In inference all blocks share one of these, and x_in == x_mid == the stream.
typedef struct BlockActivations {
    float *ada;           // (B, 6D) shift1 scale1 gate1 shift2 scale2 gate2
    float *x_in, *x_mid;  // (N, D) the residual stream before attention and before the MLP
    float *norm1, *norm2; // (N, D) modulated norms
    float *mean1, *rstd1; // (N)
    float *mean2, *rstd2; // (N)
    float *qkv;           // (N, 3D) when fused, 3 x (N, D) when apart
    float *lse;           // (B, heads, T)
    float *attention, *o; // (N, D)
    float *in, *gelu;     // (N, H) before and after GELU
    float *out;           // (N, D)
    float *saved_adaln, *saved_q, *saved_k, *saved_v, *saved_o, *saved_in, *saved_out; // (rows, kind->saved)
} BlockActivations;

struct DitWorkspace {
    Engine *engine;
    float *memory;
    int max_batch;
    bool training;
    BlockActivations *blocks;  // [depth], or [1] in inference
    float *position;           // (T, D) sin-cos table
    float *patches;            // (N, C p p)
    float *features;           // (B, 256) of the timestep
    float *t_in, *t_silu;      // (B, D) inside the timestep MLP
    float *c, *c_silu;         // (B, D) conditioning
    float *x;                  // (N, D) the stream's end
    float *ada;                // (B, 2D) of the final layer
    float *norm, *mean, *rstd; // (N, D), (N), (N)
    float *out_patches;        // (N, p p Cout)
    // gradients, training only
    float *dx, *dy, *dn;      // (N, D)
    float *dqkv;              // (N, 3D)
    float *dh;                // (N, H)
    float *dada, *dfinal_ada; // (B, 6D), (B, 2D)
    float *dc_silu, *dc, *dt; // (B, D)
};

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

static float *plan_saved(Plan *plan, const Linear *linear, size_t B) {
    return linear->kind ? plan_take(plan, B * (size_t)linear->rows * (size_t)linear->kind->saved(linear)) : NULL;
}

static void plan_block(Plan *plan, const Dit *dit, size_t B, bool training, float *stream, BlockActivations *a) {
    const DitBlock *block = &dit->blocks[0];
    size_t D = (size_t)dit->config.width, N = B * (size_t)dit_config_tokens(&dit->config);
    size_t H = D * (size_t)dit->config.mlp_ratio;
    a->ada = plan_take(plan, B * 6 * D);
    a->x_in = training ? plan_take(plan, N * D) : stream;
    a->x_mid = training ? plan_take(plan, N * D) : stream;
    a->norm1 = plan_take(plan, N * D);
    a->norm2 = training ? plan_take(plan, N * D) : a->norm1;
    a->mean1 = plan_take(plan, N);
    a->rstd1 = plan_take(plan, N);
    a->mean2 = plan_take(plan, N);
    a->rstd2 = plan_take(plan, N);
    a->qkv = plan_take(plan, N * 3 * D);
    a->lse = plan_take(plan, N * (size_t)dit->config.heads);
    a->attention = plan_take(plan, N * D);
    a->o = plan_take(plan, N * D);
    a->in = plan_take(plan, N * H);
    a->gelu = training ? plan_take(plan, N * H) : a->in;
    a->out = training ? plan_take(plan, N * D) : a->o;
    a->saved_adaln = plan_saved(plan, &block->adaln, B);
    a->saved_q = plan_saved(plan, &block->q, B);
    a->saved_k = plan_saved(plan, &block->k, B);
    a->saved_v = plan_saved(plan, &block->v, B);
    a->saved_o = plan_saved(plan, &block->o, B);
    a->saved_in = plan_saved(plan, &block->in, B);
    a->saved_out = plan_saved(plan, &block->out, B);
}

static void plan_gradients(Plan *plan, size_t B, size_t N, size_t D, size_t H, DitWorkspace *w) {
    w->dx = plan_take(plan, N * D);
    w->dy = plan_take(plan, N * D);
    w->dn = plan_take(plan, N * D);
    w->dqkv = plan_take(plan, N * 3 * D);
    w->dh = plan_take(plan, N * H);
    w->dada = plan_take(plan, B * 6 * D);
    w->dfinal_ada = plan_take(plan, B * 2 * D);
    w->dc_silu = plan_take(plan, B * D);
    w->dc = plan_take(plan, B * D);
    w->dt = plan_take(plan, B * D);
}

// Lays a workspace out from `base`; with base NULL only measures (w->blocks is then not touched).
static size_t dit_plan(const Dit *dit, size_t B, bool training, float *base, DitWorkspace *w) {
    const DitConfig *config = &dit->config;
    size_t D = (size_t)config->width, T = (size_t)dit_config_tokens(config), N = B * T;
    size_t pp = (size_t)config->patch * (size_t)config->patch;
    Plan plan = {.base = base};
    w->position = plan_take(&plan, T * D);
    w->patches = plan_take(&plan, N * (size_t)config->channels * pp);
    w->features = plan_take(&plan, B * DIT_FREQUENCIES);
    w->t_in = plan_take(&plan, B * D);
    w->t_silu = plan_take(&plan, B * D);
    w->c = plan_take(&plan, B * D);
    w->c_silu = plan_take(&plan, B * D);
    w->x = plan_take(&plan, N * D);
    w->ada = plan_take(&plan, B * 2 * D);
    w->norm = plan_take(&plan, N * D);
    w->mean = plan_take(&plan, N);
    w->rstd = plan_take(&plan, N);
    w->out_patches = plan_take(&plan, N * pp * (size_t)dit_config_out_channels(config));
    for (int i = 0; i < (training ? config->depth : 1); i++) {
        BlockActivations unused;
        plan_block(&plan, dit, B, training, w->x, base ? &w->blocks[i] : &unused);
    }
    if (training) plan_gradients(&plan, B, N, D, D * (size_t)config->mlp_ratio, w);
    return plan.used;
}

size_t dit_workspace_floats(const Dit *dit, int max_batch, bool training) {
    DitWorkspace unused = {0};
    return dit_plan(dit, (size_t)max_batch, training, NULL, &unused);
}

size_t dit_scratch_floats(const Dit *dit, int max_batch, int threads, bool training) {
    const DitConfig *config = &dit->config;
    int slots = max_batch < config->n_classes ? max_batch : config->n_classes;
    size_t most =
        engine_attention_scratch(threads, max_batch, dit_config_tokens(config), config->width, config->heads, training);
    for (int i = 0; i < dit->n_linears; i++) {
        size_t n = dit->linears[i]->kind->scratch(dit->linears[i], max_batch, slots);
        if (n > most) most = n;
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

// DiT's get_2d_sincos_pos_embed: the first half of a row encodes the column, the second half the row; each half is
// [sin(p w_i), cos(p w_i)] with w_i = 10000^(-i / (D/4)).
static void dit_position_table(const DitConfig *config, float *table) {
    int side = config->image_size / config->patch, D = config->width, quarter = D / 4;
    for (int row = 0; row < side; row++)
        for (int column = 0; column < side; column++) {
            float *out = table + ((size_t)row * side + column) * D;
            for (int half = 0; half < 2; half++)
                for (int i = 0; i < quarter; i++) {
                    double angle = (half ? row : column) * pow(10000.0, -(double)i / quarter);
                    out[half * 2 * quarter + i] = (float)sin(angle);
                    out[half * 2 * quarter + quarter + i] = (float)cos(angle);
                }
        }
}

static KinditStatus dit_workspace_fill(DitWorkspace *w, const Dit *dit) {
    KinditContext *ctx = dit->ctx;
    size_t T = (size_t)dit_config_tokens(&dit->config), D = (size_t)dit->config.width;
    float *table = NULL;
    TRY(dit_check_batch(dit, w->max_batch));
    TRY(memory_alloc(ctx, (size_t)(w->training ? dit->config.depth : 1), sizeof *w->blocks, &w->blocks));
    TRY(engine_alloc(w->engine, dit_workspace_floats(dit, w->max_batch, w->training), &w->memory));
    TRY(engine_reserve(w->engine, dit_scratch_floats(dit, w->max_batch, engine_threads(w->engine), w->training)));
    dit_plan(dit, (size_t)w->max_batch, w->training, w->memory, w);
    TRY(memory_alloc(ctx, T * D, sizeof *table, &table));
    dit_position_table(&dit->config, table);
    engine_upload(w->engine, w->position, table, T * D);
    memory_free(&table);
    return KINDIT_OK;
}

KinditStatus dit_workspace_create(DitWorkspace **out, const Dit *dit, Engine *engine, int max_batch, bool training) {
    DitWorkspace *w = NULL;
    *out = NULL;
    TRY(memory_alloc(dit->ctx, 1, sizeof *w, &w));
    w->engine = engine;
    w->max_batch = max_batch;
    w->training = training;
    KinditStatus status = dit_workspace_fill(w, dit);
    if (status) dit_workspace_close(&w);
    *out = w;
    return status;
}

void dit_workspace_close(DitWorkspace **workspace) {
    if (!*workspace) return;
    engine_free((*workspace)->engine, &(*workspace)->memory);
    memory_free(&(*workspace)->blocks);
    memory_free(workspace);
}

// One pass through the model: what every layer call shares.
typedef struct Pass {
    const Dit *dit;
    DitWorkspace *w;
    Engine *engine;
    const Gate *gate;
    const float *shared;
    float *dshared;
    int B, T, D;
} Pass;

static Pass dit_pass(const Dit *dit, DitWorkspace *w, const float *shared, float *dshared, const DitBatch *batch) {
    return (Pass){
        dit, w, w->engine, batch->gate, shared, dshared, batch->n, dit_config_tokens(&dit->config), dit->config.width};
}

static void linear_forward(const Pass *p, const Linear *linear, const float *x, float *saved, float *y) {
    linear->kind->forward(linear, p->engine, p->gate, p->shared, activation_f32(x), activation_f32(saved),
                          activation_f32(y));
}

static void linear_backward(const Pass *p, const Linear *linear, const float *x, const float *saved, const float *dy,
                            float *dx, bool accumulate) {
    linear->kind->backward(linear, p->engine, p->gate, p->shared, activation_f32(x), activation_f32(saved),
                           activation_f32(dy), activation_f32(dx), accumulate, p->dshared);
}

// Where q, k, v begin in a block's qkv buffer, and how far apart its rows are.
typedef struct QkvView {
    float *q, *k, *v;
    int stride;
} QkvView;

static QkvView qkv_view(const Pass *p, float *qkv) {
    size_t D = (size_t)p->D, rows = (size_t)p->B * (size_t)p->T;
    if (p->dit->config.fused_qkv) return (QkvView){qkv, qkv + D, qkv + 2 * D, 3 * p->D};
    return (QkvView){qkv, qkv + rows * D, qkv + 2 * rows * D, p->D};
}

// ---- the conditioning vector c = mlp(features(t)) + label row, and silu(c) that every adaLN layer reads ------------
static void condition_forward(const Pass *p, const DitBatch *batch) {
    const Dit *dit = p->dit;
    DitWorkspace *w = p->w;
    const ParamSpec *label = &dit->layout.specs[dit->label];
    size_t n = (size_t)p->B * (size_t)p->D;
    engine_timestep_features(p->engine, p->B, DIT_FREQUENCIES, batch->t, w->features);
    linear_forward(p, &dit->t_in, w->features, NULL, w->t_in);
    engine_silu_forward(p->engine, n, w->t_in, w->t_silu);
    linear_forward(p, &dit->t_out, w->t_silu, NULL, w->c);
    if (dit->config.factored)
        engine_label_forward(p->engine, p->D, p->gate, p->shared + label->shared_offset, label->tailor_offset, w->c);
    else
        engine_table_forward(p->engine, p->B, p->D, batch->labels, p->shared + label->shared_offset, w->c);
    engine_silu_forward(p->engine, n, w->c, w->c_silu);
}

static void condition_backward(const Pass *p, const DitBatch *batch) {
    const Dit *dit = p->dit;
    DitWorkspace *w = p->w;
    const ParamSpec *label = &dit->layout.specs[dit->label];
    size_t n = (size_t)p->B * (size_t)p->D;
    engine_silu_backward(p->engine, n, w->c, w->dc_silu, w->dc, false);
    if (dit->config.factored)
        engine_label_backward(p->engine, p->D, p->gate, w->dc, p->dshared ? p->dshared + label->shared_offset : NULL,
                              label->tailor_offset);
    else if (p->dshared)
        engine_table_backward(p->engine, p->B, p->D, batch->labels, w->dc, p->dshared + label->shared_offset);
    linear_backward(p, &dit->t_out, w->t_silu, NULL, w->dc, w->dt, false);
    engine_silu_backward(p->engine, n, w->t_in, w->dt, w->dt, false);
    linear_backward(p, &dit->t_in, w->features, NULL, w->dt, NULL, false);
}

// ---- a block: x_in -> x_out ----------------------------------------------------------------------------------------
static void block_forward(const Pass *p, const DitBlock *block, BlockActivations *a, float *x_out) {
    Engine *e = p->engine;
    int B = p->B, T = p->T, D = p->D, heads = p->dit->config.heads, stride = 6 * D;
    size_t hidden = (size_t)B * T * D * p->dit->config.mlp_ratio;
    float *shift1 = a->ada, *scale1 = a->ada + D, *gate1 = a->ada + 2 * D;
    float *shift2 = a->ada + 3 * D, *scale2 = a->ada + 4 * D, *gate2 = a->ada + 5 * D;
    QkvView qkv = qkv_view(p, a->qkv);

    linear_forward(p, &block->adaln, p->w->c_silu, a->saved_adaln, a->ada);

    engine_norm_modulate_forward(e, B, T, D, a->x_in, shift1, scale1, stride, activation_f32(a->norm1), a->mean1,
                                 a->rstd1);
    linear_forward(p, &block->q, a->norm1, a->saved_q, qkv.q);
    if (!p->dit->config.fused_qkv) {
        linear_forward(p, &block->k, a->norm1, a->saved_k, qkv.k);
        linear_forward(p, &block->v, a->norm1, a->saved_v, qkv.v);
    }
    engine_attention_forward(e, B, T, D, heads, qkv.stride, activation_f32(qkv.q), activation_f32(qkv.k),
                             activation_f32(qkv.v), activation_f32(a->attention), a->lse);
    linear_forward(p, &block->o, a->attention, a->saved_o, a->o);
    engine_residual_forward(e, B, T, D, a->x_in, activation_f32(a->o), gate1, stride, a->x_mid);

    engine_norm_modulate_forward(e, B, T, D, a->x_mid, shift2, scale2, stride, activation_f32(a->norm2), a->mean2,
                                 a->rstd2);
    linear_forward(p, &block->in, a->norm2, a->saved_in, a->in);
    engine_gelu_forward(e, hidden, a->in, a->gelu);
    linear_forward(p, &block->out, a->gelu, a->saved_out, a->out);
    engine_residual_forward(e, B, T, D, a->x_mid, activation_f32(a->out), gate2, stride, x_out);
}

// w->dx holds dL/dx_out on entry and dL/dx_in on return.
static void block_backward(const Pass *p, const DitBlock *block, const BlockActivations *a) {
    Engine *e = p->engine;
    DitWorkspace *w = p->w;
    int B = p->B, T = p->T, D = p->D, heads = p->dit->config.heads, stride = 6 * D;
    size_t hidden = (size_t)B * T * D * p->dit->config.mlp_ratio;
    const float *scale1 = a->ada + D, *gate1 = a->ada + 2 * D, *scale2 = a->ada + 4 * D, *gate2 = a->ada + 5 * D;
    float *dshift1 = w->dada, *dscale1 = w->dada + D, *dgate1 = w->dada + 2 * D;
    float *dshift2 = w->dada + 3 * D, *dscale2 = w->dada + 4 * D, *dgate2 = w->dada + 5 * D;
    QkvView qkv = qkv_view(p, a->qkv), dqkv = qkv_view(p, w->dqkv);

    engine_residual_backward(e, B, T, D, activation_f32(a->out), gate2, stride, w->dx, activation_f32(w->dy), dgate2);
    linear_backward(p, &block->out, a->gelu, a->saved_out, w->dy, w->dh, false);
    engine_gelu_backward(e, hidden, a->in, w->dh, w->dh);
    linear_backward(p, &block->in, a->norm2, a->saved_in, w->dh, w->dn, false);
    engine_norm_modulate_backward(e, B, T, D, a->x_mid, scale2, stride, a->mean2, a->rstd2, activation_f32(w->dn),
                                  w->dx, true, dshift2, dscale2);

    engine_residual_backward(e, B, T, D, activation_f32(a->o), gate1, stride, w->dx, activation_f32(w->dy), dgate1);
    linear_backward(p, &block->o, a->attention, a->saved_o, w->dy, w->dn, false);
    engine_attention_backward(e, B, T, D, heads, qkv.stride, activation_f32(qkv.q), activation_f32(qkv.k),
                              activation_f32(qkv.v), activation_f32(a->attention), a->lse, activation_f32(w->dn),
                              activation_f32(dqkv.q), activation_f32(dqkv.k), activation_f32(dqkv.v));
    linear_backward(p, &block->q, a->norm1, a->saved_q, dqkv.q, w->dn, false);
    if (!p->dit->config.fused_qkv) {
        linear_backward(p, &block->k, a->norm1, a->saved_k, dqkv.k, w->dn, true);
        linear_backward(p, &block->v, a->norm1, a->saved_v, dqkv.v, w->dn, true);
    }
    engine_norm_modulate_backward(e, B, T, D, a->x_in, scale1, stride, a->mean1, a->rstd1, activation_f32(w->dn), w->dx,
                                  true, dshift1, dscale1);

    linear_backward(p, &block->adaln, w->c_silu, a->saved_adaln, w->dada, w->dc_silu, true);
}

// ---- the final layer: x -> output ----------------------------------------------------------------------------------
static void final_forward(const Pass *p, float *output) {
    const DitConfig *config = &p->dit->config;
    DitWorkspace *w = p->w;
    int D = p->D;
    linear_forward(p, &p->dit->final_adaln, w->c_silu, NULL, w->ada);
    engine_norm_modulate_forward(p->engine, p->B, p->T, D, w->x, w->ada, w->ada + D, 2 * D, activation_f32(w->norm),
                                 w->mean, w->rstd);
    linear_forward(p, &p->dit->final_linear, w->norm, NULL, w->out_patches);
    engine_unpatchify(p->engine, p->B, dit_config_out_channels(config), config->image_size, config->patch,
                      w->out_patches, output);
}

static void final_backward(const Pass *p, const float *doutput) {
    const DitConfig *config = &p->dit->config;
    DitWorkspace *w = p->w;
    int D = p->D;
    float *dpatches = w->out_patches; // its values are not needed by any gradient
    engine_unpatchify_backward(p->engine, p->B, dit_config_out_channels(config), config->image_size, config->patch,
                               doutput, dpatches);
    linear_backward(p, &p->dit->final_linear, w->norm, NULL, dpatches, w->dn, false);
    engine_norm_modulate_backward(p->engine, p->B, p->T, D, w->x, w->ada + D, 2 * D, w->mean, w->rstd,
                                  activation_f32(w->dn), w->dx, false, w->dfinal_ada, w->dfinal_ada + D);
    linear_backward(p, &p->dit->final_adaln, w->c_silu, NULL, w->dfinal_ada, w->dc_silu, false);
}

void dit_forward(const Dit *dit, DitWorkspace *w, const float *shared, const DitBatch *batch, float *output) {
    const DitConfig *config = &dit->config;
    Pass p = dit_pass(dit, w, shared, NULL, batch);
    float *x = w->blocks[0].x_in; // (N, D)
    condition_forward(&p, batch);
    engine_patchify(p.engine, p.B, config->channels, config->image_size, config->patch, batch->x, w->patches);
    linear_forward(&p, &dit->x_embedder, w->patches, NULL, x);
    engine_add_position(p.engine, p.B, p.T, p.D, w->position, x);
    for (int i = 0; i < config->depth; i++) {
        BlockActivations *a = w->training ? &w->blocks[i] : &w->blocks[0];
        bool last = i + 1 == config->depth;
        block_forward(&p, &dit->blocks[i], a, w->training && !last ? w->blocks[i + 1].x_in : w->x);
    }
    final_forward(&p, output);
}

void dit_backward(const Dit *dit, DitWorkspace *w, const float *shared, const DitBatch *batch, const float *doutput,
                  float *dshared) {
    Pass p = dit_pass(dit, w, shared, dshared, batch);
    final_backward(&p, doutput);
    for (int i = dit->config.depth - 1; i >= 0; i--) block_backward(&p, &dit->blocks[i], &w->blocks[i]);
    linear_backward(&p, &dit->x_embedder, w->patches, NULL, w->dx, NULL, false);
    condition_backward(&p, batch);
}
