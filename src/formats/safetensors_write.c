// Writing safetensors: in the caller's order, the header padded with spaces so that the data begin at a multiple of 64.
#include <string.h>

#include "base/json.h"
#include "formats/safetensors.h"

enum { PREFIX_SIZE = 8, DATA_ALIGNMENT = 64 };

// {"dtype": ..., "shape": [...], "data_offsets": [begin, end]}; false when out of memory.
static bool add_entry(cJSON *header, const Tensor *tensor, size_t begin) {
    cJSON *entry = cJSON_AddObjectToObject(header, tensor->name);
    if (!entry || !cJSON_AddStringToObject(entry, "dtype", dtype_name(tensor->dtype))) return false;
    double offsets[2] = {(double)begin, (double)(begin + tensor->n_bytes)};
    double sizes[TENSOR_MAX_DIMS];
    for (int i = 0; i < tensor->n_dims; i++) sizes[i] = (double)tensor->shape[i];
    cJSON *shape = cJSON_CreateDoubleArray(sizes, tensor->n_dims);
    if (!cJSON_AddItemToObject(entry, "shape", shape)) {
        cJSON_Delete(shape);
        return false;
    }
    cJSON *place = cJSON_CreateDoubleArray(offsets, 2);
    if (cJSON_AddItemToObject(entry, "data_offsets", place)) return true;
    cJSON_Delete(place);
    return false;
}

// The header as text; caller frees *out with cJSON_free.
static KinditStatus build_header(char **out, KinditContext *ctx, const char *path, const Tensor *tensors, int n_tensors,
                                 const char *const (*metadata)[2], int n_metadata) {
    cJSON *header = cJSON_CreateObject(), *check = NULL;
    bool enough_memory = header != NULL;
    cJSON *object = n_metadata ? cJSON_AddObjectToObject(header, "__metadata__") : NULL;
    for (int i = 0; i < n_metadata && enough_memory; i++)
        enough_memory = cJSON_AddStringToObject(object, metadata[i][0], metadata[i][1]) != NULL;
    size_t position = 0;
    for (int i = 0; i < n_tensors && enough_memory; i++) {
        enough_memory = add_entry(header, &tensors[i], position);
        position += tensors[i].n_bytes;
    }
    *out = enough_memory ? cJSON_PrintUnformatted(header) : NULL;
    cJSON_Delete(header);
    if (!*out) return context_fail(ctx, KINDIT_ERROR_MEMORY, "%s: out of memory for the header", path);
    KinditStatus status = json_parse(&check, ctx, path, *out, strlen(*out)); // refuses a name given twice
    cJSON_Delete(check);
    if (status) {
        cJSON_free(*out);
        *out = NULL;
    }
    return status;
}

static KinditStatus write_file(KinditContext *ctx, const char *path, const char *header, const Tensor *tensors,
                               int n_tensors) {
    size_t length = strlen(header),
           padding = (DATA_ALIGNMENT - (PREFIX_SIZE + length) % DATA_ALIGNMENT) % DATA_ALIGNMENT;
    uint8_t prefix[PREFIX_SIZE];
    for (int i = 0; i < PREFIX_SIZE; i++) prefix[i] = (uint8_t)((uint64_t)(length + padding) >> (8 * i));
    FileWriter writer;
    TRY(file_begin(&writer, ctx, path)); // the stream remembers a failed write, file_commit reports it
    fwrite(prefix, 1, sizeof prefix, writer.stream);
    fprintf(writer.stream, "%s%*s", header, (int)padding, "");
    for (int i = 0; i < n_tensors; i++)
        if (tensors[i].n_bytes) fwrite(tensors[i].data, 1, tensors[i].n_bytes, writer.stream);
    return file_commit(&writer, ctx);
}

KinditStatus safetensors_write(KinditContext *ctx, const char *path, const Tensor *tensors, int n_tensors,
                               const char *const (*metadata)[2], int n_metadata) {
    Tensor *measured;
    TRY(memory_alloc(ctx, (size_t)n_tensors, sizeof *measured, &measured));
    KinditStatus status = KINDIT_OK;
    for (int i = 0; i < n_tensors && !status; i++) {
        measured[i] = tensors[i];
        status = tensor_measure(&measured[i], ctx, path);
        if (!status && strcmp(measured[i].name, "__metadata__") == 0)
            status = context_fail(ctx, KINDIT_ERROR_ARGUMENT, "%s: no tensor can be named __metadata__", path);
    }
    char *header = NULL;
    if (!status) status = build_header(&header, ctx, path, measured, n_tensors, metadata, n_metadata);
    if (!status) status = write_file(ctx, path, header, measured, n_tensors);
    cJSON_free(header);
    memory_free(&measured);
    return status;
}
