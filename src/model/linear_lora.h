// LoRA's product beside a dense base, for the kinds that are built on it (linear_dora.c).
#ifndef MODEL_LINEAR_LORA_H
#define MODEL_LINEAR_LORA_H

#include "model/linear_adapter.h"

// What of linear_lora is DoRA's too.
KinditStatus lora_declare(Linear *linear, KinditContext *ctx, ParamLayout *layout);
void lora_init(const Linear *linear, uint64_t seed, int class_index, float *vector);
KinditStatus lora_merge(const Linear *linear, KinditContext *ctx, const float *shared, const float *tailor, double *W);

LoraShape lora_shape(const Linear *linear);
LoraFactors lora_factors(const Linear *linear, const float *shared); // without lengths
LoraGradients lora_gradients(const Linear *linear, float *dshared);  // NULL: frozen

size_t lora_work(const Linear *linear, int n_samples); // of M (engine_lora_form), in whole cache lines
size_t lora_formed_scratch(const Linear *linear, int n_samples);
// y = x M^T + b for n rows. norms: of f->lengths, or NULL.
void lora_formed_forward(const Linear *linear, Engine *engine, int n, const float *shared, const LoraFactors *f,
                         float *norms, Activation x, float *work, Activation y, EnginePack *pack);
void lora_formed_backward(const Linear *linear, Engine *engine, int n, const float *shared, const LoraFactors *f,
                          float *norms, Activation x, float *work, Activation dy, Activation dx, bool accumulate,
                          const LoraGradients *d);

#endif
