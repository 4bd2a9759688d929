// DoRA (Liu et al. 2024; peft's LoraLayer with use_dora): LoRA's matrix with its rows brought to the lengths m.
//
//     y = m / n * (z - b) + b      z = base(x) + ((x A^T) * s) B      n_j = || W_j + sum over k of s_k B_kj A_k ||
//
// n follows the weights but gets no gradient; m starts as n does. No gradient of W's size is formed, since the base
// does not train: dm = sum over rows of dy (z - b) / n, and z's gradient is m / n * dy.
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

// Behind what LoRA leaves: z.
static int dora_saved(const Linear *linear) {
    return lora_saved(linear) + linear->m2;
}

static Activation dora_z(const Linear *linear, int n_samples, Activation saved) {
    return activation_at(saved, (size_t)n_samples * (size_t)linear->rows * (size_t)lora_saved(linear));
}

static size_t larger(size_t a, size_t b) {
    return a > b ? a : b;
}

static size_t dora_scratch(const Linear *linear, int n_samples, int n_slots) {
    return larger(lora_scratch(linear, n_samples, n_slots),
                  larger(engine_lora_norms_scratch(linear->m2, linear->adapter->rank),
                         engine_magnitude_scratch(n_samples * linear->rows, linear->m2)));
}

// The norms, and in backward z's gradient behind them.
static size_t dora_norms_size(const Linear *linear) {
    return ((size_t)linear->m2 + 15) / 16 * 16;
}

static size_t dora_work(const Linear *linear, int n_samples) {
    return dora_norms_size(linear) + (size_t)n_samples * (size_t)linear->rows * (size_t)linear->m2;
}

static void dora_norms(const Linear *linear, Engine *engine, const float *shared, float *norms) {
    engine_lora_norms(engine, linear->m1, linear->m2, linear->adapter->rank,
                      adapter_tensor(linear, DENSE_WEIGHT, shared), adapter_tensor(linear, LORA_A, shared),
                      adapter_tensor(linear, LORA_S, shared), adapter_tensor(linear, LORA_B, shared), norms);
}

static void dora_forward(const Linear *linear, Engine *engine, const Gate *gate, const float *shared, Activation x,
                         Activation saved, float *work, Activation y, EnginePack *pack) {
    const Activation z = dora_z(linear, gate->n_samples, saved);
    lora_forward(linear, engine, gate, shared, x, saved, NULL, z, pack);
    dora_norms(linear, engine, shared, work);
    engine_magnitude_forward(engine, gate->n_samples * linear->rows, linear->m2, z,
                             adapter_tensor(linear, DENSE_BIAS, shared), adapter_tensor(linear, DORA_M, shared), work,
                             y);
}

static void dora_backward(const Linear *linear, Engine *engine, const Gate *gate, const float *shared, Activation x,
                          Activation saved, float *work, Activation dy, Activation dx, bool accumulate,
                          float *dshared) {
    const Activation dz = {.data = work + dora_norms_size(linear), .type = dy.type};
    dora_norms(linear, engine, shared, work);
    engine_magnitude_backward(engine, gate->n_samples * linear->rows, linear->m2,
                              dora_z(linear, gate->n_samples, saved), adapter_tensor(linear, DENSE_BIAS, shared),
                              adapter_tensor(linear, DORA_M, shared), work, dy, dz,
                              adapter_gradient(linear, DORA_M, dshared));
    lora_backward(linear, engine, gate, shared, x, saved, NULL, dz, dx, accumulate, dshared);
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
    .saved = dora_saved,
    .scratch = dora_scratch,
    .work = dora_work,
    .pack = adapter_pack,
    .forward = dora_forward,
    .backward = dora_backward,
    .flops = dora_flops,
    .merge = dora_merge,
};
