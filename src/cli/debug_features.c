#include "cli/debug_features.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "vision/vision.h"

enum { MAX_TENSORS = 1024, NAME_SIZE = 128 };

typedef struct Features {
    KinditContext *ctx;
    Engine *engine;
    VisionNetwork *network;
    Safetensors input;
    Arena arena;
    const float *images; // (n, C, S, S)
    int n;
    VisionOutput out;
    Tensor tensors[MAX_TENSORS]; // to be written
    int n_tensors;
    KinditStatus status; // of add_layer, which cannot return it
} Features;

static void features_close(Features *f) {
    arena_close(&f->arena);
    safetensors_close(&f->input);
    vision_close(&f->network);
    engine_close(&f->engine);
}

static KinditStatus read_images(Features *f) {
    const VisionInfo *info = vision_info(f->network);
    const Tensor *tensor = safetensors_find(&f->input, "images");
    const int64_t side = info->input_size;
    float *images;
    if (!tensor || tensor->n_dims != 4 || tensor->shape[0] < 1 || tensor->shape[0] > INT32_MAX ||
        tensor->shape[1] != info->channels || tensor->shape[2] != side || tensor->shape[3] != side)
        return context_fail(f->ctx, KINDIT_ERROR_FORMAT, "%s: expected a tensor \"images\" of shape (N, %d, %d, %d)",
                            f->input.path, info->channels, info->input_size, info->input_size);
    TRY(arena_alloc(&f->arena, f->ctx, tensor->n_elements, sizeof *images, &images));
    KinditStatus status = tensor_read_float(tensor, f->ctx, 0, tensor->n_elements, images);
    if (status) return context_prefix(f->ctx, status, f->input.path);
    f->images = images;
    f->n = (int)tensor->shape[0];
    return KINDIT_OK;
}

// A new tensor of the output file, (rows, n), or (n) if rows is 0; the caller fills *data.
static KinditStatus add_tensor(Features *f, const char *name, int64_t rows, int64_t n, float **data) {
    char *kept;
    if (f->n_tensors == MAX_TENSORS)
        return context_fail(f->ctx, KINDIT_ERROR_UNSUPPORTED, "a network of more than %d layers", MAX_TENSORS);
    TRY(arena_copy_string(&f->arena, f->ctx, name, &kept));
    Tensor tensor = {.name = kept, .dtype = DTYPE_F32, .n_dims = rows ? 2 : 1, .shape = {rows ? rows : n, n}};
    TRY(tensor_measure(&tensor, f->ctx, "output"));
    TRY(arena_alloc(&f->arena, f->ctx, tensor.n_elements, sizeof **data, data));
    tensor.data = *data;
    f->tensors[f->n_tensors++] = tensor;
    return KINDIT_OK;
}

static void add_layer(void *user, const char *layer, size_t n, const float *values) {
    Features *f = user;
    char name[NAME_SIZE];
    float *data;
    snprintf(name, sizeof name, "layer.%s", layer);
    if (!f->status) f->status = add_tensor(f, name, 0, (int64_t)n, &data);
    if (!f->status) memcpy(data, values, n * sizeof *values);
}

static KinditStatus run(Features *f, int times) {
    const VisionInfo *info = vision_info(f->network);
    TRY(add_tensor(f, "features", f->n, info->n_features, &f->out.features));
    if (info->n_spatial) TRY(add_tensor(f, "spatial", f->n, info->n_spatial, &f->out.spatial));
    if (info->n_logits) TRY(add_tensor(f, "logits", f->n, info->n_logits, &f->out.logits));
    if (f->n == 1) {
        const VisionOutput layers = {.visit = add_layer, .user = f};
        TRY(vision_run(f->network, f->images, 1, &layers));
        TRY(f->status);
    }
    TRY(vision_run(f->network, f->images, f->n, &f->out));
    for (int i = 0; i < times; i++) {
        double start = clock_seconds();
        TRY(vision_run(f->network, f->images, f->n, &f->out));
        printf("%.2f images/s\n", f->n / (clock_seconds() - start));
    }
    return KINDIT_OK;
}

static KinditStatus open_and_run(Features *f, const char *network, const char *input, const char *output, int times) {
    TRY(engine_create(&f->engine, f->ctx));
    TRY(vision_open(&f->network, f->ctx, f->engine, network));
    TRY(safetensors_open(&f->input, f->ctx, input));
    TRY(read_images(f));
    TRY(run(f, times));
    return safetensors_write(f->ctx, output, f->tensors, f->n_tensors, NULL, 0);
}

KinditStatus debug_features(KinditContext *ctx, const char *network, const char *input, const char *output, int times) {
    Features *features;
    TRY(memory_alloc(ctx, 1, sizeof *features, &features));
    features->ctx = ctx;
    KinditStatus status = open_and_run(features, network, input, output, times);
    features_close(features);
    memory_free(&features);
    return status;
}
