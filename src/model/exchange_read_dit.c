// The size of an original DiT, from the shapes of its tensors: its files say nothing else.
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "model/exchange_source.h"

// The shape of a tensor that must be there, of so many dimensions from 1 to 2^20 each.
static KinditStatus shape_of(const ExchangeSource *source, const char *name, int n_dims, const int64_t **out) {
    const Tensor *tensor = safetensors_find(&source->file, name);
    bool good = tensor && tensor->n_dims == n_dims;
    for (int i = 0; i < n_dims && good; i++) good = tensor->shape[i] >= 1 && tensor->shape[i] <= DIT_MAX_CLASSES;
    if (!good)
        return context_fail(source->ctx, KINDIT_ERROR_FORMAT,
                            "%s: not an original DiT: expected a tensor \"%s\" of %d dimensions", source->file.path,
                            name, n_dims);
    *out = tensor->shape;
    return KINDIT_OK;
}

static int count_blocks(const ExchangeSource *source) {
    int depth = 0;
    char name[64];
    do snprintf(name, sizeof name, "blocks.%d.attn.qkv.weight", depth);
    while (safetensors_find(&source->file, name) && ++depth <= 256);
    return depth;
}

static KinditStatus infer_sizes(ExchangeSource *source) {
    DitConfig *config = &source->config;
    const int64_t *patches = NULL, *positions = NULL, *labels = NULL, *hidden = NULL, *final = NULL;
    TRY(shape_of(source, "x_embedder.proj.weight", 4, &patches));
    TRY(shape_of(source, "pos_embed", 3, &positions));
    TRY(shape_of(source, "y_embedder.embedding_table.weight", 2, &labels));
    TRY(shape_of(source, "blocks.0.mlp.fc1.weight", 2, &hidden));
    TRY(shape_of(source, "final_layer.linear.weight", 2, &final));
    int side = (int)lround(sqrt((double)positions[1]));
    config->width = (int)patches[0];
    config->channels = (int)patches[1];
    config->patch = (int)patches[2];
    config->depth = count_blocks(source);
    config->mlp_ratio = (int)(hidden[0] / patches[0]);
    config->image_size = side <= 4096 && config->patch <= 64 ? side * config->patch : 0; // 0 is refused later
    config->learn_sigma = final[0] != patches[1] * patches[2] * patches[3];
    source->n_file_classes = (int)labels[0] - 1;
    return exchange_number_classes(source, source->n_file_classes);
}

static KinditStatus infer_heads(ExchangeSource *source, int heads) {
    DitConfig *config = &source->config;
    config->heads = heads ? heads : dit_config_usual_heads(config->width, config->depth);
    if (config->heads) return KINDIT_OK;
    return context_fail(source->ctx, KINDIT_ERROR_ARGUMENT,
                        "%s: width %d and depth %d are no DiT-S, B, L or XL, and nothing in the file says how many "
                        "attention heads there are: give --heads N",
                        source->file.path, config->width, config->depth);
}

// Our own export says what it was made of.
static KinditStatus read_own_config(ExchangeSource *source, const char *text) {
    const char *path = source->file.path;
    TRY(json_parse(&source->document, source->ctx, path, text, strlen(text)));
    TRY(model_config_parse(source->document, source->ctx, path, &source->config, &source->classes));
    source->n_file_classes = source->config.n_classes;
    if (!source->config.factored) return KINDIT_OK;
    return context_fail(source->ctx, KINDIT_ERROR_FORMAT, "%s: \"kindit_source\": expected the config of a dense model",
                        path);
}

KinditStatus exchange_read_dit(ExchangeSource *source, int heads) {
    const char *text = safetensors_metadata(&source->file, "kindit_source");
    if (text) return read_own_config(source, text);
    TRY(infer_sizes(source));
    return infer_heads(source, heads);
}
