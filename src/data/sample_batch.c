#include "data/sample_batch.h"

#include <string.h>

static KinditStatus read_array(Npy *out, KinditContext *ctx, const char *path, const char *name) {
    KinditStatus status = npz_read(out, ctx, path, name);
    return status
               ? context_fail(ctx, status, "%s; wanted are arr_0, arr_1 and class_ids, as `kindit sample` writes them",
                              kindit_context_message(ctx))
               : KINDIT_OK;
}

static KinditStatus read_images(SampleBatch *batch, KinditContext *ctx, const char *path, const Dataset *dataset) {
    TRY(read_array(&batch->images, ctx, path, "arr_0"));
    const Tensor *array = &batch->images.array;
    if (array->dtype != DTYPE_U8 || array->n_dims != 4)
        return context_fail(ctx, KINDIT_ERROR_FORMAT,
                            "%s: arr_0: expected uint8 images (N, H, W, C), found %s with %d "
                            "dimensions",
                            path, dtype_name(array->dtype), array->n_dims);
    if (array->shape[1] != dataset->size || array->shape[2] != dataset->size || array->shape[3] != dataset->channels)
        return context_fail(ctx, KINDIT_ERROR_FORMAT,
                            "%s: images of %lld x %lld x %lld do not match %s with %d x %d x %d", path,
                            (long long)array->shape[1], (long long)array->shape[2], (long long)array->shape[3],
                            dataset->path, dataset->size, dataset->size, dataset->channels);
    batch->n = array->shape[0];
    return KINDIT_OK;
}

// The data set's number for row `label` of class_ids.
static KinditStatus map_label(KinditContext *ctx, const char *path, const Tensor *ids, int64_t label,
                              const Dataset *dataset, int *out) {
    char id[DIT_CLASS_NAME_SIZE + 1] = "";
    if (label < 0 || label >= ids->shape[0])
        return context_fail(ctx, KINDIT_ERROR_FORMAT, "%s: arr_1: expected labels 0..%lld, found %lld", path,
                            (long long)ids->shape[0] - 1, (long long)label);
    memcpy(id, (const char *)ids->data + label * DIT_CLASS_NAME_SIZE, DIT_CLASS_NAME_SIZE);
    *out = dataset_find_class(dataset, id);
    if (*out < 0)
        return context_fail(ctx, KINDIT_ERROR_ARGUMENT, "%s: holds samples of class \"%s\", which %s does not have",
                            path, id, dataset->path);
    return KINDIT_OK;
}

static KinditStatus map_labels(SampleBatch *batch, KinditContext *ctx, const char *path, const Tensor *labels,
                               const Tensor *ids, const Dataset *dataset) {
    if (labels->dtype != DTYPE_I64 || labels->n_dims != 1 || labels->shape[0] != batch->n)
        return context_fail(ctx, KINDIT_ERROR_FORMAT, "%s: arr_1: expected int64 labels (%lld)", path,
                            (long long)batch->n);
    if (ids->dtype != DTYPE_U8 || ids->n_dims != 2 || ids->shape[1] != DIT_CLASS_NAME_SIZE)
        return context_fail(ctx, KINDIT_ERROR_FORMAT, "%s: class_ids: expected uint8 (K, %d)", path,
                            DIT_CLASS_NAME_SIZE);
    TRY(memory_alloc(ctx, (size_t)batch->n, sizeof *batch->labels, &batch->labels));
    for (int64_t i = 0; i < batch->n; i++) {
        int64_t label;
        memcpy(&label, (const char *)labels->data + i * (int64_t)sizeof label, sizeof label);
        TRY(map_label(ctx, path, ids, label, dataset, &batch->labels[i]));
    }
    return KINDIT_OK;
}

KinditStatus sample_batch_open(SampleBatch *out, KinditContext *ctx, const char *path, const Dataset *dataset) {
    Npy labels = {0}, ids = {0};
    *out = (SampleBatch){0};
    KinditStatus status = read_images(out, ctx, path, dataset);
    if (!status) status = read_array(&labels, ctx, path, "arr_1");
    if (!status) status = read_array(&ids, ctx, path, "class_ids");
    if (!status) status = map_labels(out, ctx, path, &labels.array, &ids.array, dataset);
    npy_close(&labels);
    npy_close(&ids);
    if (status) sample_batch_close(out);
    return status;
}

void sample_batch_close(SampleBatch *batch) {
    npy_close(&batch->images);
    memory_free(&batch->labels);
    *batch = (SampleBatch){0};
}

const uint8_t *sample_batch_pixels(const SampleBatch *batch) {
    return batch->images.array.data;
}
