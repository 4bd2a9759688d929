#include "model/merge.h"

#include <stdio.h>
#include <string.h>

// The vectors of the model merged, and of the dense one made of it, in host memory.
typedef struct Merge {
    KinditContext *ctx;
    const Dit *from, *to;
    bool stripped;          // without adapters
    float *shared, *tailor; // tailor: NULL for the learngene alone
    float *merged;
    double *W; // of the largest matrix
} Merge;

static const ParamSpec *find_spec(const ParamLayout *layout, const char *linear, const char *what) {
    char name[PARAM_NAME_SIZE + 16];
    snprintf(name, sizeof name, "%s.%s", linear, what);
    return params_find(layout, name); // every linear has both a weight (when dense) and a bias
}

// Rows first_row .. of the dense layer `to` become the merged layer `from`.
static KinditStatus merge_linear(const Merge *m, const Linear *from, const Linear *to, int first_row) {
    const ParamSpec *weight = find_spec(&m->to->layout, to->name, "weight");
    const ParamSpec *bias = find_spec(&m->to->layout, to->name, "bias");
    float *W = m->merged + weight->shared_offset + (size_t)first_row * (size_t)to->m1;
    const LinearKind *kind = m->stripped && from->base ? from->base : from->kind;
    TRY(kind->merge(from, m->ctx, m->shared, m->tailor, m->W));
    for (size_t i = 0; i < (size_t)from->m1 * (size_t)from->m2; i++) W[i] = (float)m->W[i];
    memcpy(m->merged + bias->shared_offset + first_row,
           m->shared + find_spec(&m->from->layout, from->name, "bias")->shared_offset,
           (size_t)from->m2 * sizeof *m->merged);
    return KINDIT_OK;
}

static KinditStatus merge_block(const Merge *m, const DitBlock *from, const DitBlock *to) {
    int D = m->from->config.width;
    TRY(merge_linear(m, &from->adaln, &to->adaln, 0));
    TRY(merge_linear(m, &from->q, &to->q, 0)); // the fused one where there is one
    if (!m->from->config.fused_qkv) {
        TRY(merge_linear(m, &from->k, &to->q, D));
        TRY(merge_linear(m, &from->v, &to->q, 2 * D));
    }
    TRY(merge_linear(m, &from->o, &to->o, 0));
    TRY(merge_linear(m, &from->in, &to->in, 0));
    return merge_linear(m, &from->out, &to->out, 0);
}

// Classes first .. first + n - 1 of the model, then the null label.
static void merge_labels(const Merge *m, const Model *model, int first, int n) {
    const ParamSpec *from = &m->from->layout.specs[m->from->label], *to = &m->to->layout.specs[m->to->label];
    const size_t row = to->row, null = m->from->config.factored ? 0 : (size_t)m->from->config.n_classes;
    float *rows = m->merged + to->shared_offset;
    for (int c = 0; c < n; c++) {
        if (m->from->config.factored)
            engine_download(model->engine, rows + (size_t)c * row,
                            model->params.tailor[first + c] + from->tailor_offset, row);
        else
            memcpy(rows + (size_t)c * row, m->shared + from->shared_offset + (size_t)(first + c) * row,
                   row * sizeof *rows);
    }
    memcpy(rows + (size_t)n * row, m->shared + from->shared_offset + null * row, row * sizeof *rows);
}

static KinditStatus merge_layers(const Merge *m) {
    TRY(merge_linear(m, &m->from->x_embedder, &m->to->x_embedder, 0));
    TRY(merge_linear(m, &m->from->t_in, &m->to->t_in, 0));
    TRY(merge_linear(m, &m->from->t_out, &m->to->t_out, 0));
    for (int i = 0; i < m->from->config.depth; i++) TRY(merge_block(m, &m->from->blocks[i], &m->to->blocks[i]));
    TRY(merge_linear(m, &m->from->final_adaln, &m->to->final_adaln, 0));
    return merge_linear(m, &m->from->final_linear, &m->to->final_linear, 0);
}

static size_t largest_matrix(const Dit *dit) {
    size_t most = 0;
    for (int i = 0; i < dit->n_linears; i++) {
        const size_t n = (size_t)dit->linears[i]->m1 * (size_t)dit->linears[i]->m2;
        if (n > most) most = n;
    }
    return most;
}

static KinditStatus merge_vectors(Merge *m, const Model *model, Model *dense, int first, int n) {
    const ParamLayout *layout = &m->from->layout;
    Engine *engine = model->engine;
    TRY(memory_alloc(m->ctx, layout->n_shared, sizeof *m->shared, &m->shared));
    TRY(memory_alloc(m->ctx, m->to->layout.n_shared, sizeof *m->merged, &m->merged));
    TRY(memory_alloc(m->ctx, largest_matrix(m->from), sizeof *m->W, &m->W));
    engine_download(engine, m->shared, model->params.shared, layout->n_shared);
    if (m->from->config.n_tailor > 0 && n > 0) {
        TRY(memory_alloc(m->ctx, layout->n_tailor, sizeof *m->tailor, &m->tailor));
        engine_download(engine, m->tailor, model->params.tailor[first], layout->n_tailor);
    }
    TRY(merge_layers(m));
    merge_labels(m, model, first, n);
    engine_upload(engine, dense->params.shared, m->merged, m->to->layout.n_shared);
    return KINDIT_OK;
}

// Classes first .. first + n - 1; n is 1 at most where tailors have components.
static KinditStatus merge(Model **out, const Model *model, int first, int n, bool stripped) {
    DitConfig config = model->dit->config;
    config.factored = config.factor_adaln = config.fused_qkv = false;
    config.n_learngene = config.n_tailor = 0;
    config.adapter = (AdapterConfig){0};
    config.n_classes = n;
    TRY(model_create_blank(out, model->ctx, model->engine, &config, model->classes + first, model->config, 0));
    Merge m = {.ctx = model->ctx, .from = model->dit, .to = (*out)->dit, .stripped = stripped};
    KinditStatus status = merge_vectors(&m, model, *out, first, n);
    memory_free(&m.shared);
    memory_free(&m.tailor);
    memory_free(&m.merged);
    memory_free(&m.W);
    if (status) model_close(out);
    return status;
}

KinditStatus model_merge(Model **out, const Model *model, int class_index) {
    *out = NULL;
    if (!model->dit->config.factored)
        return context_fail(model->ctx, KINDIT_ERROR_ARGUMENT, "a dense model has no tailors to merge");
    return merge(out, model, class_index < 0 ? 0 : class_index, class_index >= 0, false);
}

static KinditStatus merge_all(Model **out, const Model *model, bool stripped) {
    const DitConfig *config = &model->dit->config;
    *out = NULL;
    if (config->adapter.kind == ADAPTER_NONE)
        return context_fail(model->ctx, KINDIT_ERROR_ARGUMENT, "the model has no adapter to merge");
    return merge(out, model, 0, config->n_classes, stripped);
}

KinditStatus model_merge_adapter(Model **out, const Model *model) {
    return merge_all(out, model, false);
}

KinditStatus model_strip_adapter(Model **out, const Model *model) {
    return merge_all(out, model, true);
}
