#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "cli/info.h"
#include "data/dataset.h"
#include "model/model_source.h"
#include "model/storage_file.h"

static void add_class(cJSON *list, const ModelClass *class) {
    char text[2 * DIT_CLASS_NAME_SIZE + 4];
    bool same = strcmp(class->id, class->name) == 0;
    snprintf(text, sizeof text, same ? "%s" : "%s (%s)", class->id, class->name);
    cJSON_AddItemToArray(list, cJSON_CreateString(text));
}

static void add_tensors(cJSON *json, const Safetensors *file) {
    size_t bytes = 0, elements = 0;
    for (int i = 0; i < file->n_tensors; i++) {
        bytes += file->tensors[i].n_bytes;
        elements += file->tensors[i].n_elements;
    }
    info_add_int(json, "n_tensors", file->n_tensors);
    info_add_int(json, "n_elements", (int64_t)elements);
    info_add_int(json, "tensor_bytes", (int64_t)bytes);
    info_add_int(json, "file_bytes", (int64_t)file->map.size);
    cJSON_AddStringToObject(json, "storage", storage_of_file(file));
}

// Every tensor, for files that are no model.
static void add_tensor_list(cJSON *json, const Safetensors *file) {
    cJSON *list = cJSON_AddArrayToObject(json, "tensors");
    for (int i = 0; i < file->n_tensors; i++) {
        const Tensor *tensor = &file->tensors[i];
        cJSON *item = cJSON_CreateObject(), *shape;
        cJSON_AddStringToObject(item, "name", tensor->name);
        cJSON_AddStringToObject(item, "dtype", dtype_name(tensor->dtype));
        shape = cJSON_AddArrayToObject(item, "shape");
        for (int d = 0; d < tensor->n_dims; d++)
            cJSON_AddItemToArray(shape, cJSON_CreateNumber((double)tensor->shape[d]));
        cJSON_AddItemToArray(list, item);
    }
}

static void add_metadata(cJSON *json, const Safetensors *file, const char *key) {
    const char *value = safetensors_metadata(file, key);
    if (value) cJSON_AddStringToObject(json, key, value);
}

// A tailor, or a file of another program.
static KinditStatus add_part_file(cJSON *json, const Safetensors *file, bool tailor) {
    cJSON_AddStringToObject(json, "type", tailor ? "tailor" : "safetensors");
    add_metadata(json, file, "class");
    add_metadata(json, file, "name");
    add_metadata(json, file, "learngene_sha256");
    add_tensors(json, file);
    if (!tailor) add_tensor_list(json, file);
    return KINDIT_OK;
}

// The last line of metrics.csv under the names of the first, for a run.
static void add_last_metrics(cJSON *json, const char *path) {
    char header[1024] = "", line[1024], last[1024] = "";
    FILE *stream = fopen(path, "r");
    if (!stream) return;
    if (!fgets(header, sizeof header, stream)) header[0] = '\0';
    while (fgets(line, sizeof line, stream)) memcpy(last, line, sizeof last);
    fclose(stream);
    cJSON *object = cJSON_AddObjectToObject(json, "last_metrics");
    char *key_end, *value_end;
    const char *key = strtok_r(header, ",\n", &key_end), *value = strtok_r(last, ",\n", &value_end);
    for (; key && value; key = strtok_r(NULL, ",\n", &key_end), value = strtok_r(NULL, ",\n", &value_end))
        cJSON_AddNumberToObject(object, key, strtod(value, NULL));
}

static const char *describe_form(const ModelSource *source) {
    if (source->form == MODEL_DECOMPOSED) return source->folder[0] ? "decomposed folder" : "learngene file";
    return source->folder[0] ? "folder" : "single file";
}

static KinditStatus add_tailor_bytes(cJSON *json, KinditContext *ctx, const ModelSource *source, const int *chosen,
                                     int n) {
    int64_t bytes = 0;
    for (int i = 0; i < n; i++) {
        char path[1024];
        FileMap map;
        TRY(file_path(path, ctx, "%s/tailors/%s.safetensors", source->folder, source->classes[chosen[i]].id));
        TRY(file_map(&map, ctx, path));
        bytes += (int64_t)map.size;
        file_unmap(&map);
    }
    info_add_int(json, "tailor_file_bytes", bytes);
    return KINDIT_OK;
}

static KinditStatus add_source(cJSON *json, KinditContext *ctx, const ModelSource *source, const InfoRequest *request) {
    int *chosen, n_chosen;
    cJSON_AddStringToObject(json, "type", source->dit_config.classifier ? "classifier" : "model");
    cJSON_AddStringToObject(json, "form", describe_form(source));
    if (source->folder[0]) cJSON_AddStringToObject(json, "folder", source->folder);
    add_tensors(json, &source->weights);
    TRY(model_source_choose(source, ctx, NULL, &chosen, &n_chosen));
    KinditStatus status = KINDIT_OK;
    if (source->form == MODEL_DECOMPOSED) status = add_tailor_bytes(json, ctx, source, chosen, n_chosen);
    DitConfig config = source->dit_config;
    config.n_classes = n_chosen;
    if (!status) status = info_add_structure(json, ctx, &config, request);
    cJSON *classes = cJSON_AddArrayToObject(json, "classes");
    for (int i = 0; i < n_chosen; i++) add_class(classes, &source->classes[chosen[i]]);
    const cJSON *training = cJSON_GetObjectItemCaseSensitive(source->config, "training");
    if (training) cJSON_AddItemToObject(json, "trained_with", cJSON_Duplicate(training, true));
    const cJSON *adapt = cJSON_GetObjectItemCaseSensitive(source->config, "adapt");
    cJSON *adapted = adapt ? cJSON_Duplicate(adapt, true) : NULL;
    cJSON_DeleteItemFromObjectCaseSensitive(adapted, "learngene"); // the base's config, which is not this model's
    if (adapted) cJSON_AddItemToObject(json, "adapted", adapted);
    memory_free(&chosen);
    return status;
}

static KinditStatus add_model(cJSON *json, KinditContext *ctx, const char *path, const InfoRequest *request) {
    ModelSource source;
    char metrics[1024];
    TRY(model_source_open(&source, ctx, path));
    KinditStatus status = add_source(json, ctx, &source, request);
    model_source_close(&source);
    if (!status) status = file_path(metrics, ctx, "%s/metrics.csv", path);
    if (!status) add_last_metrics(json, metrics);
    return status;
}

static KinditStatus add_dataset(cJSON *json, KinditContext *ctx, const char *path) {
    Dataset *dataset;
    TRY(dataset_open(&dataset, ctx, path));
    cJSON_AddStringToObject(json, "type", "data set");
    cJSON_AddStringToObject(json, "holds", dataset->latents ? "latents" : "images");
    info_add_int(json, "n_images", dataset->n);
    info_add_int(json, "train", dataset->train.count);
    info_add_int(json, "heldout", dataset->heldout.count);
    info_add_int(json, "image_size", dataset->size);
    info_add_int(json, "channels", dataset->channels);
    info_add_int(json, "n_classes", dataset->n_classes);
    info_add_int(json, "file_bytes", (int64_t)(dataset->images.map.size + dataset->labels.map.size));
    for (const char *const *key = (const char *const[]){"name", "preprocessing", "counts", "source_sha256", NULL}; *key;
         key++) {
        const cJSON *item = cJSON_GetObjectItemCaseSensitive(dataset->json, *key);
        if (item) cJSON_AddItemToObject(json, *key, cJSON_Duplicate(item, true));
    }
    cJSON *classes = cJSON_AddArrayToObject(json, "classes");
    for (int c = 0; c < dataset->n_classes; c++) add_class(classes, &dataset->classes[c]);
    dataset_close(&dataset);
    return KINDIT_OK;
}

static KinditStatus add_file(cJSON *json, KinditContext *ctx, const char *path, const InfoRequest *request) {
    Safetensors file;
    TRY(safetensors_open(&file, ctx, path));
    const char *part = safetensors_metadata(&file, "part");
    bool tailor = part && strcmp(part, "tailor") == 0, model = safetensors_metadata(&file, "kindit") != NULL;
    KinditStatus status = KINDIT_OK;
    if (tailor || !model) status = add_part_file(json, &file, tailor);
    safetensors_close(&file);
    return tailor || !model ? status : add_model(json, ctx, path, request);
}

KinditStatus info_add_path(cJSON *json, KinditContext *ctx, const char *path, const InfoRequest *request) {
    char dataset[1024];
    cJSON_AddStringToObject(json, "path", path);
    if (!file_is_folder(path)) return add_file(json, ctx, path, request);
    TRY(file_path(dataset, ctx, "%s/dataset.json", path));
    return file_exists(dataset) ? add_dataset(json, ctx, path) : add_model(json, ctx, path, request);
}
