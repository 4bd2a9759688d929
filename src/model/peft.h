// Adapters as the peft package keeps them, for diffusers' DiTTransformer2DModel: a folder with adapter_config.json and
// adapter_model.safetensors. LoRA, DoRA, LoHa and OFT with one rank, or number of blocks, on all six matrices of every
// block; what else peft can do is refused by name.
#ifndef MODEL_PEFT_H
#define MODEL_PEFT_H

#include "model/exchange.h"

// Writes the adapter of `adapted`, which rides on a dense model, and in the folder's base/ that model without it, as
// exchange_export writes one for diffusers: the adapter of PiSSA belongs to the residual, and label rows are the
// base's. `path` must not exist.
KinditStatus peft_write(const Model *adapted, const char *path, ExchangeReport *report);
// *out = `dense` with the adapter of that folder. A tensor that is missing, of another shape or not known is a format
// error that names it.
KinditStatus peft_read(Model **out, const Model *dense, const char *folder);

// adapter_config.json <-> the adapter. A setting that would change what the adapter computes, and that this program
// does not have, is a format error that names it. `where` stands for the file in messages.
KinditStatus peft_config_parse(const cJSON *json, KinditContext *ctx, const char *where, AdapterConfig *out);
KinditStatus peft_config_build(cJSON **out, KinditContext *ctx, const AdapterConfig *adapter);

#endif
