// safetensors: 8 bytes little-endian header length, a JSON header {name: {dtype, shape, data_offsets}, "__metadata__":
// {string: string}}, then the bytes of the tensors, gapless. Everything here is checked before any of it is believed:
// header length against the file (at most 100 MB), offsets contiguous, in order of the data without holes or overlap,
// size = shape x dtype without overflow, no duplicate names, nothing after the last tensor.
#ifndef FORMATS_SAFETENSORS_H
#define FORMATS_SAFETENSORS_H

#include "base/context.h"
#include "base/file.h"
#include "base/memory.h"

typedef enum Dtype { DTYPE_F32, DTYPE_BF16, DTYPE_F16, DTYPE_F64, DTYPE_I64, DTYPE_I32, DTYPE_I8, DTYPE_U8 } Dtype;
enum { TENSOR_MAX_DIMS = 8 };

typedef struct Tensor {
    const char *name;
    Dtype dtype;
    int n_dims;
    int64_t shape[TENSOR_MAX_DIMS];
    size_t n_elements, n_bytes;
    const void *data; // into the mapped file (reading) or the caller's memory (writing); maybe unaligned when mapped
} Tensor;

typedef struct Safetensors {
    char path[1024];
    FileMap map;
    Arena arena;
    int n_tensors;
    Tensor *tensors; // in data order
    int n_metadata;
    const char *(*metadata)[2]; // key, value
} Safetensors;

size_t dtype_size(Dtype dtype);
const char *dtype_name(Dtype dtype); // "F32", ...

// Fills n_elements and n_bytes from dtype, n_dims and shape; negative sizes, too many dimensions and products that
// overflow are format errors.
KinditStatus tensor_measure(Tensor *tensor, KinditContext *ctx, const char *file);

// A shape for messages: "(2, 3)".
enum { TENSOR_SHAPE_TEXT = 192 };
const char *tensor_shape_text(char out[TENSOR_SHAPE_TEXT], int n_dims, const int64_t *shape); // returns `out`

KinditStatus safetensors_open(Safetensors *out, KinditContext *ctx, const char *path);
// The same over bytes in memory (not copied, must outlive *out); `name` stands for the path in messages.
KinditStatus safetensors_parse(Safetensors *out, KinditContext *ctx, const char *name, const void *data, size_t size);
// How safetensors_parse, or what reads another format as such a set of tensors (torch_file.h), takes its bytes; and
// safetensors_open for it.
typedef KinditStatus (*SafetensorsParse)(Safetensors *out, KinditContext *ctx, const char *name, const void *data,
                                         size_t size);
KinditStatus safetensors_open_as(Safetensors *out, KinditContext *ctx, const char *path, SafetensorsParse parse);
void safetensors_close(Safetensors *file);

const Tensor *safetensors_find(const Safetensors *file, const char *name);  // NULL when absent
const char *safetensors_metadata(const Safetensors *file, const char *key); // NULL when absent
// Finds a tensor and requires its shape; the message names file, tensor, expected and found.
KinditStatus safetensors_require(const Safetensors *file, KinditContext *ctx, const char *name, int n_dims,
                                 const int64_t *shape, const Tensor **out);

// out[0..n_elements-1] = the tensor as float (F32, BF16, F16, F64 accepted), elements `first` .. `first + n - 1`.
KinditStatus tensor_read_float(const Tensor *tensor, KinditContext *ctx, size_t first, size_t n, float *out);

// Writes atomically; name, dtype, n_dims, shape and data of each tensor count. Tensors with dtype BF16 expect bf16
// data; use tensor_to_bf16 to round (to nearest even, NaN kept).
KinditStatus safetensors_write(KinditContext *ctx, const char *path, const Tensor *tensors, int n_tensors,
                               const char *const (*metadata)[2], int n_metadata);
void tensor_to_bf16(const float *in, uint16_t *out, size_t n);

#endif
