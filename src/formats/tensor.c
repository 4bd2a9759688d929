// What the tensor file formats share: element types, sizes, shapes as text, conversion to float.
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/bf16.h"
#include "formats/safetensors.h"

static const struct {
    const char *name;
    size_t size;
} dtypes[] = {
    [DTYPE_F32] = {"F32", 4}, [DTYPE_BF16] = {"BF16", 2}, [DTYPE_F16] = {"F16", 2}, [DTYPE_F64] = {"F64", 8},
    [DTYPE_I64] = {"I64", 8}, [DTYPE_I32] = {"I32", 4},   [DTYPE_I8] = {"I8", 1},   [DTYPE_U8] = {"U8", 1},
};

size_t dtype_size(Dtype dtype) {
    return dtypes[dtype].size;
}

const char *dtype_name(Dtype dtype) {
    return dtypes[dtype].name;
}

KinditStatus tensor_measure(Tensor *tensor, KinditContext *ctx, const char *file) {
    const char *name = tensor->name ? tensor->name : "array";
    if (tensor->n_dims < 0 || tensor->n_dims > TENSOR_MAX_DIMS)
        return context_fail(ctx, KINDIT_ERROR_FORMAT, "%s: %s: expected at most %d dimensions, found %d", file, name,
                            TENSOR_MAX_DIMS, tensor->n_dims);
    size_t n = 1;
    bool fits = true;
    for (int i = 0; i < tensor->n_dims && fits; i++)
        fits = tensor->shape[i] >= 0 && memory_multiply(n, (size_t)tensor->shape[i], &n);
    if (!fits || !memory_multiply(n, dtype_size(tensor->dtype), &tensor->n_bytes) || tensor->n_bytes > PTRDIFF_MAX) {
        char shape[TENSOR_SHAPE_TEXT];
        return context_fail(ctx, KINDIT_ERROR_FORMAT, "%s: %s: shape %s is negative or too large", file, name,
                            tensor_shape_text(shape, tensor->n_dims, tensor->shape));
    }
    tensor->n_elements = n;
    return KINDIT_OK;
}

const char *tensor_shape_text(char out[TENSOR_SHAPE_TEXT], int n_dims, const int64_t *shape) {
    size_t length = (size_t)snprintf(out, TENSOR_SHAPE_TEXT, "(");
    for (int i = 0; i < n_dims && i < TENSOR_MAX_DIMS; i++)
        length +=
            (size_t)snprintf(out + length, TENSOR_SHAPE_TEXT - length, "%s%lld", i ? ", " : "", (long long)shape[i]);
    snprintf(out + length, TENSOR_SHAPE_TEXT - length, ")");
    return out;
}

static float float_from_bits(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static float float_from_f16(uint16_t half) {
    uint32_t sign = (uint32_t)(half & 0x8000) << 16, exponent = (half >> 10) & 31, fraction = half & 0x3ff;
    if (exponent == 31) return float_from_bits(sign | 0x7f800000 | fraction << 13); // infinity, NaN
    if (exponent == 0) {                                                            // zero, subnormal
        float magnitude = (float)fraction * 0x1p-24f;
        return sign ? -magnitude : magnitude;
    }
    return float_from_bits(sign | (exponent + 112) << 23 | fraction << 13);
}

// Source elements are copied one by one because mapped data may be unaligned.
KinditStatus tensor_read_float(const Tensor *tensor, KinditContext *ctx, size_t first, size_t n, float *out) {
    const char *name = tensor->name ? tensor->name : "array";
    if (first > tensor->n_elements || n > tensor->n_elements - first)
        return context_fail(ctx, KINDIT_ERROR_ARGUMENT, "%s: elements %zu.. %zu of %zu asked for", name, first,
                            first + n, tensor->n_elements);
    if (n == 0) return KINDIT_OK;
    const uint8_t *source = (const uint8_t *)tensor->data + first * dtype_size(tensor->dtype);
    if (tensor->dtype == DTYPE_F32) {
        memcpy(out, source, n * sizeof *out);
    } else if (tensor->dtype == DTYPE_BF16 || tensor->dtype == DTYPE_F16) {
        bool is_bf16 = tensor->dtype == DTYPE_BF16;
        for (size_t i = 0; i < n; i++) {
            uint16_t half;
            memcpy(&half, source + 2 * i, sizeof half);
            out[i] = is_bf16 ? bf16_to_float(half) : float_from_f16(half);
        }
    } else if (tensor->dtype == DTYPE_F64) {
        for (size_t i = 0; i < n; i++) {
            double value;
            memcpy(&value, source + 8 * i, sizeof value);
            out[i] = (float)value;
        }
    } else {
        return context_fail(ctx, KINDIT_ERROR_FORMAT, "%s: expected F32, BF16, F16 or F64, found %s", name,
                            dtype_name(tensor->dtype));
    }
    return KINDIT_OK;
}

void tensor_to_bf16(const float *in, uint16_t *out, size_t n) {
    for (size_t i = 0; i < n; i++) out[i] = bf16_from_float(in[i]);
}
