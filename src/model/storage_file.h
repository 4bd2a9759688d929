// How a tensor of a model lies in a safetensors file:
//
//     floats       NAME, F32, BF16 or F16, of the tensor's shape
//     8 bits       NAME, I8 (rows, row)                   and NAME.scale, BF16 (rows, 1)
//     4 bits       NAME, U8 (rows, (row + 1) / 2)         and NAME.scale, BF16 (rows, ceil(row / 32))
//
// The numbers are formats/quant.h's. Which of them it is the tensors say themselves, each for itself.
#ifndef MODEL_STORAGE_FILE_H
#define MODEL_STORAGE_FILE_H

#include "base/memory.h"
#include "model/storage.h"

enum { STORAGE_NAME_SIZE = PARAM_NAME_SIZE + 8 }; // NAME.scale

// A tensor of an open file, as it lies there. Who computes with integers takes the bytes from here: row i is
// quant_row_bytes at (const uint8_t *)weights->data + i * weights->shape[1], its scales begin at element
// i * scales->shape[1] of scales->data; both maybe unaligned, both live as long as the file is open.
typedef struct StoredTensor {
    const Safetensors *file;
    const Tensor *weights;
    const Tensor *scales; // NULL for floats
    int bits;             // 8, 4, or 0 for floats
    size_t row;           // numbers per row
} StoredTensor;

// Finds the tensor of `spec`, with n_rows rows, and its scales. A format error names what is missing or of another
// shape or type than any of the above.
KinditStatus storage_find(StoredTensor *out, const Safetensors *file, KinditContext *ctx, const ParamSpec *spec,
                          int64_t n_rows);
// Whether `name` is NAME or NAME.scale of a tensor that storage_find takes from this file.
bool storage_has_name(const Safetensors *file, const ParamSpec *spec, const char *name);
// out [n * row] = rows first .. first + n - 1. A scale that is none is a format error.
KinditStatus storage_read(const StoredTensor *tensor, KinditContext *ctx, size_t first, size_t n, float *out);
// What the file is as a whole: "int8", "int4", "f32", "bf16", by the first of these that any tensor is; "other".
const char *storage_of_file(const Safetensors *file);

// A tensor on its way into a file.
typedef struct StorageBuffer {
    StorageType type;
    const ParamSpec *spec;
    void *data;       // of the weights
    uint16_t *scales; // NULL for floats
    Tensor tensors[2];
    int n_tensors; // 1, or 2 with scales
} StorageBuffer;

// Room in the arena for n_rows rows, and the tensors for safetensors_write.
KinditStatus storage_buffer_create(StorageBuffer *out, Arena *arena, KinditContext *ctx, StorageType type,
                                   const ParamSpec *spec, int64_t n_rows);
// Rows first .. first + n - 1 = w [n * row]. A numeric error when few bits cannot keep a number; it names the tensor
// and `path`.
KinditStatus storage_write(StorageBuffer *buffer, KinditContext *ctx, const char *path, size_t first, size_t n,
                           const float *w);

#endif
