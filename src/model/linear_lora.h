// LoRA's product, for the kinds that are built on it (linear_dora.c).
#ifndef MODEL_LINEAR_LORA_H
#define MODEL_LINEAR_LORA_H

#include "model/linear_adapter.h"

// The two thirds of linear_lora that are not its own forward and backward; DoRA's are the same but for a vector more.
KinditStatus lora_declare(Linear *linear, KinditContext *ctx, ParamLayout *layout);
void lora_init(const Linear *linear, uint64_t seed, int class_index, float *vector);
int lora_saved(const Linear *linear);
size_t lora_scratch(const Linear *linear, int n_samples, int n_slots);

// y = base(x) + ((x A^T) * s) B
void lora_forward(const Linear *linear, Engine *engine, const Gate *gate, const float *shared, Activation x,
                  Activation saved, float *work, Activation y, EnginePack *pack);
void lora_backward(const Linear *linear, Engine *engine, const Gate *gate, const float *shared, Activation x,
                   Activation saved, float *work, Activation dy, Activation dx, bool accumulate, float *dshared);
KinditStatus lora_merge(const Linear *linear, KinditContext *ctx, const float *shared, const float *tailor, double *W);

#endif
