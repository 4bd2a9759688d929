#include "model/linear_adapter.h"

#include <stdio.h>

KinditStatus adapter_declare(Linear *linear, KinditContext *ctx, ParamLayout *layout, int which, const char *name,
                             ParamRole role, int n_dims, const int64_t *shape) {
    char full[PARAM_NAME_SIZE + 32];
    snprintf(full, sizeof full, "%s.%s", linear->name, name);
    return params_declare(layout, ctx, full, role, 0, n_dims, shape, &linear->param[which]);
}

const float *adapter_tensor(const Linear *linear, int which, const float *shared) {
    return shared + linear->layout->specs[linear->param[which]].shared_offset;
}

float *adapter_gradient(const Linear *linear, int which, float *dshared) {
    return params_gradient(linear->layout, linear->param[which], dshared);
}

void adapter_init_uniform(const Linear *linear, int which, uint64_t seed, double bound, float *vector) {
    const ParamSpec *spec = &linear->layout->specs[linear->param[which]];
    const size_t n = params_spec_size(spec, 0);
    float *values = vector + spec->shared_offset;
    rng_fill_uniform((RngKey){.seed = seed, .sample = (uint64_t)linear->param[which], .purpose = RNG_INIT}, values, n);
    for (size_t i = 0; i < n; i++) values[i] = (float)bound * (2.0f * values[i] - 1.0f);
}

size_t adapter_scratch(const Linear *linear, int n_samples, int n_slots) {
    return linear->base->scratch(linear, n_samples, n_slots);
}

size_t adapter_pack(const Linear *linear, int n_slots) {
    return linear->base->pack(linear, n_slots);
}

int adapter_saved_of_base(const Linear *linear) {
    return linear->base->saved(linear);
}

Activation adapter_saved(const Linear *linear, int n_samples, Activation saved) {
    return activation_at(saved, (size_t)n_samples * (size_t)linear->rows * (size_t)linear->base->saved(linear));
}

float *adapter_kept(const Linear *linear, int n_samples, Activation saved) {
    return (float *)saved.data + linear_saved_floats(linear, n_samples, saved.type);
}
