#include "kind/factorize.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "engine/svd.h"

// The vectors of a model in host memory.
typedef struct Host {
    float *shared, *tailors; // tailors: (n_classes, n_tailor floats)
} Host;

typedef struct Factorize {
    const Model *model;
    const Dit *from, *to;
    Host source, result;
    double *W, *matrix;       // (m2, m1) of the largest matrix: the source's, and what is decomposed
    double *left, *s, *right; // its decomposition
    double kept;              // sum over the matrices so far
} Factorize;

static float *tailor_of(const Host *host, const Dit *dit, int c) {
    return host->tailors + (size_t)c * dit->layout.n_tailor;
}

// ---- what is no component ------------------------------------------------------------------------------------------

// Where the layer of that name lies in the source: itself, or q, k or v as a third of the fused one.
static const Linear *find_source(const Factorize *f, const Linear *linear, int *first_row) {
    static const char parts[] = "qkv";
    const size_t length = strlen(linear->name);
    char fused[PARAM_NAME_SIZE + 2];
    *first_row = 0;
    snprintf(fused, sizeof fused, "%.*sqkv", (int)length - 1, linear->name);
    for (int i = 0; i < f->from->n_linears; i++) {
        const Linear *from = f->from->linears[i];
        if (strcmp(from->name, linear->name) == 0) return from;
        if (strcmp(from->name, fused) != 0) continue;
        *first_row = (int)(strchr(parts, linear->name[length - 1]) - parts) * linear->m2;
        return from;
    }
    return NULL; // never: both are DiTs of one size
}

static void copy_bias(const Factorize *f, const Linear *linear) {
    int first_row;
    const Linear *from = find_source(f, linear, &first_row);
    const int bias = from->kind == &linear_dense ? DENSE_BIAS : FACTORED_BIAS;
    memcpy(f->result.shared + f->to->layout.specs[linear->param[FACTORED_BIAS]].shared_offset,
           f->source.shared + f->from->layout.specs[from->param[bias]].shared_offset + first_row,
           (size_t)linear->m2 * sizeof(float));
}

// A dense model's label table is shared; a class's row becomes its tailor's.
static void copy_labels(const Factorize *f) {
    const ParamSpec *from = &f->from->layout.specs[f->from->label], *to = &f->to->layout.specs[f->to->label];
    const size_t n = to->row, n_classes = (size_t)f->to->config.n_classes;
    const float *rows = f->source.shared + from->shared_offset;
    if (f->from->config.factored) return; // with the tailors
    for (size_t c = 0; c < n_classes; c++)
        memcpy(tailor_of(&f->result, f->to, (int)c) + to->tailor_offset, rows + c * n, n * sizeof(float));
    memcpy(f->result.shared + to->shared_offset, rows + n_classes * n, n * sizeof(float));
}

static void copy_others(const Factorize *f) {
    for (int i = 0; i < f->to->layout.n_specs; i++) {
        const ParamSpec *to = &f->to->layout.specs[i], *from = params_find(&f->from->layout, to->name);
        if (to->role == ROLE_LEARNGENE || !from || (i == f->to->label && !f->from->config.factored)) continue;
        memcpy(f->result.shared + to->shared_offset, f->source.shared + from->shared_offset,
               params_spec_size(to, 0) * sizeof(float));
    }
    for (int i = 0; i < f->to->n_linears; i++)
        if (f->to->linears[i]->kind == &linear_factored) copy_bias(f, f->to->linears[i]);
    copy_labels(f);
    if (f->from->config.factored) // tailors stay as they are: their layout is the same
        memcpy(f->result.tailors, f->source.tailors,
               (size_t)f->to->config.n_classes * f->to->layout.n_tailor * sizeof(float));
}

// ---- components ----------------------------------------------------------------------------------------------------

// Components first .. first + n - 1 of the decomposition, rounded, become those of a vector.
static void store(const Factorize *f, const Linear *linear, int first, int n, bool shared, float *vector) {
    const ParamSpec *specs = f->to->layout.specs, *u = &specs[linear->param[FACTORED_U]],
                    *s = &specs[linear->param[FACTORED_S]], *v = &specs[linear->param[FACTORED_V]];
    const size_t m1 = (size_t)linear->m1, m2 = (size_t)linear->m2, at = (size_t)first;
    float *U = vector + (shared ? u->shared_offset : u->tailor_offset),
          *S = vector + (shared ? s->shared_offset : s->tailor_offset),
          *V = vector + (shared ? v->shared_offset : v->tailor_offset);
    for (size_t i = 0; i < (size_t)n * m1; i++) U[i] = (float)f->right[at * m1 + i];
    for (size_t i = 0; i < (size_t)n; i++) S[i] = (float)f->s[at + i];
    for (size_t i = 0; i < (size_t)n * m2; i++) V[i] = (float)f->left[at * m2 + i];
}

static double kept_share(const double *s, int n_kept, int n) {
    double kept = 0, all = 0;
    for (int k = 0; k < n; k++) {
        all += s[k] * s[k];
        if (k < n_kept) kept += s[k] * s[k];
    }
    return all > 0 ? kept / all : 1;
}

static KinditStatus factorize_linear(Factorize *f, const Linear *linear) {
    const int n_g = linear->n_learngene, n_t = linear->n_tailor,
              rank = linear->m1 < linear->m2 ? linear->m1 : linear->m2;
    const size_t n = (size_t)linear->m1 * (size_t)linear->m2;
    int first_row;
    const Linear *from = find_source(f, linear, &first_row);
    TRY(from->kind->merge(from, f->model->ctx, f->source.shared, NULL, f->W));
    for (size_t i = 0; i < n; i++) f->matrix[i] = f->W[(size_t)first_row * (size_t)linear->m1 + i];
    KinditStatus status = svd_compute(f->model->ctx, linear->m2, linear->m1, f->matrix, f->left, f->s, f->right);
    if (status) return context_prefix(f->model->ctx, status, linear->name);
    f->kept += kept_share(f->s, n_g, rank);
    store(f, linear, 0, n_g < rank ? n_g : rank, true, f->result.shared); // beyond the rank: zeros, as made
    for (int c = 0; c < f->to->config.n_classes && !f->from->config.factored; c++)
        store(f, linear, n_g + c * n_t, n_t, false, tailor_of(&f->result, f->to, c));
    return KINDIT_OK;
}

static KinditStatus factorize_all(Factorize *f, double *kept) {
    KinditContext *ctx = f->model->ctx;
    const double began = clock_seconds();
    int n_matrices = 0, done = 0;
    for (int i = 0; i < f->to->n_linears; i++) n_matrices += f->to->linears[i]->kind == &linear_factored;
    for (int i = 0; i < f->to->n_linears; i++) {
        const Linear *linear = f->to->linears[i];
        if (linear->kind != &linear_factored) continue;
        if (context_cancelled(ctx)) return context_fail(ctx, KINDIT_CANCELLED, "cancelled: no model was written");
        TRY(factorize_linear(f, linear));
        KinditProgress progress = {.task = "factorize",
                                   .done = ++done,
                                   .total = n_matrices,
                                   .seconds = clock_seconds() - began,
                                   .text = linear->name};
        context_progress(ctx, &progress);
    }
    *kept = f->kept / n_matrices;
    return KINDIT_OK;
}

// ---- the model -----------------------------------------------------------------------------------------------------

static KinditStatus host_alloc(Host *host, KinditContext *ctx, const Dit *dit) {
    TRY(memory_alloc(ctx, dit->layout.n_shared, sizeof(float), &host->shared));
    return memory_alloc(ctx, (size_t)dit->config.n_classes, dit->layout.n_tailor * sizeof(float), &host->tailors);
}

static KinditStatus host_download(Host *host, const Model *model) {
    const ParamLayout *layout = &model->dit->layout;
    TRY(host_alloc(host, model->ctx, model->dit));
    engine_download(model->engine, host->shared, model->params.shared, layout->n_shared);
    for (int c = 0; c < model->params.n_classes; c++)
        engine_download(model->engine, tailor_of(host, model->dit, c), model->params.tailor[c], layout->n_tailor);
    return KINDIT_OK;
}

static void host_upload(const Host *host, Model *model) {
    const ParamLayout *layout = &model->dit->layout;
    engine_upload(model->engine, model->params.shared, host->shared, layout->n_shared);
    for (int c = 0; c < model->params.n_classes; c++)
        engine_upload(model->engine, model->params.tailor[c], tailor_of(host, model->dit, c), layout->n_tailor);
}

static KinditStatus work(Factorize *f, Model *out, double *kept) {
    KinditContext *ctx = out->ctx;
    const size_t D = (size_t)out->dit->config.width, H = D * (size_t)out->dit->config.mlp_ratio,
                 largest = D * (H > 6 * D ? H : 6 * D), longest = H > 6 * D ? H : 6 * D;
    TRY(host_download(&f->source, f->model));
    TRY(host_alloc(&f->result, ctx, out->dit));
    TRY(memory_alloc(ctx, largest, sizeof *f->W, &f->W));
    TRY(memory_alloc(ctx, largest, sizeof *f->matrix, &f->matrix));
    TRY(memory_alloc(ctx, D * longest, sizeof *f->left, &f->left)); // of rank D at most
    TRY(memory_alloc(ctx, D, sizeof *f->s, &f->s));
    TRY(memory_alloc(ctx, D * longest, sizeof *f->right, &f->right));
    copy_others(f);
    TRY(factorize_all(f, kept));
    host_upload(&f->result, out);
    return KINDIT_OK;
}

static void factorize_close(Factorize *f) {
    Host *const hosts[] = {&f->source, &f->result};
    for (int i = 0; i < 2; i++) {
        memory_free(&hosts[i]->shared);
        memory_free(&hosts[i]->tailors);
    }
    memory_free(&f->W);
    memory_free(&f->matrix);
    memory_free(&f->left);
    memory_free(&f->s);
    memory_free(&f->right);
}

static KinditStatus check(const Model *model, int n_learngene, int n_tailor) {
    const DitConfig *config = &model->dit->config;
    if (config->adapter.kind != ADAPTER_NONE)
        return context_fail(model->ctx, KINDIT_ERROR_ARGUMENT,
                            "the model has an adapter (%s): merge it first, with `kindit merge`",
                            adapter_name(config->adapter.kind));
    if (config->factored) {
        if (n_learngene <= config->n_learngene && n_tailor == config->n_tailor) return KINDIT_OK;
        return context_fail(model->ctx, KINDIT_ERROR_ARGUMENT,
                            "the model has %d components of the learngene and %d of each tailor: expected at most as "
                            "many of the first (found %d) and as many of the second (found %d)",
                            config->n_learngene, config->n_tailor, n_learngene, n_tailor);
    }
    const int64_t all = n_learngene + (int64_t)config->n_classes * n_tailor;
    if (n_tailor >= 0 && all <= config->width) return KINDIT_OK;
    return context_fail(model->ctx, KINDIT_ERROR_ARGUMENT,
                        "%d components of the learngene and %d tailors of %d are %lld: a model of width %d has %d",
                        n_learngene, config->n_classes, n_tailor, (long long)all, config->width, config->width);
}

KinditStatus factorize_create(Model **out, const Model *model, int n_learngene, int n_tailor, double *kept) {
    DitConfig config = model->dit->config;
    *out = NULL;
    TRY(check(model, n_learngene, n_tailor));
    config.fused_qkv = config.factored && config.fused_qkv; // a dense model's is DiT's way of storing q, k and v
    config.factored = true;
    config.n_learngene = n_learngene;
    config.n_tailor = n_tailor;
    TRY(model_create_blank(out, model->ctx, model->engine, &config, model->classes, model->config, 0));
    Factorize f = {.model = model, .from = model->dit, .to = (*out)->dit};
    KinditStatus status = work(&f, *out, kept);
    factorize_close(&f);
    if (status) model_close(out);
    return status;
}
