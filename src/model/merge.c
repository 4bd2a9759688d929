#include "model/merge.h"

#include <stdio.h>
#include <string.h>

// The vectors of the model merged, and of the dense one made of it, in host memory.
typedef struct Merge {
    KinditContext *ctx;
    const Dit *from, *to;
    float *shared, *tailor; // tailor: NULL for the learngene alone
    float *merged;
} Merge;

static const ParamSpec *find_spec(const ParamLayout *layout, const char *linear, const char *what) {
    char name[PARAM_NAME_SIZE + 16];
    snprintf(name, sizeof name, "%s.%s", linear, what);
    return params_find(layout, name); // every linear has both a weight (when dense) and a bias
}

// Rows first_row .. of the dense layer `to` become the merged layer `from`.
static void merge_linear(const Merge *m, const Linear *from, const Linear *to, int first_row) {
    const ParamSpec *weight = find_spec(&m->to->layout, to->name, "weight");
    const ParamSpec *bias = find_spec(&m->to->layout, to->name, "bias");
    size_t offset = (size_t)first_row * (size_t)to->m1;
    from->kind->merge(from, m->shared, m->tailor, m->merged + weight->shared_offset + offset);
    memcpy(m->merged + bias->shared_offset + first_row,
           m->shared + find_spec(&m->from->layout, from->name, "bias")->shared_offset,
           (size_t)from->m2 * sizeof *m->merged);
}

static void merge_block(const Merge *m, const DitBlock *from, const DitBlock *to) {
    int D = m->from->config.width;
    merge_linear(m, &from->adaln, &to->adaln, 0);
    merge_linear(m, &from->q, &to->q, 0); // the fused one where there is one
    if (!m->from->config.fused_qkv) {
        merge_linear(m, &from->k, &to->q, D);
        merge_linear(m, &from->v, &to->q, 2 * D);
    }
    merge_linear(m, &from->o, &to->o, 0);
    merge_linear(m, &from->in, &to->in, 0);
    merge_linear(m, &from->out, &to->out, 0);
}

// The class's row, if there is a class, then the null label's.
static void merge_labels(const Merge *m) {
    const ParamSpec *from = &m->from->layout.specs[m->from->label], *to = &m->to->layout.specs[m->to->label];
    float *row = m->merged + to->shared_offset;
    size_t size = to->row * sizeof *row;
    if (m->tailor) {
        memcpy(row, m->tailor + from->tailor_offset, size);
        row += to->row;
    }
    memcpy(row, m->shared + from->shared_offset, size);
}

static KinditStatus merge_vectors(Merge *m, const Model *model, Model *dense, int class_index) {
    const ParamLayout *layout = &m->from->layout;
    Engine *engine = model->engine;
    TRY(memory_alloc(m->ctx, layout->n_shared, sizeof *m->shared, &m->shared));
    TRY(memory_alloc(m->ctx, m->to->layout.n_shared, sizeof *m->merged, &m->merged));
    engine_download(engine, m->shared, model->params.shared, layout->n_shared);
    if (class_index >= 0) {
        TRY(memory_alloc(m->ctx, layout->n_tailor, sizeof *m->tailor, &m->tailor));
        engine_download(engine, m->tailor, model->params.tailor[class_index], layout->n_tailor);
    }
    merge_linear(m, &m->from->x_embedder, &m->to->x_embedder, 0);
    merge_linear(m, &m->from->t_in, &m->to->t_in, 0);
    merge_linear(m, &m->from->t_out, &m->to->t_out, 0);
    merge_labels(m);
    for (int i = 0; i < m->from->config.depth; i++) merge_block(m, &m->from->blocks[i], &m->to->blocks[i]);
    merge_linear(m, &m->from->final_adaln, &m->to->final_adaln, 0);
    merge_linear(m, &m->from->final_linear, &m->to->final_linear, 0);
    engine_upload(engine, dense->params.shared, m->merged, m->to->layout.n_shared);
    return KINDIT_OK;
}

KinditStatus model_merge(Model **out, const Model *model, int class_index) {
    DitConfig config = model->dit->config;
    *out = NULL;
    if (!config.factored)
        return context_fail(model->ctx, KINDIT_ERROR_ARGUMENT, "a dense model has no tailors to merge");
    config.factored = config.factor_adaln = false;
    config.n_learngene = config.n_tailor = 0;
    config.n_classes = class_index >= 0;
    TRY(model_create_blank(out, model->ctx, model->engine, &config,
                           class_index >= 0 ? &model->classes[class_index] : NULL, model->config, 0));
    Merge merge = {.ctx = model->ctx, .from = model->dit, .to = (*out)->dit};
    KinditStatus status = merge_vectors(&merge, model, *out, class_index);
    memory_free(&merge.shared);
    memory_free(&merge.tailor);
    memory_free(&merge.merged);
    if (status) model_close(out);
    return status;
}
