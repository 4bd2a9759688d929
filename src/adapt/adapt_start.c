#include "adapt/adapt_start.h"

#include <math.h>

#include "engine/svd.h"
#include "kind/factorize.h"
#include "model/model_copy.h"

// Fresh tailors add nothing at first, as LoRA's B: beside a learngene that has learned, they would be noise.
static void silence_tailors(Model *model) {
    const Dit *dit = model->dit;
    for (int i = 0; i < dit->n_linears; i++) {
        const Linear *linear = dit->linears[i];
        if (linear->kind != &linear_factored) continue;
        const ParamSpec *v = &dit->layout.specs[linear->param[FACTORED_V]];
        for (int c = 0; c < model->params.n_classes; c++)
            engine_zero(model->engine, model->params.tailor[c] + v->tailor_offset, (size_t)v->tailor_rows * v->row);
    }
}

// The base was opened with just the classes to start from.
static KinditStatus start_tailors(const Model *base, Model *model) {
    const int n = base->params.n_classes;
    const size_t size = model->dit->layout.n_tailor;
    if (n == 0) silence_tailors(model);
    if (n > 0 && base->dit->layout.n_tailor != size)
        return context_fail(model->ctx, KINDIT_ERROR_ARGUMENT,
                            "the base's tailors are no longer of the new ones' size");
    for (int c = 0; c < model->params.n_classes && n > 0; c++)
        engine_copy(model->engine, model->params.tailor[c], base->params.tailor[c % n], size);
    return KINDIT_OK;
}

// ---- singular vectors ----------------------------------------------------------------------------------------------

// Of one layer, components chosen[0], chosen[1], ... of `all` become those of the model's learngene.
static void copy_components(const Linear *from, const Model *all, const Linear *to, Model *model,
                            const uint32_t *chosen) {
    for (int which = FACTORED_U; which <= FACTORED_V; which++) {
        const ParamSpec *source = &all->dit->layout.specs[from->param[which]],
                        *own = &model->dit->layout.specs[to->param[which]];
        for (int k = 0; k < to->n_learngene; k++)
            engine_copy(model->engine, model->params.shared + own->shared_offset + (size_t)k * own->row,
                        all->params.shared + source->shared_offset + (size_t)chosen[k] * own->row, own->row);
    }
}

static KinditStatus choose_components(const Model *all, Model *model, uint64_t seed) {
    const int rank = all->dit->config.n_learngene;
    uint32_t *order;
    TRY(memory_alloc(model->ctx, (size_t)rank, sizeof *order, &order));
    for (int i = 0; i < model->dit->n_linears; i++) {
        const Linear *linear = model->dit->linears[i];
        if (linear->base != &linear_factored) continue;
        rng_permute((RngKey){.seed = seed, .sample = (uint64_t)i, .purpose = RNG_CHOICE}, order, (uint32_t)rank);
        copy_components(all->dit->linears[i], all, linear, model, order);
    }
    memory_free(&order);
    return KINDIT_OK;
}

// The base with all components first; what is no component comes from it too.
static KinditStatus start_factored(const AdaptMethod *method, const Model *base, Model *model, uint64_t seed) {
    Model *all;
    double kept;
    TRY(factorize_create(&all, base, base->dit->config.width, 0, &kept));
    KinditStatus status;
    if (method->start == ADAPT_ALL_VECTORS) {
        status = model_copy_shared(model, all);
    } else {
        status = choose_components(all, model, seed);
        for (int i = 0; i < all->dit->layout.n_specs && !status; i++) {
            const ParamSpec *from = &all->dit->layout.specs[i];
            if (from->role != ROLE_LEARNGENE) status = model_copy_tensor(model, all, from);
        }
    }
    model_close(&all);
    return status;
}

// ---- PiSSA ---------------------------------------------------------------------------------------------------------

typedef struct Decomposition {
    double *a, *left, *s, *right;
} Decomposition;

static KinditStatus decomposition_alloc(Decomposition *d, KinditContext *ctx, const DitConfig *config) {
    const size_t D = (size_t)config->width, H = D * (size_t)config->mlp_ratio;
    TRY(memory_alloc(ctx, D * H, sizeof *d->a, &d->a));
    TRY(memory_alloc(ctx, D * H, sizeof *d->left, &d->left));
    TRY(memory_alloc(ctx, D, sizeof *d->s, &d->s));
    return memory_alloc(ctx, D * H, sizeof *d->right, &d->right);
}

static void decomposition_free(Decomposition *d) {
    memory_free(&d->a);
    memory_free(&d->left);
    memory_free(&d->s);
    memory_free(&d->right);
}

// W = sum of s_k l_k r_k^T: with B_k = sqrt(s_k / scale) l_k and A_k = sqrt(s_k / scale) r_k of the first, scale B^T A
// is their sum, which W then lacks (Meng et al. 2024; peft's pissa_init).
static KinditStatus take_principal(const Linear *linear, KinditContext *ctx, Decomposition *d, float *shared) {
    const ParamSpec *specs = linear->layout->specs;
    float *W = shared + specs[linear->param[DENSE_WEIGHT]].shared_offset,
          *A = shared + specs[linear->param[LORA_A]].shared_offset,
          *B = shared + specs[linear->param[LORA_B]].shared_offset;
    const float *scale = shared + specs[linear->param[LORA_S]].shared_offset;
    const size_t m1 = (size_t)linear->m1, m2 = (size_t)linear->m2, n = m1 * m2, r = (size_t)linear->adapter->rank;
    for (size_t i = 0; i < n; i++) d->a[i] = W[i];
    KinditStatus status = svd_compute(ctx, linear->m2, linear->m1, d->a, d->left, d->s, d->right);
    if (status) return context_prefix(ctx, status, linear->name);
    for (size_t k = 0; k < r; k++) {
        const double root = sqrt(d->s[k] / scale[k]);
        for (size_t i = 0; i < m1; i++) A[k * m1 + i] = (float)(root * d->right[k * m1 + i]);
        for (size_t j = 0; j < m2; j++) B[k * m2 + j] = (float)(root * d->left[k * m2 + j]);
    }
    for (size_t i = 0; i < n; i++) d->a[i] = 0;
    linear_add_components(linear, (int)r, A, scale, B, d->a); // as rounded
    for (size_t i = 0; i < n; i++) W[i] = (float)(W[i] - d->a[i]);
    return KINDIT_OK;
}

// ---- the adapters, in host memory ----------------------------------------------------------------------------------

static KinditStatus start_adapters(const AdaptMethod *method, Model *model, uint64_t seed) {
    const Dit *dit = model->dit;
    float *shared;
    Decomposition d = {0};
    TRY(memory_alloc(model->ctx, dit->layout.n_shared, sizeof *shared, &shared));
    engine_download(model->engine, shared, model->params.shared, dit->layout.n_shared);
    dit_init_adapters(dit, seed, shared);
    KinditStatus status = KINDIT_OK;
    if (method->start == ADAPT_PRINCIPAL) status = decomposition_alloc(&d, model->ctx, &dit->config);
    for (int i = 0; i < dit->n_linears && method->start == ADAPT_PRINCIPAL && !status; i++) {
        if (context_cancelled(model->ctx))
            status = context_fail(model->ctx, KINDIT_CANCELLED, "cancelled before the first step");
        else if (dit->linears[i]->base)
            status = take_principal(dit->linears[i], model->ctx, &d, shared);
    }
    if (!status) engine_upload(model->engine, model->params.shared, shared, dit->layout.n_shared);
    decomposition_free(&d);
    memory_free(&shared);
    return status;
}

KinditStatus adapt_start(const AdaptMethod *method, const Model *base, Model *model, uint64_t seed) {
    if (method->start == ADAPT_ALL_VECTORS || method->start == ADAPT_RANDOM_VECTORS)
        TRY(start_factored(method, base, model, seed));
    else
        TRY(model_copy_shared(model, base));
    if (method->adapter == ADAPTER_NONE) return start_tailors(base, model);
    return start_adapters(method, model, seed);
}
