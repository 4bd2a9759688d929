// What the kinds of linear that ride on another one share. Their base declares its tensors first, in its own places of
// linear->param[]; those of the adapter follow from LINEAR_ADAPTER on.
#ifndef MODEL_LINEAR_ADAPTER_H
#define MODEL_LINEAR_ADAPTER_H

#include "model/linear.h"

// Declares "<linear>.<name>" and keeps its index in linear->param[which].
KinditStatus adapter_declare(Linear *linear, KinditContext *ctx, ParamLayout *layout, int which, const char *name,
                             ParamRole role, int n_dims, const int64_t *shape);
const float *adapter_tensor(const Linear *linear, int which, const float *shared);
// Where its gradient is added; NULL: it is frozen.
float *adapter_gradient(const Linear *linear, int which, float *dshared);
// Uniform in [-bound, bound), host memory: what PyTorch's kaiming_uniform_(a = sqrt(5)) is with bound 1 / sqrt(fan_in).
void adapter_init_uniform(const Linear *linear, int which, uint64_t seed, double bound, float *vector);
// What the base needs and leaves, where the adapter adds nothing to it.
size_t adapter_scratch(const Linear *linear, int n_samples, int n_slots);
size_t adapter_pack(const Linear *linear, int n_slots);
int adapter_saved_of_base(const Linear *linear);
// Of what a linear saves for backward (linear.h) the adapter's part, which lies behind the base's.
Activation adapter_saved(const Linear *linear, int n_samples, Activation saved);
// ... and what it keeps besides; saved: not none.
float *adapter_kept(const Linear *linear, int n_samples, Activation saved);

#endif
