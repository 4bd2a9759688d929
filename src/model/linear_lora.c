// Components beside a frozen layer, the same for every class:
//
//     y = base(x) + ((x A^T) * s) B          A (r, m1)   s (r)   B (r, m2), one row of each a component
//
// LoRA (Hu et al. 2021; peft's LoraLayer): s = alpha / r in every place and never trained (its role is that of the
// base's), A uniform as peft draws it (kaiming_uniform_, a = sqrt(5)), B zero. peft stores B as (m2, r). PiSSA is this
// kind with another start (adapt/).
//
// Beside a dense base the rows are multiplied by the sum of both matrices, which is formed once a pass; beside a
// factored one they go through the components after the base's own.
//
// Components that train s too are KIND's tailors without their gate (ablation #3 of Table 4): they start as tailors
// that adapt do, U and s as in linear_factored.c, all r of them open beside the N_G of the learngene, and V zero.
#include <math.h>

#include "model/linear_lora.h"

static bool lora_is_scaled(const Linear *linear) { // by a constant
    return linear->adapter->kind != ADAPTER_COMPONENTS;
}

KinditStatus lora_declare(Linear *linear, KinditContext *ctx, ParamLayout *layout) {
    const int64_t r = linear->adapter->rank;
    TRY(linear->base->declare(linear, ctx, layout));
    TRY(adapter_declare(linear, ctx, layout, LORA_A, "lora_A", ROLE_ADAPTER, 2, (int64_t[]){r, linear->m1}));
    TRY(adapter_declare(linear, ctx, layout, LORA_S, "lora_s", lora_is_scaled(linear) ? ROLE_SHARED : ROLE_ADAPTER, 1,
                        (int64_t[]){r}));
    return adapter_declare(linear, ctx, layout, LORA_B, "lora_B", ROLE_ADAPTER, 2, (int64_t[]){r, linear->m2});
}

void lora_init(const Linear *linear, uint64_t seed, int class_index, float *vector) {
    const AdapterConfig *adapter = linear->adapter;
    const double m1 = linear->m1, m2 = linear->m2;
    double s = adapter->alpha / adapter->rank, bound = 1 / sqrt(m1);
    if (class_index >= 0) return;
    if (!lora_is_scaled(linear)) {
        s = sqrt(2 * m1 * m2 / ((m1 + linear->fan_out) * (linear->n_learngene + adapter->rank)));
        bound = sqrt(3 / m1); // of a uniform number with the deviation of theirs
    }
    adapter_init_uniform(linear, LORA_A, seed, bound, vector);
    float *scale = vector + linear->layout->specs[linear->param[LORA_S]].shared_offset;
    for (int k = 0; k < adapter->rank; k++) scale[k] = (float)s;
}

// ---- beside a dense base -------------------------------------------------------------------------------------------

static bool is_formed(const Linear *linear) {
    return linear->base == &linear_dense;
}

LoraShape lora_shape(const Linear *linear) {
    return (LoraShape){linear->m1, linear->m2, linear->adapter->rank};
}

LoraFactors lora_factors(const Linear *linear, const float *shared) {
    return (LoraFactors){.A = adapter_tensor(linear, LORA_A, shared),
                         .s = adapter_tensor(linear, LORA_S, shared),
                         .B = adapter_tensor(linear, LORA_B, shared)};
}

LoraGradients lora_gradients(const Linear *linear, float *dshared) {
    return (LoraGradients){.A = adapter_gradient(linear, LORA_A, dshared),
                           .B = adapter_gradient(linear, LORA_B, dshared)};
}

size_t lora_work(const Linear *linear, int n_samples) { // M
    (void)n_samples;
    return is_formed(linear) ? ((size_t)linear->m1 * (size_t)linear->m2 + 15) / 16 * 16 : 0;
}

size_t lora_formed_scratch(const Linear *linear, int n_samples) {
    const LoraShape shape = lora_shape(linear);
    const size_t base = linear->base->scratch(linear, n_samples, 0), form = engine_lora_scratch(&shape),
                 backward = engine_lora_backward_scratch(&shape, n_samples * linear->rows);
    const size_t own = form > backward ? form : backward;
    return base > own ? base : own;
}

void lora_formed_forward(const Linear *linear, Engine *engine, int n, const float *shared, const LoraFactors *f,
                         float *norms, Activation x, float *work, Activation y, EnginePack *pack) {
    const LoraShape shape = lora_shape(linear);
    if (!pack || !pack->ready) // else the pack holds the matrix
        engine_lora_form(engine, &shape, f, adapter_tensor(linear, DENSE_WEIGHT, shared), norms, work);
    engine_linear_forward(engine, n, linear->m1, linear->m2, x, work, adapter_tensor(linear, DENSE_BIAS, shared), y,
                          pack);
}

void lora_formed_backward(const Linear *linear, Engine *engine, int n, const float *shared, const LoraFactors *f,
                          float *norms, Activation x, float *work, Activation dy, Activation dx, bool accumulate,
                          const LoraGradients *d) {
    const LoraShape shape = lora_shape(linear);
    if (dx.data || norms)
        engine_lora_form(engine, &shape, f, adapter_tensor(linear, DENSE_WEIGHT, shared), norms, work);
    engine_linear_backward(engine, n, linear->m1, linear->m2, x, work, dy, dx, accumulate, NULL, NULL);
    if (d->A) engine_lora_backward(engine, &shape, n, f, norms, x, dy, d);
}

// ---- beside a factored base ----------------------------------------------------------------------------------------

static GatedShape chain_shape(const Linear *linear) {
    return (GatedShape){linear->rows, linear->m1, linear->m2, linear->adapter->rank, 0, false};
}

static GatedWeights chain_weights(const Linear *linear, const float *shared) {
    const LoraFactors f = lora_factors(linear, shared);
    return (GatedWeights){.U = f.A, .s = f.s, .V = f.B};
}

static size_t chain_scratch(const Linear *linear, int n_samples, int n_slots) {
    const GatedShape shape = chain_shape(linear);
    const size_t base = linear->base->scratch(linear, n_samples, n_slots),
                 own = engine_gated_scratch(&shape, n_samples, 0);
    return base > own ? base : own;
}

static void chain_forward(const Linear *linear, Engine *engine, const Gate *gate, const float *shared, Activation x,
                          Activation saved, Activation y, EnginePack *pack) {
    const GatedShape shape = chain_shape(linear);
    const GatedWeights weights = chain_weights(linear, shared);
    linear->base->forward(linear, engine, gate, shared, x, saved, NULL, y, pack);
    engine_gated_forward(engine, &shape, gate, &weights, x, adapter_saved(linear, gate->n_samples, saved), y, true,
                         NULL);
}

static void chain_backward(const Linear *linear, Engine *engine, const Gate *gate, const float *shared, Activation x,
                           Activation y, Activation saved, Activation dy, Activation dx, bool accumulate,
                           float *dshared) {
    const GatedShape shape = chain_shape(linear);
    const GatedWeights weights = chain_weights(linear, shared);
    const LoraGradients d = lora_gradients(linear, dshared);
    const GatedGradients gradients = {.U = d.A, .s = adapter_gradient(linear, LORA_S, dshared), .V = d.B};
    linear->base->backward(linear, engine, gate, shared, x, y, saved, NULL, dy, dx, accumulate, dshared);
    engine_gated_backward(engine, &shape, gate, &weights, x, adapter_saved(linear, gate->n_samples, saved), dy, dx,
                          true, &gradients);
}

// ---- the kind ------------------------------------------------------------------------------------------------------

static int lora_saved(const Linear *linear) {
    return linear->base->saved(linear) + (is_formed(linear) ? 0 : linear->adapter->rank);
}

static size_t lora_scratch(const Linear *linear, int n_samples, int n_slots) {
    return is_formed(linear) ? lora_formed_scratch(linear, n_samples) : chain_scratch(linear, n_samples, n_slots);
}

static void lora_forward(const Linear *linear, Engine *engine, const Gate *gate, const float *shared, Activation x,
                         Activation saved, float *work, Activation y, EnginePack *pack) {
    const LoraFactors f = lora_factors(linear, shared);
    if (is_formed(linear))
        lora_formed_forward(linear, engine, gate->n_samples * linear->rows, shared, &f, NULL, x, work, y, pack);
    else
        chain_forward(linear, engine, gate, shared, x, saved, y, pack);
}

static void lora_backward(const Linear *linear, Engine *engine, const Gate *gate, const float *shared, Activation x,
                          Activation y, Activation saved, float *work, Activation dy, Activation dx, bool accumulate,
                          float *dshared) {
    const LoraFactors f = lora_factors(linear, shared);
    const LoraGradients d = lora_gradients(linear, dshared);
    if (is_formed(linear))
        lora_formed_backward(linear, engine, gate->n_samples * linear->rows, shared, &f, NULL, x, work, dy, dx,
                             accumulate, &d);
    else
        chain_backward(linear, engine, gate, shared, x, y, saved, dy, dx, accumulate, dshared);
}

static double lora_flops(const Linear *linear, double tailor_components) {
    const double scaling = lora_is_scaled(linear) ? 0 : 1; // as the paper counts: LoRA's constant is free, sigma is not
    return linear->base->flops(linear, tailor_components) +
           2.0 * linear->adapter->rank * (linear->m1 + scaling + linear->m2);
}

KinditStatus lora_merge(const Linear *linear, KinditContext *ctx, const float *shared, const float *tailor, double *W) {
    const LoraFactors f = lora_factors(linear, shared);
    TRY(linear->base->merge(linear, ctx, shared, tailor, W));
    linear_add_components(linear, linear->adapter->rank, f.A, f.s, f.B, W);
    return KINDIT_OK;
}

const LinearKind linear_lora = {
    .name = "lora",
    .declare = lora_declare,
    .init = lora_init,
    .saved = lora_saved,
    .scratch = lora_scratch,
    .work = lora_work,
    .pack = adapter_pack, // beside a factored base its own few rows are packed at each use
    .forward = lora_forward,
    .backward = lora_backward,
    .flops = lora_flops,
    .merge = lora_merge,
};
