#include "kind/cut.h"

// The cut of one vector: the shared one, or that of a class.
typedef struct Vector {
    const Model *full;
    const float *from;
    float *to;
    bool shared;
    int n, n_kept;         // components of each factored matrix
    const double *squares; // (n_matrices, n)
    int *kept;             // [n]
} Vector;

static void copy_rows(const Vector *vector, const ParamSpec *from, const ParamSpec *to, const int *kept, size_t n) {
    const size_t at = vector->shared ? from->shared_offset : from->tailor_offset,
                 out = vector->shared ? to->shared_offset : to->tailor_offset;
    for (size_t row = 0; row < n; row++)
        engine_copy(vector->full->engine, vector->to + out + row * to->row,
                    vector->from + at + (kept ? (size_t)kept[row] : row) * from->row, to->row);
}

static KinditStatus copy_components(const Vector *vector, const Model *cut, int linear, const double *squares) {
    const Linear *from = vector->full->dit->linears[linear], *to = cut->dit->linears[linear];
    TRY(energy_choose(vector->full->ctx, squares, vector->n, vector->n_kept, vector->kept));
    for (int which = FACTORED_U; which <= FACTORED_V; which++)
        copy_rows(vector, &from->layout->specs[from->param[which]], &to->layout->specs[to->param[which]], vector->kept,
                  (size_t)vector->n_kept);
    return KINDIT_OK;
}

static KinditStatus copy_vector(const Vector *vector, const Model *cut) {
    const Dit *dit = vector->full->dit;
    for (int i = 0; i < dit->layout.n_specs; i++) { // all that is no component: biases, embeddings, label rows
        const ParamSpec *spec = &dit->layout.specs[i];
        if (spec->role != ROLE_LEARNGENE)
            copy_rows(vector, spec, &cut->dit->layout.specs[i], NULL,
                      (size_t)(vector->shared ? spec->shape[0] : spec->tailor_rows));
    }
    const double *squares = vector->squares;
    for (int i = 0; i < dit->n_linears; i++) {
        if (dit->linears[i]->kind != &linear_factored) continue;
        TRY(copy_components(vector, cut, i, squares));
        squares += vector->n;
    }
    return KINDIT_OK;
}

static KinditStatus copy_all(Model *out, const Model *full, const Energy *energy, const Cut *cut, int *kept) {
    Vector vector = {.full = full,
                     .from = full->params.shared,
                     .to = out->params.shared,
                     .shared = true,
                     .n = energy->n_learngene,
                     .n_kept = cut->n_learngene,
                     .squares = energy->learngene,
                     .kept = kept};
    TRY(copy_vector(&vector, out));
    vector.shared = false;
    vector.n = energy->n_tailor;
    vector.n_kept = cut->n_tailor;
    for (int c = 0; c < cut->n_classes; c++) {
        vector.from = full->params.tailor[c];
        vector.to = out->params.tailor[c];
        vector.squares = energy->tailor + (size_t)c * (size_t)energy->n_matrices * (size_t)energy->n_tailor;
        TRY(copy_vector(&vector, out));
    }
    return KINDIT_OK;
}

KinditStatus cut_create(Model **out, const Model *full, const Energy *energy, const Cut *cut) {
    DitConfig config = full->dit->config;
    const int most = energy->n_learngene > energy->n_tailor ? energy->n_learngene : energy->n_tailor;
    int *kept;
    if (config.adapter.kind != ADAPTER_NONE)
        return context_fail(
            full->ctx, KINDIT_ERROR_ARGUMENT,
            "the model has an adapter (%s) for all of its learngene: merge it first, with `kindit merge`",
            adapter_name(config.adapter.kind));
    config.n_classes = cut->n_classes;
    config.n_learngene = cut->n_learngene;
    config.n_tailor = cut->n_tailor;
    TRY(model_create_blank(out, full->ctx, full->engine, &config, full->classes, full->config, 0));
    KinditStatus status = memory_alloc(full->ctx, (size_t)most, sizeof *kept, &kept);
    if (!status) status = copy_all(*out, full, energy, cut, kept);
    memory_free(&kept);
    if (status) model_close(out);
    return status;
}
