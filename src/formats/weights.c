#include "formats/weights.h"

#include "formats/torch_file.h"

KinditStatus weights_open(Safetensors *out, KinditContext *ctx, const char *path) {
    FileMap map;
    TRY(file_map(&map, ctx, path));
    const bool is_torch = torch_file_recognise(map.data, map.size);
    file_unmap(&map);
    return is_torch ? torch_file_open(out, ctx, path) : safetensors_open(out, ctx, path);
}

KinditStatus weights_begin(Weights *out, KinditContext *ctx, const Safetensors *file) {
    *out = (Weights){.ctx = ctx, .file = file};
    return memory_alloc(ctx, (size_t)file->n_tensors, sizeof *out->used, &out->used);
}

void weights_end(Weights *weights) {
    memory_free(&weights->used);
}

KinditStatus weights_require(Weights *weights, const char *name, int n_dims, const int64_t *shape, const Tensor **out) {
    TRY(safetensors_require(weights->file, weights->ctx, name, n_dims, shape, out));
    weights->used[*out - weights->file->tensors] = true;
    return KINDIT_OK;
}

void weights_ignore(Weights *weights, const char *name) {
    const Tensor *tensor = safetensors_find(weights->file, name);
    if (tensor) weights->used[tensor - weights->file->tensors] = true;
}

KinditStatus weights_read(const Weights *weights, const Tensor *tensor, size_t first, size_t n, float *out) {
    KinditStatus status = tensor_read_float(tensor, weights->ctx, first, n, out);
    return status ? context_prefix(weights->ctx, status, weights->file->path) : KINDIT_OK;
}

KinditStatus weights_refuse_others(const Weights *weights, const char *what) {
    for (int i = 0; i < weights->file->n_tensors; i++)
        if (!weights->used[i])
            return context_fail(weights->ctx, KINDIT_ERROR_UNSUPPORTED, "%s: tensor \"%.95s\" is not one that %s has",
                                weights->file->path, weights->file->tensors[i].name, what);
    return KINDIT_OK;
}
