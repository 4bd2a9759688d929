#include "data/dataset.h"

#include <stdlib.h>
#include <string.h>

enum { DATASET_FORMAT = 1, DATASET_MAX_SIDE = 16384, DATASET_MAX_CHANNELS = 4096 };

bool dataset_class_id_valid(const char *id) {
    if (id[0] == '\0' || id[0] == '.' || strlen(id) >= DIT_CLASS_NAME_SIZE) return false;
    for (; *id; id++)
        if (!strchr("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.", *id)) return false;
    return true;
}

int dataset_find_class(const Dataset *dataset, const char *id) {
    for (int i = 0; i < dataset->n_classes; i++)
        if (strcmp(dataset->classes[i].id, id) == 0) return i;
    return -1;
}

static int compare_strings(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static KinditStatus check_unique_ids(const Dataset *dataset, KinditContext *ctx, const char *name) {
    const char **ids;
    TRY(memory_alloc(ctx, (size_t)dataset->n_classes, sizeof *ids, &ids));
    for (int i = 0; i < dataset->n_classes; i++) ids[i] = dataset->classes[i].id;
    qsort(ids, (size_t)dataset->n_classes, sizeof *ids, compare_strings);
    KinditStatus status = KINDIT_OK;
    for (int i = 1; i < dataset->n_classes && !status; i++)
        if (strcmp(ids[i - 1], ids[i]) == 0)
            status = context_fail(ctx, KINDIT_ERROR_FORMAT, "%s: class id \"%s\" appears twice", name, ids[i]);
    memory_free(&ids);
    return status;
}

static KinditStatus read_class(ModelClass *out, KinditContext *ctx, const char *name, const cJSON *item) {
    const char *id, *shown;
    TRY(json_get_string(item, ctx, name, "id", &id));
    TRY(json_get_string(item, ctx, name, "name", &shown));
    if (!dataset_class_id_valid(id))
        return context_fail(ctx, KINDIT_ERROR_FORMAT,
                            "%s: class id \"%.80s\" is not made of 1..%d letters, digits, - _ .", name, id,
                            DIT_CLASS_NAME_SIZE - 1);
    if (strlen(shown) >= sizeof out->name)
        return context_fail(ctx, KINDIT_ERROR_FORMAT, "%s: the name of class \"%s\" is longer than %d bytes", name, id,
                            DIT_CLASS_NAME_SIZE - 1);
    memcpy(out->id, id, strlen(id) + 1);
    memcpy(out->name, shown, strlen(shown) + 1);
    return KINDIT_OK;
}

static KinditStatus read_classes(Dataset *dataset, KinditContext *ctx, const char *name) {
    const cJSON *array, *item;
    TRY(json_get_array(dataset->json, ctx, name, "classes", &array));
    int n = cJSON_GetArraySize(array);
    if (n < 1 || n > DIT_MAX_CLASSES)
        return context_fail(ctx, KINDIT_ERROR_FORMAT, "%s: expected 1..%d classes, found %d", name, DIT_MAX_CLASSES, n);
    TRY(memory_alloc(ctx, (size_t)n, sizeof *dataset->classes, &dataset->classes));
    cJSON_ArrayForEach(item, array) TRY(read_class(&dataset->classes[dataset->n_classes++], ctx, name, item));
    return check_unique_ids(dataset, ctx, name);
}

static KinditStatus read_split(const cJSON *splits, KinditContext *ctx, const char *name, const char *key, int64_t n,
                               DatasetSplit *out) {
    const cJSON *range;
    TRY(json_get_array(splits, ctx, name, key, &range));
    double first = -1, count = -1;
    if (cJSON_GetArraySize(range) == 2) {
        first = cJSON_GetNumberValue(cJSON_GetArrayItem(range, 0)); // NaN when it is no number
        count = cJSON_GetNumberValue(cJSON_GetArrayItem(range, 1));
    }
    if (!(first >= 0 && first <= (double)n && count >= 0 && count <= (double)n && first + count <= (double)n))
        return context_fail(ctx, KINDIT_ERROR_FORMAT, "%s: split \"%s\": expected [first, count] within %lld samples",
                            name, key, (long long)n);
    *out = (DatasetSplit){.first = (int64_t)first, .count = (int64_t)count};
    return KINDIT_OK;
}

static KinditStatus read_splits(Dataset *dataset, KinditContext *ctx, const char *name) {
    const cJSON *splits;
    TRY(json_get_object(dataset->json, ctx, name, "splits", &splits));
    TRY(read_split(splits, ctx, name, "train", dataset->n, &dataset->train));
    if (cJSON_HasObjectItem(splits, "heldout"))
        TRY(read_split(splits, ctx, name, "heldout", dataset->n, &dataset->heldout));
    return KINDIT_OK;
}

static KinditStatus open_samples(Dataset *dataset, KinditContext *ctx) {
    char path[1024];
    TRY(file_path(path, ctx, "%s/images.npy", dataset->path));
    dataset->latents = !file_exists(path);
    if (dataset->latents) {
        TRY(file_path(path, ctx, "%s/latents.npy", dataset->path));
        if (!file_exists(path))
            return context_fail(ctx, KINDIT_ERROR_FORMAT, "%s: holds neither images.npy nor latents.npy",
                                dataset->path);
    }
    TRY(npy_open(&dataset->images, ctx, path));
    const Tensor *array = &dataset->images.array;
    int size = dataset->size, channels = dataset->channels;
    bool shape_ok = array->n_dims == 4 && array->shape[0] >= 1 && array->shape[2] == size;
    if (dataset->latents)
        shape_ok = shape_ok && array->dtype == DTYPE_F32 && array->shape[1] == channels && array->shape[3] == size;
    else
        shape_ok = shape_ok && array->dtype == DTYPE_U8 && array->shape[1] == size && array->shape[3] == channels;
    if (!shape_ok)
        return context_fail(ctx, KINDIT_ERROR_FORMAT,
                            "%s: expected %s with image_size %d and channels %d of dataset.json", path,
                            dataset->latents ? "float32 (N, C, H, W)" : "uint8 (N, H, W, C)", size, channels);
    dataset->n = array->shape[0];
    return KINDIT_OK;
}

static KinditStatus open_labels(Dataset *dataset, KinditContext *ctx) {
    char path[1024];
    TRY(file_path(path, ctx, "%s/labels.npy", dataset->path));
    TRY(npy_open(&dataset->labels, ctx, path));
    const Tensor *array = &dataset->labels.array;
    if (array->dtype != DTYPE_I32 || array->n_dims != 1 || array->shape[0] != dataset->n)
        return context_fail(ctx, KINDIT_ERROR_FORMAT, "%s: expected int32 (%lld), one label a sample", path,
                            (long long)dataset->n);
    for (int64_t i = 0; i < dataset->n; i++) {
        int label = dataset_label(dataset, i);
        if (label < 0 || label >= dataset->n_classes)
            return context_fail(ctx, KINDIT_ERROR_FORMAT, "%s: label %lld: expected 0..%d, found %d", path,
                                (long long)i, dataset->n_classes - 1, label);
    }
    return KINDIT_OK;
}

static KinditStatus dataset_read(Dataset *dataset, KinditContext *ctx) {
    char name[1024];
    int64_t format, size, channels;
    TRY(file_path(name, ctx, "%s/dataset.json", dataset->path));
    if (!file_exists(name))
        return context_fail(ctx, KINDIT_ERROR_IO,
                            "%s: not a data set: it has no dataset.json (make one with `kindit data`)", dataset->path);
    TRY(json_read(&dataset->json, ctx, name));
    TRY(json_get_int(dataset->json, ctx, name, "format", 1, DATASET_FORMAT, &format));
    TRY(json_get_int(dataset->json, ctx, name, "image_size", 1, DATASET_MAX_SIDE, &size));
    TRY(json_get_int(dataset->json, ctx, name, "channels", 1, DATASET_MAX_CHANNELS, &channels));
    dataset->size = (int)size;
    dataset->channels = (int)channels;
    TRY(read_classes(dataset, ctx, name));
    TRY(open_samples(dataset, ctx));
    TRY(open_labels(dataset, ctx));
    return read_splits(dataset, ctx, name);
}

KinditStatus dataset_open(Dataset **out, KinditContext *ctx, const char *path) {
    TRY(memory_alloc(ctx, 1, sizeof **out, out));
    KinditStatus status = file_path((*out)->path, ctx, "%s", path);
    if (!status) status = dataset_read(*out, ctx);
    if (status) dataset_close(out);
    return status;
}

void dataset_close(Dataset **dataset) {
    if (!dataset || !*dataset) return;
    npy_close(&(*dataset)->images);
    npy_close(&(*dataset)->labels);
    memory_free(&(*dataset)->classes);
    cJSON_Delete((*dataset)->json);
    memory_free(dataset);
}

int dataset_label(const Dataset *dataset, int64_t i) {
    int32_t label; // the mapped array may lie unaligned
    memcpy(&label, (const char *)dataset->labels.array.data + (size_t)i * sizeof label, sizeof label);
    return label;
}
