// The dense kind of linear: y = x W^T + b, W (m2, m1) as PyTorch stores it, all of it shared by every class.
#include <math.h>
#include <stdio.h>

#include "model/linear.h"

static KinditStatus dense_declare(Linear *linear, KinditContext *ctx, ParamLayout *layout) {
    char name[PARAM_NAME_SIZE + 16];
    linear->layout = layout;
    snprintf(name, sizeof name, "%s.weight", linear->name);
    TRY(params_declare(layout, ctx, name, ROLE_SHARED, 0, 2, (int64_t[]){linear->m2, linear->m1},
                       &linear->param[DENSE_WEIGHT]));
    layout->specs[linear->param[DENSE_WEIGHT]].quantise = true;
    snprintf(name, sizeof name, "%s.bias", linear->name);
    return params_declare(layout, ctx, name, ROLE_SHARED, 0, 1, (int64_t[]){linear->m2}, &linear->param[DENSE_BIAS]);
}

static size_t dense_offset(const Linear *linear, int which) {
    return linear->layout->specs[linear->param[which]].shared_offset;
}

static void dense_init(const Linear *linear, uint64_t seed, int class_index, float *vector) {
    if (class_index >= 0 || linear->init == LINEAR_INIT_ZERO) return; // the bias starts at zero in every case
    float *W = vector + dense_offset(linear, DENSE_WEIGHT);
    size_t n = (size_t)linear->m1 * (size_t)linear->m2;
    RngKey key = {.seed = seed, .sample = (uint64_t)linear->param[DENSE_WEIGHT], .purpose = RNG_INIT};
    if (linear->init == LINEAR_INIT_NORMAL) {
        rng_fill_normal(key, W, n);
        for (size_t i = 0; i < n; i++) W[i] *= LINEAR_INIT_STD;
    } else {
        float bound = sqrtf(6.0f / (float)(linear->m1 + linear->fan_out));
        rng_fill_uniform(key, W, n);
        for (size_t i = 0; i < n; i++) W[i] = bound * (2.0f * W[i] - 1.0f);
    }
}

static int dense_saved(const Linear *linear) {
    (void)linear;
    return 0;
}

static size_t dense_scratch(const Linear *linear, int n_samples, int n_slots) {
    (void)n_slots;
    return engine_linear_scratch(n_samples * linear->rows, linear->m1, linear->m2);
}

static size_t dense_pack(const Linear *linear, int n_slots) {
    (void)n_slots;
    return engine_linear_pack(linear->m1, linear->m2);
}

static void dense_forward(const Linear *linear, Engine *engine, const Gate *gate, const float *shared, Activation x,
                          Activation saved, float *work, Activation y, EnginePack *pack) {
    (void)saved, (void)work;
    engine_linear_forward(engine, gate->n_samples * linear->rows, linear->m1, linear->m2, x,
                          shared + dense_offset(linear, DENSE_WEIGHT), shared + dense_offset(linear, DENSE_BIAS), y,
                          pack);
}

static void dense_backward(const Linear *linear, Engine *engine, const Gate *gate, const float *shared, Activation x,
                           Activation y, Activation saved, float *work, Activation dy, Activation dx, bool accumulate,
                           float *dshared) {
    (void)y, (void)saved, (void)work;
    engine_linear_backward(engine, gate->n_samples * linear->rows, linear->m1, linear->m2, x,
                           shared + dense_offset(linear, DENSE_WEIGHT), dy, dx, accumulate,
                           params_gradient(linear->layout, linear->param[DENSE_WEIGHT], dshared),
                           params_gradient(linear->layout, linear->param[DENSE_BIAS], dshared));
}

static double dense_flops(const Linear *linear, double tailor_components) {
    (void)tailor_components;
    return 2.0 * linear->m1 * linear->m2;
}

static KinditStatus dense_merge(const Linear *linear, KinditContext *ctx, const float *shared, const float *tailor,
                                double *W) {
    (void)ctx, (void)tailor;
    const float *from = shared + dense_offset(linear, DENSE_WEIGHT);
    for (size_t i = 0; i < (size_t)linear->m1 * (size_t)linear->m2; i++) W[i] = from[i];
    return KINDIT_OK;
}

const LinearKind linear_dense = {
    .name = "dense",
    .declare = dense_declare,
    .init = dense_init,
    .saved = dense_saved,
    .scratch = dense_scratch,
    .pack = dense_pack,
    .forward = dense_forward,
    .backward = dense_backward,
    .flops = dense_flops,
    .merge = dense_merge,
};
