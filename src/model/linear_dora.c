// DoRA (Liu et al. 2024; peft's LoraLayer with use_dora): LoRA's matrix with its rows brought to the lengths m.
//
//     y = x M^T + b      M_j = m_j / n_j W'_j      W'_j = W_j + sum over k of s_k B_kj A_k      n_j = || W'_j ||
//
// n follows the weights but gets no gradient; m starts as n does. No gradient of W's size is formed: dm = sum over rows
// of dy (y - b) / m.
#include <math.h>

#include "model/linear_lora.h"

static KinditStatus dora_declare(Linear *linear, KinditContext *ctx, ParamLayout *layout) {
    TRY(lora_declare(linear, ctx, layout));
    return adapter_declare(linear, ctx, layout, DORA_M, "lora_m", ROLE_ADAPTER, 1, (int64_t[]){linear->m2});
}

// B is zero, so that the norms are those of the base.
static void dora_init(const Linear *linear, uint64_t seed, int class_index, float *vector) {
    const float *W = adapter_tensor(linear, DENSE_WEIGHT, vector);
    float *m = vector + linear->layout->specs[linear->param[DORA_M]].shared_offset;
    lora_init(linear, seed, class_index, vector);
    for (int j = 0; j < linear->m2 && class_index < 0; j++) {
        double sum = 0;
        for (int i = 0; i < linear->m1; i++) {
            const double w = W[(size_t)j * (size_t)linear->m1 + (size_t)i];
            sum += w * w;
        }
        m[j] = (float)sqrt(sum);
    }
}

static LoraFactors dora_factors(const Linear *linear, const float *shared) {
    LoraFactors f = lora_factors(linear, shared);
    f.lengths = adapter_tensor(linear, DORA_M, shared);
    return f;
}

// Behind what LoRA works in: the norms.
static size_t dora_work(const Linear *linear, int n_samples) {
    return lora_work(linear, n_samples) + (size_t)linear->m2;
}

static float *dora_norms(const Linear *linear, int n_samples, float *work) {
    return work + lora_work(linear, n_samples);
}

static size_t dora_scratch(const Linear *linear, int n_samples, int n_slots) {
    const size_t lora = lora_formed_scratch(linear, n_samples),
                 lengths = engine_lengths_scratch(n_samples * linear->rows, linear->m2);
    (void)n_slots;
    return lora > lengths ? lora : lengths;
}

static void dora_forward(const Linear *linear, Engine *engine, const Gate *gate, const float *shared, Activation x,
                         Activation saved, float *work, Activation y, EnginePack *pack) {
    const LoraFactors f = dora_factors(linear, shared);
    (void)saved;
    lora_formed_forward(linear, engine, gate->n_samples * linear->rows, shared, &f,
                        dora_norms(linear, gate->n_samples, work), x, work, y, pack);
}

static void dora_backward(const Linear *linear, Engine *engine, const Gate *gate, const float *shared, Activation x,
                          Activation y, Activation saved, float *work, Activation dy, Activation dx, bool accumulate,
                          float *dshared) {
    const LoraFactors f = dora_factors(linear, shared);
    const LoraGradients d = lora_gradients(linear, dshared);
    float *dlengths = adapter_gradient(linear, DORA_M, dshared);
    const int n = gate->n_samples * linear->rows;
    (void)saved;
    if (dlengths)
        engine_lengths_backward(engine, n, linear->m2, y, adapter_tensor(linear, DENSE_BIAS, shared), f.lengths, dy,
                                dlengths);
    lora_formed_backward(linear, engine, n, shared, &f, dora_norms(linear, gate->n_samples, work), x, work, dy, dx,
                         accumulate, &d);
}

// A multiply-add more for each output than LoRA; the norms are found once a pass, not once a row.
static double dora_flops(const Linear *linear, double tailor_components) {
    return linear_lora.flops(linear, tailor_components) + 2.0 * linear->m2;
}

static KinditStatus dora_merge(const Linear *linear, KinditContext *ctx, const float *shared, const float *tailor,
                               double *W) {
    const float *m = adapter_tensor(linear, DORA_M, shared);
    TRY(lora_merge(linear, ctx, shared, tailor, W));
    for (int j = 0; j < linear->m2; j++) {
        double *row = W + (size_t)j * (size_t)linear->m1, sum = 0;
        for (int i = 0; i < linear->m1; i++) sum += row[i] * row[i];
        for (int i = 0; i < linear->m1; i++) row[i] *= m[j] / sqrt(sum);
    }
    return KINDIT_OK;
}

const LinearKind linear_dora = {
    .name = "dora",
    .declare = dora_declare,
    .init = dora_init,
    .saved = adapter_saved_of_base,
    .scratch = dora_scratch,
    .work = dora_work,
    .pack = adapter_pack,
    .forward = dora_forward,
    .backward = dora_backward,
    .flops = dora_flops,
    .merge = dora_merge,
};
