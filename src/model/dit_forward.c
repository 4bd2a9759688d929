// Forward and backward of a DiT, side by side. B samples, T tokens, D width, H hidden width of the MLP, N = B * T rows.
#include "model/dit_workspace.h"

// One pass through the model: what every layer call shares.
typedef struct Pass {
    const Dit *dit;
    DitWorkspace *w;
    Engine *engine;
    const Gate *gate;
    const DitTargets *targets;
    const float *shared;
    float *dshared;
    int B, T, D;
    int first; // whose conditioning is the first sample's
} Pass;

static Pass dit_pass(const Dit *dit, DitWorkspace *w, const float *shared, float *dshared, const DitBatch *batch) {
    const DitConfig *config = &dit->config;
    return (Pass){
        dit,           w, w->engine, batch->gate, batch->targets, shared, dshared, batch->n, dit_config_tokens(config),
        config->width, 0};
}

static void linear_forward(const Pass *p, const Linear *linear, Activation x, Activation saved, Activation y) {
    EnginePack *pack = p->w->packs ? &p->w->packs[linear->index] : NULL;
    linear->kind->forward(linear, p->engine, p->gate, p->shared, x, saved, p->w->work, y, pack);
}

static void linear_backward(const Pass *p, const Linear *linear, Activation x, Activation y, Activation saved,
                            Activation dy, Activation dx, bool accumulate) {
    linear->kind->backward(linear, p->engine, p->gate, p->shared, x, y, saved, p->w->work, dy, dx, accumulate,
                           p->dshared);
}

// The conditioning path and the two ends of the model: dense layers (which save nothing) between fp32 buffers.
static const Activation none = {0};

static void linear_forward_f32(const Pass *p, const Linear *linear, const float *x, float *y) {
    linear_forward(p, linear, activation_f32(x), none, activation_f32(y));
}

static void linear_backward_f32(const Pass *p, const Linear *linear, const float *x, const float *dy, float *dx,
                                bool accumulate) {
    linear_backward(p, linear, activation_f32(x), none, none, activation_f32(dy), activation_f32(dx), accumulate);
}

// Where q, k, v begin in a block's qkv buffer, and how far apart its rows are.
typedef struct QkvView {
    Activation q, k, v;
    int stride;
} QkvView;

static QkvView qkv_view(const Pass *p, Activation qkv) {
    size_t D = (size_t)p->D, rows = (size_t)p->B * (size_t)p->T;
    size_t apart = p->dit->config.fused_qkv ? D : rows * D;
    return (QkvView){qkv, activation_at(qkv, apart), activation_at(qkv, 2 * apart),
                     p->dit->config.fused_qkv ? 3 * p->D : p->D};
}

static Activation through_gelu(Activation x) {
    x.gelu = true;
    return x;
}

// ---- conditioning: c = mlp(features(t)) + label row, and what every adaLN layer makes of silu(c) --------------------
// A classifier has no time, and its gate is shut: c is the null row.
static void time_forward(const Pass *p, const float *t) {
    const Dit *dit = p->dit;
    DitWorkspace *w = p->w;
    engine_timestep_features(p->engine, p->B, DIT_FREQUENCIES, dit->config.time_shift, t, w->frequencies);
    linear_forward_f32(p, &dit->t_in, w->frequencies, w->t_in);
    engine_silu_forward(p->engine, (size_t)p->B * (size_t)p->D, w->t_in, w->t_silu);
    linear_forward_f32(p, &dit->t_out, w->t_silu, w->c);
}

static void time_backward(const Pass *p) {
    DitWorkspace *w = p->w;
    if (!params_gradient(&p->dit->layout, p->dit->t_in.param[DENSE_WEIGHT], p->dshared)) return; // nothing here trains
    linear_backward_f32(p, &p->dit->t_out, w->t_silu, w->dc, w->dt, false);
    engine_silu_backward(p->engine, (size_t)p->B * (size_t)p->D, w->t_in, w->dt, w->dt, false);
    linear_backward_f32(p, &p->dit->t_in, w->frequencies, w->dt, NULL, false);
}

static void condition_forward(const Pass *p, const DitBatch *batch) {
    const Dit *dit = p->dit;
    DitWorkspace *w = p->w;
    const ParamSpec *label = &dit->layout.specs[dit->label];
    size_t n = (size_t)p->B * (size_t)p->D;
    if (dit->config.classifier)
        engine_zero(p->engine, w->c, n);
    else
        time_forward(p, batch->t);
    if (dit->config.factored || dit->config.classifier)
        engine_label_forward(p->engine, p->D, p->gate, p->shared + label->shared_offset, label->tailor_offset, w->c);
    else
        engine_table_forward(p->engine, p->B, p->D, batch->labels, p->shared + label->shared_offset, w->c);
    engine_silu_forward(p->engine, n, w->c, w->c_silu);
    for (int i = 0; i < dit->config.depth; i++)
        linear_forward(p, &dit->blocks[i].adaln, activation_f32(w->c_silu), w->blocks[i].saved_adaln,
                       activation_f32(w->blocks[i].ada));
    linear_forward_f32(p, &dit->final_adaln, w->c_silu, w->ada);
}

static void condition_backward(const Pass *p, const DitBatch *batch) {
    const Dit *dit = p->dit;
    DitWorkspace *w = p->w;
    float *dlabels = params_gradient(&dit->layout, dit->label, p->dshared);
    size_t n = (size_t)p->B * (size_t)p->D;
    linear_backward_f32(p, &dit->final_adaln, w->c_silu, w->dada, w->dc_silu, false);
    for (int i = 0; i < dit->config.depth; i++)
        linear_backward(p, &dit->blocks[i].adaln, activation_f32(w->c_silu), none, w->blocks[i].saved_adaln,
                        activation_f32(w->blocks[i].dada), activation_f32(w->dc_silu), true);
    engine_silu_backward(p->engine, n, w->c, w->dc_silu, w->dc, false);
    if (dit->config.factored || dit->config.classifier)
        engine_label_backward(p->engine, p->D, p->gate, w->dc, dlabels, dit->layout.specs[dit->label].tailor_offset);
    else if (dlabels)
        engine_table_backward(p->engine, p->B, p->D, batch->labels, w->dc, dlabels);
    if (!dit->config.classifier) time_backward(p);
}

// ---- the residual stream -------------------------------------------------------------------------------------------
// Along it norms and branches take turns: norm, attention, join, MLP, join, ..., norm. A join adds a branch to the
// stream and normalises the result for the next one, in one pass over memory.

typedef struct Norm { // modulate(norm(x), shift, scale)
    float *x, *mean, *rstd;
    const float *shift, *scale; // row b at + b * stride
    float *dshift, *dscale;
    int stride;
    float eps;
    Activation out;
} Norm;

typedef struct Branch { // gate * y
    Activation y;
    const float *gate;
    float *dgate;
    int stride;
} Branch;

static const float *ada_at(const Pass *p, const BlockActivations *a, int offset) {
    return a->ada + (size_t)p->first * 6 * (size_t)p->D + offset;
}

static float *dada_at(const BlockActivations *a, int offset) {
    return a->dada ? a->dada + offset : NULL;
}

static Norm norm_of_attention(const Pass *p, int i) {
    const BlockActivations *a = &p->w->blocks[i];
    int D = p->D;
    return (Norm){a->x_in,       a->mean1,      a->rstd1, ada_at(p, a, 0),     ada_at(p, a, D),
                  dada_at(a, 0), dada_at(a, D), 6 * D,    (float)DIT_NORM_EPS, p->w->norm};
}

static Norm norm_of_mlp(const Pass *p, int i) {
    const BlockActivations *a = &p->w->blocks[i];
    int D = p->D;
    return (Norm){a->x_mid,
                  a->mean2,
                  a->rstd2,
                  ada_at(p, a, 3 * D),
                  ada_at(p, a, 4 * D),
                  dada_at(a, 3 * D),
                  dada_at(a, 4 * D),
                  6 * D,
                  (float)p->dit->config.mlp_norm_eps,
                  p->w->norm};
}

static Norm norm_of_final(const Pass *p) {
    DitWorkspace *w = p->w;
    const float *ada = w->ada + (size_t)p->first * 2 * (size_t)p->D;
    return (Norm){w->x,
                  w->mean,
                  w->rstd,
                  ada,
                  ada + p->D,
                  w->dada,
                  w->dada ? w->dada + p->D : NULL,
                  2 * p->D,
                  (float)DIT_NORM_EPS,
                  w->norm};
}

static Branch branch_of_attention(const Pass *p, int i) {
    const BlockActivations *a = &p->w->blocks[i];
    return (Branch){a->o, ada_at(p, a, 2 * p->D), dada_at(a, 2 * p->D), 6 * p->D};
}

static Branch branch_of_mlp(const Pass *p, int i) {
    const BlockActivations *a = &p->w->blocks[i];
    return (Branch){a->out, ada_at(p, a, 5 * p->D), dada_at(a, 5 * p->D), 6 * p->D};
}

static void norm_forward(const Pass *p, Norm n) {
    engine_norm_modulate_forward(p->engine, p->B, p->T, p->D, n.x, n.shift, n.scale, n.stride, n.eps, n.out, n.mean,
                                 n.rstd);
}

// w->dn is the gradient of the norm's output; that of the stream below it is added to w->dx.
static void norm_backward(const Pass *p, Norm n) {
    engine_norm_modulate_backward(p->engine, p->B, p->T, p->D, n.x, n.scale, n.stride, n.mean, n.rstd, p->w->dn,
                                  p->w->dx, true, n.dshift, n.dscale);
}

// w->dy = gradient of the branch, given that of the stream above it, w->dx.
static void branch_backward(const Pass *p, Branch b) {
    engine_residual_backward(p->engine, p->B, p->T, p->D, b.y, b.gate, b.stride, p->w->dx, p->w->dy, b.dgate);
}

// n.x = x + branch, and its norm.
static void join_forward(const Pass *p, const float *x, Branch b, Norm n) {
    engine_residual_norm_forward(p->engine, p->B, p->T, p->D, x, b.y, b.gate, b.stride, n.x, n.shift, n.scale, n.stride,
                                 n.eps, n.out, n.mean, n.rstd);
}

// norm_backward, then branch_backward. The stream's end is where its gradient begins: `last` overwrites w->dx.
static void join_backward(const Pass *p, Norm n, Branch b, bool last) {
    engine_residual_norm_backward(p->engine, p->B, p->T, p->D, n.x, n.scale, n.stride, n.mean, n.rstd, p->w->dn,
                                  p->w->dx, !last, n.dshift, n.dscale, b.y, b.gate, b.stride, p->w->dy, b.dgate);
}

const float *dit_stream(const Dit *dit, const DitWorkspace *w, int i) {
    return i + 1 < dit->config.depth ? w->blocks[i + 1].x_in : w->x;
}

static bool has_target(const Pass *p, int i) {
    return p->targets && p->targets->stream[i];
}

// Adds to w->dx, the gradient of the stream after block i, that of the stream's distance from its target there.
static void target_backward(const Pass *p, int i) {
    if (!has_target(p, i)) return;
    engine_relative_error(p->engine, p->B, (size_t)p->T * (size_t)p->D, dit_stream(p->dit, p->w, i),
                          p->targets->stream[i], p->targets->weight, p->targets->error, p->w->dx);
}

// ---- the branches of a block: modulated norm -> what the gate multiplies -------------------------------------------
// Backward, the norm is computed again: a pass over memory, where keeping it would take two more rows of D per token.

static void attention_forward(const Pass *p, int i) {
    const DitBlock *block = &p->dit->blocks[i];
    const BlockActivations *a = &p->w->blocks[i];
    QkvView qkv = qkv_view(p, a->qkv);
    linear_forward(p, &block->q, p->w->norm, a->saved_q, qkv.q);
    if (!p->dit->config.fused_qkv) {
        linear_forward(p, &block->k, p->w->norm, a->saved_k, qkv.k);
        linear_forward(p, &block->v, p->w->norm, a->saved_v, qkv.v);
    }
    engine_attention_forward(p->engine, p->B, p->T, p->D, p->dit->config.heads, qkv.stride, qkv.q, qkv.k, qkv.v,
                             a->attention, a->lse);
    linear_forward(p, &block->o, a->attention, a->saved_o, a->o);
}

// w->dy: gradient of the branch -> w->dn: of the norm.
static void attention_backward(const Pass *p, int i) {
    const DitBlock *block = &p->dit->blocks[i];
    const BlockActivations *a = &p->w->blocks[i];
    const DitWorkspace *w = p->w;
    QkvView qkv = qkv_view(p, a->qkv), dqkv = qkv_view(p, w->dqkv);
    linear_backward(p, &block->o, a->attention, a->o, a->saved_o, w->dy, w->dn, false);
    engine_attention_backward(p->engine, p->B, p->T, p->D, p->dit->config.heads, qkv.stride, qkv.q, qkv.k, qkv.v,
                              a->attention, a->lse, w->dn, dqkv.q, dqkv.k, dqkv.v);
    norm_forward(p, norm_of_attention(p, i));
    linear_backward(p, &block->q, p->w->norm, qkv.q, a->saved_q, dqkv.q, w->dn, false);
    if (!p->dit->config.fused_qkv) {
        linear_backward(p, &block->k, p->w->norm, qkv.k, a->saved_k, dqkv.k, w->dn, true);
        linear_backward(p, &block->v, p->w->norm, qkv.v, a->saved_v, dqkv.v, w->dn, true);
    }
}

static void mlp_forward(const Pass *p, int i) {
    const DitBlock *block = &p->dit->blocks[i];
    const BlockActivations *a = &p->w->blocks[i];
    const bool early = !p->w->mode.training && !block->in.base; // no slope will be asked for, nor does an adapter add
    linear_forward(p, &block->in, p->w->norm, a->saved_in, early ? through_gelu(a->in) : a->in);
    linear_forward(p, &block->out, early ? a->in : through_gelu(a->in), a->saved_out, a->out);
}

// w->dy: gradient of the branch -> w->dn: of the norm.
static void mlp_backward(const Pass *p, int i) {
    const DitBlock *block = &p->dit->blocks[i];
    const BlockActivations *a = &p->w->blocks[i];
    linear_backward(p, &block->out, through_gelu(a->in), a->out, a->saved_out, p->w->dy, p->w->dh, false);
    norm_forward(p, norm_of_mlp(p, i));
    linear_backward(p, &block->in, p->w->norm, a->in, a->saved_in, p->w->dh, p->w->dn, false);
}

// ---- a block, from the norm of attention to the MLP ----------------------------------------------------------------

static void block_forward(const Pass *p, int i) {
    attention_forward(p, i);
    join_forward(p, p->w->blocks[i].x_in, branch_of_attention(p, i), norm_of_mlp(p, i));
    mlp_forward(p, i);
}

static void block_backward(const Pass *p, int i) {
    mlp_backward(p, i);
    join_backward(p, norm_of_mlp(p, i), branch_of_attention(p, i), false);
    attention_backward(p, i);
}

// From block i to the block before it. What that one left may be gone; then it is computed again, once block i is done
// with the memory they share.
static void step_back(const Pass *p, int i) {
    if (!p->w->mode.recompute) {
        join_backward(p, norm_of_attention(p, i), branch_of_mlp(p, i - 1), false);
        return;
    }
    norm_backward(p, norm_of_attention(p, i));
    norm_forward(p, norm_of_attention(p, i - 1));
    block_forward(p, i - 1);
    branch_backward(p, branch_of_mlp(p, i - 1));
}

// ---- the model -----------------------------------------------------------------------------------------------------

static void embed_forward(const Pass *p, const float *image) {
    const DitConfig *config = &p->dit->config;
    DitWorkspace *w = p->w;
    float *x = w->blocks[0].x_in; // (N, D)
    engine_patchify(p->engine, p->B, config->channels, config->image_size, config->patch, image, w->patches);
    linear_forward_f32(p, &p->dit->x_embedder, w->patches, x);
    engine_add_position(p->engine, p->B, p->T, p->D, w->position, x);
}

static void final_forward(const Pass *p, float *output) {
    const DitConfig *config = &p->dit->config;
    DitWorkspace *w = p->w;
    if (config->classifier) {
        engine_mean_forward(p->engine, p->B, p->T, p->D, w->norm, w->features);
        linear_forward_f32(p, &p->dit->final_linear, w->features, output);
        return;
    }
    linear_forward(p, &p->dit->final_linear, w->norm, none, activation_f32(w->out_patches));
    engine_unpatchify(p->engine, p->B, dit_config_out_channels(config), config->image_size, config->patch,
                      w->out_patches, output);
}

static void final_backward(const Pass *p, const float *doutput) {
    const DitConfig *config = &p->dit->config;
    DitWorkspace *w = p->w;
    if (config->classifier) {
        linear_backward_f32(p, &p->dit->final_linear, w->features, doutput, w->dfeatures, false);
        engine_mean_backward(p->engine, p->B, p->T, p->D, w->dfeatures, w->dn.data);
        return;
    }
    float *dpatches = w->out_patches; // its values are not needed by any gradient
    engine_unpatchify_backward(p->engine, p->B, dit_config_out_channels(config), config->image_size, config->patch,
                               doutput, dpatches);
    linear_backward(p, &p->dit->final_linear, w->norm, none, none, activation_f32(dpatches), w->dn, false);
}

void dit_condition(const Dit *dit, DitWorkspace *w, const float *shared, const DitBatch *batch) {
    Pass p = dit_pass(dit, w, shared, NULL, batch);
    condition_forward(&p, batch);
}

void dit_forward_conditioned(const Dit *dit, DitWorkspace *w, const float *shared, const DitBatch *batch, int first,
                             float *output) {
    Pass p = dit_pass(dit, w, shared, NULL, batch);
    int last = dit->config.depth - 1;
    p.first = first;
    embed_forward(&p, batch->x);
    norm_forward(&p, norm_of_attention(&p, 0));
    for (int i = 0; i <= last; i++) {
        block_forward(&p, i);
        Norm next = i == last ? norm_of_final(&p) : norm_of_attention(&p, i + 1);
        join_forward(&p, w->blocks[i].x_mid, branch_of_mlp(&p, i), next);
    }
    final_forward(&p, output);
}

void dit_forward(const Dit *dit, DitWorkspace *w, const float *shared, const DitBatch *batch, float *output) {
    dit_condition(dit, w, shared, batch);
    dit_forward_conditioned(dit, w, shared, batch, 0, output);
}

void dit_backward(const Dit *dit, DitWorkspace *w, const float *shared, const DitBatch *batch, const float *doutput,
                  float *dshared) {
    Pass p = dit_pass(dit, w, shared, dshared, batch);
    int last = dit->config.depth - 1;
    final_backward(&p, doutput);
    if (has_target(&p, last)) engine_zero(p.engine, w->dx, (size_t)p.B * (size_t)p.T * (size_t)p.D);
    target_backward(&p, last);
    join_backward(&p, norm_of_final(&p), branch_of_mlp(&p, last), !has_target(&p, last));
    for (int i = last; i >= 0; i--) {
        block_backward(&p, i);
        if (i == 0) break;
        target_backward(&p, i - 1);
        step_back(&p, i);
    }
    norm_backward(&p, norm_of_attention(&p, 0));
    linear_backward_f32(&p, &dit->x_embedder, w->patches, w->dx, NULL, false);
    condition_backward(&p, batch);
}
