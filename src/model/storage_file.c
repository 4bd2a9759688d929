#include "model/storage_file.h"

#include <stdio.h>
#include <string.h>

#include "formats/quant.h"

static const char scale_suffix[] = ".scale";

static void scale_name(char out[STORAGE_NAME_SIZE], const ParamSpec *spec) {
    snprintf(out, STORAGE_NAME_SIZE, "%s%s", spec->name, scale_suffix);
}

// Shape in the file: of the weights, and in few bits of the scales.
static void shape_weights(const ParamSpec *spec, int bits, int64_t n_rows, int64_t shape[PARAM_MAX_DIMS]) {
    memcpy(shape, spec->shape, sizeof spec->shape);
    shape[0] = n_rows;
    if (bits) shape[1] = (int64_t)quant_row_bytes(bits, spec->row);
}

static void shape_scales(const ParamSpec *spec, int bits, int64_t n_rows, int64_t shape[2]) {
    shape[0] = n_rows;
    shape[1] = (int64_t)quant_row_scales(bits, spec->row);
}

// ---- reading -------------------------------------------------------------------------------------------------------

static int bits_of(const ParamSpec *spec, const Tensor *tensor) {
    if (!tensor || !spec->quantise) return 0;
    return tensor->dtype == DTYPE_I8 ? 8 : tensor->dtype == DTYPE_U8 ? 4 : 0;
}

static KinditStatus fail_dtype(const StoredTensor *tensor, KinditContext *ctx, const Tensor *found,
                               const char *expected) {
    return context_fail(ctx, KINDIT_ERROR_FORMAT, "%s: tensor \"%s\": expected %s, found %s", tensor->file->path,
                        found->name, expected, dtype_name(found->dtype));
}

KinditStatus storage_find(StoredTensor *out, const Safetensors *file, KinditContext *ctx, const ParamSpec *spec,
                          int64_t n_rows) {
    int bits = bits_of(spec, safetensors_find(file, spec->name));
    int64_t shape[PARAM_MAX_DIMS];
    *out = (StoredTensor){.file = file, .bits = bits, .row = spec->row};
    shape_weights(spec, bits, n_rows, shape);
    TRY(safetensors_require(file, ctx, spec->name, spec->n_dims, shape, &out->weights));
    if (bits == 0) {
        Dtype dtype = out->weights->dtype;
        if (dtype == DTYPE_F32 || dtype == DTYPE_BF16 || dtype == DTYPE_F16) return KINDIT_OK;
        return fail_dtype(out, ctx, out->weights, spec->quantise ? "F32, BF16, F16, I8 or U8" : "F32, BF16 or F16");
    }
    char name[STORAGE_NAME_SIZE];
    scale_name(name, spec);
    shape_scales(spec, bits, n_rows, shape);
    TRY(safetensors_require(file, ctx, name, 2, shape, &out->scales));
    return out->scales->dtype == DTYPE_BF16 ? KINDIT_OK : fail_dtype(out, ctx, out->scales, "BF16");
}

bool storage_has_name(const Safetensors *file, const ParamSpec *spec, const char *name) {
    const size_t length = strlen(spec->name);
    if (strncmp(name, spec->name, length) != 0) return false;
    if (name[length] == '\0') return true;
    return strcmp(name + length, scale_suffix) == 0 && bits_of(spec, safetensors_find(file, spec->name)) != 0;
}

KinditStatus storage_read(const StoredTensor *tensor, KinditContext *ctx, size_t first, size_t n, float *out) {
    const size_t row = tensor->row;
    if (tensor->bits == 0) return tensor_read_float(tensor->weights, ctx, first * row, n * row, out);
    const size_t n_bytes = quant_row_bytes(tensor->bits, row), n_scales = quant_row_scales(tensor->bits, row);
    const uint8_t *q = (const uint8_t *)tensor->weights->data + first * n_bytes;
    const uint8_t *scales = (const uint8_t *)tensor->scales->data + first * n_scales * sizeof(uint16_t);
    for (size_t i = 0; i < n; i++, q += n_bytes, scales += n_scales * sizeof(uint16_t))
        if (!quant_decode_row(tensor->bits, q, scales, row, out + i * row))
            return context_fail(ctx, KINDIT_ERROR_FORMAT,
                                "%s: tensor \"%s\": row %zu: expected numbers from 0 to 2^120, found another",
                                tensor->file->path, tensor->scales->name, first + i);
    return KINDIT_OK;
}

const char *storage_of_file(const Safetensors *file) {
    static const struct {
        Dtype dtype;
        StorageType type;
    } marks[] = {
        {DTYPE_I8, STORAGE_INT8}, {DTYPE_U8, STORAGE_INT4}, {DTYPE_F32, STORAGE_F32}, {DTYPE_BF16, STORAGE_BF16}};
    for (size_t k = 0; k < sizeof marks / sizeof *marks; k++)
        for (int i = 0; i < file->n_tensors; i++)
            if (file->tensors[i].dtype == marks[k].dtype) return storage_name(marks[k].type);
    return "other";
}

// ---- writing -------------------------------------------------------------------------------------------------------

KinditStatus storage_buffer_create(StorageBuffer *out, Arena *arena, KinditContext *ctx, StorageType type,
                                   const ParamSpec *spec, int64_t n_rows) {
    const int bits = storage_bits(type, spec);
    const Dtype floats = storage_dtype(type), dtype = bits == 8 ? DTYPE_I8 : bits == 4 ? DTYPE_U8 : floats;
    *out = (StorageBuffer){.type = type, .spec = spec, .n_tensors = 1};
    uint8_t *data;
    TRY(arena_alloc(arena, ctx, (size_t)n_rows * (bits ? quant_row_bytes(bits, spec->row) : spec->row),
                    dtype_size(dtype), &data));
    out->data = data;
    out->tensors[0] = (Tensor){.name = spec->name, .dtype = dtype, .n_dims = spec->n_dims, .data = data};
    shape_weights(spec, bits, n_rows, out->tensors[0].shape);
    if (bits == 0) return KINDIT_OK;
    char *name;
    TRY(arena_alloc(arena, ctx, STORAGE_NAME_SIZE, 1, &name));
    TRY(arena_alloc(arena, ctx, (size_t)n_rows * quant_row_scales(bits, spec->row), sizeof *out->scales, &out->scales));
    scale_name(name, spec);
    out->tensors[out->n_tensors++] = (Tensor){.name = name, .dtype = DTYPE_BF16, .n_dims = 2, .data = out->scales};
    shape_scales(spec, bits, n_rows, out->tensors[1].shape);
    return KINDIT_OK;
}

static KinditStatus write_quantised(StorageBuffer *buffer, KinditContext *ctx, const char *path, int bits, size_t first,
                                    size_t n, const float *w) {
    const size_t row = buffer->spec->row, n_bytes = quant_row_bytes(bits, row), n_scales = quant_row_scales(bits, row);
    uint8_t *q = (uint8_t *)buffer->data + first * n_bytes;
    uint16_t *scales = buffer->scales + first * n_scales;
    for (size_t i = 0; i < n; i++)
        if (!quant_encode_row(bits, w + i * row, row, q + i * n_bytes, scales + i * n_scales))
            return context_fail(ctx, KINDIT_ERROR_NUMERIC,
                                "%s: tensor \"%s\": row %zu: %s keeps numbers up to 2^120, found NaN, infinity or a "
                                "larger one: the model is broken, or write it as f32",
                                path, buffer->spec->name, first + i, storage_name(buffer->type));
    return KINDIT_OK;
}

KinditStatus storage_write(StorageBuffer *buffer, KinditContext *ctx, const char *path, size_t first, size_t n,
                           const float *w) {
    const int bits = storage_bits(buffer->type, buffer->spec);
    const size_t row = buffer->spec->row;
    if (bits) return write_quantised(buffer, ctx, path, bits, first, n, w);
    if (storage_dtype(buffer->type) == DTYPE_BF16)
        tensor_to_bf16(w, (uint16_t *)buffer->data + first * row, n * row);
    else
        memcpy((float *)buffer->data + first * row, w, n * row * sizeof *w);
    return KINDIT_OK;
}
