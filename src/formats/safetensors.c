#include "formats/safetensors.h"

#include <stdlib.h>
#include <string.h>

#include "base/json.h"

enum { HEADER_MAX = 100 * 1000 * 1000, PREFIX_SIZE = 8 };
static const char metadata_key[] = "__metadata__";

// A tensor whose place in the file is still a claim.
typedef struct Entry {
    Tensor tensor;
    uint64_t begin, end; // offsets into the data part
} Entry;

static bool dtype_from_name(const char *name, Dtype *out) {
    for (int dtype = DTYPE_F32; dtype <= DTYPE_U8; dtype++) {
        if (strcmp(name, dtype_name((Dtype)dtype)) != 0) continue;
        *out = (Dtype)dtype;
        return true;
    }
    return false;
}

// A JSON number that is an exact non-negative integer.
static bool size_from_json(const cJSON *item, int64_t *out) {
    if (!cJSON_IsNumber(item) || !(item->valuedouble >= 0 && item->valuedouble <= 0x1p53)) return false;
    *out = (int64_t)item->valuedouble;
    return (double)*out == item->valuedouble;
}

static KinditStatus parse_entry(Safetensors *file, KinditContext *ctx, const cJSON *item, Entry *out) {
    *out = (Entry){0};
    Tensor *tensor = &out->tensor;
    char where[1200], *name;
    snprintf(where, sizeof where, "%s: tensor \"%.100s\"", file->path, item->string);
    TRY(arena_copy_string(&file->arena, ctx, item->string, &name));
    tensor->name = name;
    const char *dtype;
    TRY(json_get_string(item, ctx, where, "dtype", &dtype));
    if (!dtype_from_name(dtype, &tensor->dtype))
        return context_fail(ctx, KINDIT_ERROR_UNSUPPORTED,
                            "%s: expected dtype F32, BF16, F16, F64, I64, I32, I8 or U8, found %s", where, dtype);
    const cJSON *shape, *offsets, *size;
    TRY(json_get_array(item, ctx, where, "shape", &shape));
    cJSON_ArrayForEach(size, shape) {
        if (tensor->n_dims == TENSOR_MAX_DIMS)
            return context_fail(ctx, KINDIT_ERROR_UNSUPPORTED, "%s: more than %d dimensions", where, TENSOR_MAX_DIMS);
        if (!size_from_json(size, &tensor->shape[tensor->n_dims++]))
            return context_fail(ctx, KINDIT_ERROR_FORMAT, "%s: \"shape\" holds something that is not a size", where);
    }
    TRY(tensor_measure(tensor, ctx, file->path));

    TRY(json_get_array(item, ctx, where, "data_offsets", &offsets));
    const cJSON *first = offsets->child, *second = first ? first->next : NULL;
    int64_t begin, end;
    if (!second || second->next || !size_from_json(first, &begin) || !size_from_json(second, &end) || begin > end)
        return context_fail(ctx, KINDIT_ERROR_FORMAT, "%s: \"data_offsets\" is not [begin, end]", where);
    if ((uint64_t)(end - begin) != tensor->n_bytes) {
        char text[TENSOR_SHAPE_TEXT];
        return context_fail(ctx, KINDIT_ERROR_FORMAT, "%s: %s %s needs %zu bytes, data_offsets give %lld", where, dtype,
                            tensor_shape_text(text, tensor->n_dims, tensor->shape), tensor->n_bytes,
                            (long long)(end - begin));
    }
    out->begin = (uint64_t)begin;
    out->end = (uint64_t)end;
    return KINDIT_OK;
}

static KinditStatus parse_metadata(Safetensors *file, KinditContext *ctx, const cJSON *object) {
    if (!cJSON_IsObject(object))
        return context_fail(ctx, KINDIT_ERROR_FORMAT, "%s: %s is not an object", file->path, metadata_key);
    TRY(arena_alloc(&file->arena, ctx, (size_t)cJSON_GetArraySize(object), sizeof *file->metadata, &file->metadata));
    const cJSON *item;
    cJSON_ArrayForEach(item, object) {
        if (!cJSON_IsString(item))
            return context_fail(ctx, KINDIT_ERROR_FORMAT, "%s: %s: \"%.100s\" is not a string", file->path,
                                metadata_key, item->string);
        char *key, *value;
        TRY(arena_copy_string(&file->arena, ctx, item->string, &key));
        TRY(arena_copy_string(&file->arena, ctx, item->valuestring, &value));
        file->metadata[file->n_metadata][0] = key;
        file->metadata[file->n_metadata++][1] = value;
    }
    return KINDIT_OK;
}

static int compare_entries(const void *a, const void *b) {
    const Entry *x = a, *y = b;
    if (x->begin != y->begin) return x->begin < y->begin ? -1 : 1;
    if (x->end != y->end) return x->end < y->end ? -1 : 1; // an empty tensor comes before its neighbour
    return strcmp(x->tensor.name, y->tensor.name);
}

// Sorted by offset, each tensor must begin where the one before ended, and the last end where the file does.
static KinditStatus place_tensors(Safetensors *file, KinditContext *ctx, Entry *entries, const uint8_t *data,
                                  size_t data_size) {
    if (file->n_tensors) qsort(entries, (size_t)file->n_tensors, sizeof *entries, compare_entries);
    uint64_t position = 0;
    for (int i = 0; i < file->n_tensors; i++) {
        Tensor *tensor = &entries[i].tensor;
        if (entries[i].begin != position)
            return context_fail(ctx, KINDIT_ERROR_FORMAT,
                                "%s: tensor \"%.100s\" begins at byte %llu, expected %llu (%s)", file->path,
                                tensor->name, (unsigned long long)entries[i].begin, (unsigned long long)position,
                                entries[i].begin < position ? "it overlaps another" : "a hole");
        if (entries[i].end > data_size)
            return context_fail(ctx, KINDIT_ERROR_FORMAT,
                                "%s: tensor \"%.100s\" ends at byte %llu of %zu: the file is truncated", file->path,
                                tensor->name, (unsigned long long)entries[i].end, data_size);
        tensor->data = data + position;
        file->tensors[i] = *tensor;
        position = entries[i].end;
    }
    if (position != data_size)
        return context_fail(ctx, KINDIT_ERROR_FORMAT, "%s: %llu bytes follow the last tensor", file->path,
                            (unsigned long long)(data_size - position));
    return KINDIT_OK;
}

static KinditStatus parse_entries(Safetensors *file, KinditContext *ctx, const cJSON *header, const uint8_t *data,
                                  size_t data_size) {
    if (!cJSON_IsObject(header))
        return context_fail(ctx, KINDIT_ERROR_FORMAT, "%s: the header is not a JSON object", file->path);
    size_t n_items = (size_t)cJSON_GetArraySize(header);
    TRY(arena_alloc(&file->arena, ctx, n_items, sizeof *file->tensors, &file->tensors));
    Entry *entries;
    TRY(memory_alloc(ctx, n_items, sizeof *entries, &entries));
    KinditStatus status = KINDIT_OK;
    const cJSON *item;
    for (item = header->child; item && !status; item = item->next)
        status = strcmp(item->string, metadata_key) == 0 ? parse_metadata(file, ctx, item)
                                                         : parse_entry(file, ctx, item, &entries[file->n_tensors++]);
    if (!status) status = place_tensors(file, ctx, entries, data, data_size);
    memory_free(&entries);
    return status;
}

static KinditStatus parse_header(Safetensors *file, KinditContext *ctx, const uint8_t *data, size_t size) {
    uint64_t header_size = 0;
    for (int i = PREFIX_SIZE - 1; i >= 0 && size >= PREFIX_SIZE; i--) header_size = header_size << 8 | data[i];
    if (size < PREFIX_SIZE || header_size > HEADER_MAX || header_size > size - PREFIX_SIZE)
        return context_fail(ctx, KINDIT_ERROR_FORMAT,
                            "%s: not a safetensors file, or truncated: a header of %llu bytes in a file of %zu",
                            file->path, (unsigned long long)header_size, size);
    data += PREFIX_SIZE;
    cJSON *header;
    TRY(json_parse(&header, ctx, file->path, data, (size_t)header_size));
    KinditStatus status =
        parse_entries(file, ctx, header, data + header_size, size - PREFIX_SIZE - (size_t)header_size);
    cJSON_Delete(header);
    return status;
}

KinditStatus safetensors_parse(Safetensors *out, KinditContext *ctx, const char *name, const void *data, size_t size) {
    *out = (Safetensors){0};
    TRY(file_path(out->path, ctx, "%s", name));
    KinditStatus status = parse_header(out, ctx, data, size);
    if (status) safetensors_close(out);
    return status;
}

KinditStatus safetensors_open(Safetensors *out, KinditContext *ctx, const char *path) {
    return safetensors_open_as(out, ctx, path, safetensors_parse);
}

KinditStatus safetensors_open_as(Safetensors *out, KinditContext *ctx, const char *path, SafetensorsParse parse) {
    *out = (Safetensors){0};
    FileMap map;
    TRY(file_map(&map, ctx, path));
    KinditStatus status = parse(out, ctx, path, map.data, map.size);
    if (status)
        file_unmap(&map);
    else
        out->map = map;
    return status;
}

void safetensors_close(Safetensors *file) {
    file_unmap(&file->map);
    arena_close(&file->arena);
    *file = (Safetensors){0};
}

const Tensor *safetensors_find(const Safetensors *file, const char *name) {
    for (int i = 0; i < file->n_tensors; i++)
        if (strcmp(file->tensors[i].name, name) == 0) return &file->tensors[i];
    return NULL;
}

const char *safetensors_metadata(const Safetensors *file, const char *key) {
    for (int i = 0; i < file->n_metadata; i++)
        if (strcmp(file->metadata[i][0], key) == 0) return file->metadata[i][1];
    return NULL;
}

KinditStatus safetensors_require(const Safetensors *file, KinditContext *ctx, const char *name, int n_dims,
                                 const int64_t *shape, const Tensor **out) {
    char expected[TENSOR_SHAPE_TEXT], found[TENSOR_SHAPE_TEXT];
    tensor_shape_text(expected, n_dims, shape);
    *out = NULL;
    const Tensor *tensor = safetensors_find(file, name);
    if (!tensor)
        return context_fail(ctx, KINDIT_ERROR_FORMAT, "%s: tensor \"%s\" of shape %s is missing", file->path, name,
                            expected);
    if (tensor->n_dims != n_dims || (n_dims && memcmp(tensor->shape, shape, (size_t)n_dims * sizeof *shape) != 0))
        return context_fail(ctx, KINDIT_ERROR_FORMAT, "%s: tensor \"%s\": expected shape %s, found %s", file->path,
                            name, expected, tensor_shape_text(found, tensor->n_dims, tensor->shape));
    *out = tensor;
    return KINDIT_OK;
}
