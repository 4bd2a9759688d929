// LoHa (Hyeon-Woo et al. 2022; peft's LoHaLayer): W' = W + alpha / r (A1^T B1) * (A2^T B2), element by element.
//
// The product has rank r^2, which is no longer low: W' is formed once a pass, and its gradient in full. peft stores
// A1 and A2, its w1_a and w2_a, as (m2, r); A1, B1 and A2 start as PyTorch's kaiming_uniform_ with a = sqrt(5) has them
// there, B2 is zero.
#include <math.h>

#include "model/linear_adapter.h"

static KinditStatus loha_declare(Linear *linear, KinditContext *ctx, ParamLayout *layout) {
    static const char *const names[] = {"hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"};
    TRY(linear->base->declare(linear, ctx, layout));
    for (int i = 0; i < 4; i++)
        TRY(adapter_declare(linear, ctx, layout, LOHA_A1 + i, names[i], ROLE_ADAPTER, 2,
                            (int64_t[]){linear->adapter->rank, i % 2 ? linear->m1 : linear->m2}));
    return KINDIT_OK;
}

static void loha_init(const Linear *linear, uint64_t seed, int class_index, float *vector) {
    const double left = 1 / sqrt(linear->adapter->rank), right = 1 / sqrt(linear->m1);
    if (class_index >= 0) return;
    adapter_init_uniform(linear, LOHA_A1, seed, left, vector);
    adapter_init_uniform(linear, LOHA_B1, seed, right, vector);
    adapter_init_uniform(linear, LOHA_A2, seed, left, vector);
}

static HadamardShape loha_shape(const Linear *linear) {
    const AdapterConfig *adapter = linear->adapter;
    return (HadamardShape){linear->m1, linear->m2, adapter->rank, (float)(adapter->alpha / adapter->rank)};
}

static HadamardFactors loha_factors(const Linear *linear, const float *shared) {
    return (HadamardFactors){adapter_tensor(linear, LOHA_A1, shared), adapter_tensor(linear, LOHA_B1, shared),
                             adapter_tensor(linear, LOHA_A2, shared), adapter_tensor(linear, LOHA_B2, shared)};
}

static size_t loha_size(const Linear *linear) {
    return ((size_t)linear->m1 * (size_t)linear->m2 + 15) / 16 * 16;
}

static size_t loha_work(const Linear *linear, int n_samples) { // W', its gradient, and the two products
    (void)n_samples;
    return 4 * loha_size(linear);
}

static void loha_forward(const Linear *linear, Engine *engine, const Gate *gate, const float *shared, Activation x,
                         Activation saved, float *work, Activation y, EnginePack *pack) {
    const HadamardShape shape = loha_shape(linear);
    const HadamardFactors factors = loha_factors(linear, shared);
    (void)saved;
    if (!pack || !pack->ready) // else the pack holds W'
        engine_hadamard_forward(engine, &shape, &factors, adapter_tensor(linear, DENSE_WEIGHT, shared), NULL, work);
    engine_linear_forward(engine, gate->n_samples * linear->rows, linear->m1, linear->m2, x, work,
                          adapter_tensor(linear, DENSE_BIAS, shared), y, pack);
}

static void loha_backward(const Linear *linear, Engine *engine, const Gate *gate, const float *shared, Activation x,
                          Activation y, Activation saved, float *work, Activation dy, Activation dx, bool accumulate,
                          float *dshared) {
    const HadamardShape shape = loha_shape(linear);
    const HadamardFactors factors = loha_factors(linear, shared);
    const HadamardGradients d = {adapter_gradient(linear, LOHA_A1, dshared), adapter_gradient(linear, LOHA_B1, dshared),
                                 adapter_gradient(linear, LOHA_A2, dshared),
                                 adapter_gradient(linear, LOHA_B2, dshared)};
    float *W = work, *G = d.a1 ? work + loha_size(linear) : NULL, *products = work + 2 * loha_size(linear);
    (void)y, (void)saved;
    engine_hadamard_forward(engine, &shape, &factors, adapter_tensor(linear, DENSE_WEIGHT, shared), products, W);
    if (G) engine_zero(engine, G, loha_size(linear));
    engine_linear_backward(engine, gate->n_samples * linear->rows, linear->m1, linear->m2, x, W, dy, dx, accumulate, G,
                           NULL);
    if (G) engine_hadamard_backward(engine, &shape, &factors, products, G, &d);
}

static double loha_flops(const Linear *linear, double tailor_components) {
    return linear->base->flops(linear, tailor_components); // W' is formed once a pass, not once a row
}

static KinditStatus loha_merge(const Linear *linear, KinditContext *ctx, const float *shared, const float *tailor,
                               double *W) {
    const HadamardShape shape = loha_shape(linear);
    const HadamardFactors f = loha_factors(linear, shared);
    const size_t m1 = (size_t)linear->m1, m2 = (size_t)linear->m2;
    TRY(linear->base->merge(linear, ctx, shared, tailor, W));
    for (size_t j = 0; j < m2; j++)
        for (size_t i = 0; i < m1; i++) {
            double first = 0, second = 0;
            for (size_t k = 0; k < (size_t)shape.r; k++) {
                first += (double)f.a1[k * m2 + j] * f.b1[k * m1 + i];
                second += (double)f.a2[k * m2 + j] * f.b2[k * m1 + i];
            }
            W[j * m1 + i] += linear->adapter->alpha / shape.r * first * second;
        }
    return KINDIT_OK;
}

const LinearKind linear_loha = {
    .name = "loha",
    .declare = loha_declare,
    .init = loha_init,
    .saved = adapter_saved_of_base,
    .scratch = adapter_scratch,
    .work = loha_work,
    .pack = adapter_pack,
    .forward = loha_forward,
    .backward = loha_backward,
    .flops = loha_flops,
    .merge = loha_merge,
};
