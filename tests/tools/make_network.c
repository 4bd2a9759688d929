// make_network FILE: a DINOv2 with random weights, the smallest that its names allow (width 64, one block, 5 tokens): a
// network of features for tests that need one and not what it has learnt.
#include <math.h>
#include <stdio.h>

#include "base/rng.h"
#include "formats/safetensors.h"

enum { WIDTH = 64, PATCH = 112, MOST = 32 };

static Tensor tensors[MOST];
static int n_tensors;

// Values around `mean`, which is 1 for the weights of norms.
static KinditStatus add(KinditContext *ctx, const char *name, float mean, float deviation, int n_dims,
                        const int64_t *shape) {
    Tensor *tensor = &tensors[n_tensors];
    float *values;
    *tensor = (Tensor){.name = name, .dtype = DTYPE_F32, .n_dims = n_dims};
    for (int i = 0; i < n_dims; i++) tensor->shape[i] = shape[i];
    TRY(tensor_measure(tensor, ctx, name));
    TRY(memory_alloc(ctx, tensor->n_elements, sizeof *values, &values));
    rng_fill_normal((RngKey){.seed = 1, .sample = (uint64_t)n_tensors, .purpose = RNG_TEST}, values,
                    tensor->n_elements);
    for (size_t i = 0; i < tensor->n_elements; i++) values[i] = mean + deviation * values[i];
    tensor->data = values;
    n_tensors++;
    return KINDIT_OK;
}

static KinditStatus add_matrix(KinditContext *ctx, const char *weight, const char *bias, int64_t rows,
                               int64_t columns) {
    TRY(add(ctx, weight, 0, 1 / sqrtf((float)columns), 2, (int64_t[]){rows, columns}));
    return add(ctx, bias, 0, 0.1F, 1, &rows);
}

static KinditStatus add_vector(KinditContext *ctx, const char *name, float mean) {
    return add(ctx, name, mean, 0.1F, 1, (int64_t[]){WIDTH});
}

static KinditStatus add_all(KinditContext *ctx) {
    TRY(add(ctx, "cls_token", 0, 1, 3, (int64_t[]){1, 1, WIDTH}));
    TRY(add(ctx, "pos_embed", 0, 1, 3, (int64_t[]){1, 5, WIDTH}));
    TRY(add(ctx, "patch_embed.proj.weight", 0, 0.01F, 4, (int64_t[]){WIDTH, 3, PATCH, PATCH}));
    TRY(add_vector(ctx, "patch_embed.proj.bias", 0));
    TRY(add_vector(ctx, "norm.weight", 1));
    TRY(add_vector(ctx, "norm.bias", 0));
    TRY(add_vector(ctx, "blocks.0.norm1.weight", 1));
    TRY(add_vector(ctx, "blocks.0.norm1.bias", 0));
    TRY(add_matrix(ctx, "blocks.0.attn.qkv.weight", "blocks.0.attn.qkv.bias", 3 * WIDTH, WIDTH));
    TRY(add_matrix(ctx, "blocks.0.attn.proj.weight", "blocks.0.attn.proj.bias", WIDTH, WIDTH));
    TRY(add_vector(ctx, "blocks.0.ls1.gamma", 1));
    TRY(add_vector(ctx, "blocks.0.norm2.weight", 1));
    TRY(add_vector(ctx, "blocks.0.norm2.bias", 0));
    TRY(add_matrix(ctx, "blocks.0.mlp.fc1.weight", "blocks.0.mlp.fc1.bias", 4 * WIDTH, WIDTH));
    TRY(add_matrix(ctx, "blocks.0.mlp.fc2.weight", "blocks.0.mlp.fc2.bias", WIDTH, 4 * WIDTH));
    return add_vector(ctx, "blocks.0.ls2.gamma", 1);
}

int main(int argc, char **argv) {
    KinditContext *ctx = NULL;
    if (argc != 2 || kindit_context_create(&ctx, NULL) != KINDIT_OK) return 2;
    KinditStatus status = add_all(ctx);
    if (!status) status = safetensors_write(ctx, argv[1], tensors, n_tensors, NULL, 0);
    if (status) fprintf(stderr, "%s\n", kindit_context_message(ctx));
    for (int i = 0; i < n_tensors; i++) {
        void *values = (void *)tensors[i].data;
        memory_free(&values);
    }
    kindit_context_close(&ctx);
    return status ? 1 : 0;
}
