// Storage types: in how many bits a file keeps the numbers of a model.
//
//     f32, bf16    every tensor
//     int8, int4   matrices of products as formats/quant.h has them; all else (biases, s, label rows, and the first and
//                  the last layer, which see pixels) in bfloat16
//
// All else is 3 to 6 % of the numbers: bfloat16 is wrong by 2^-9 of each at most, less than half a step of 8 bits, and
// float32 would only make the file larger. Memory holds float32 whatever the file does.
#ifndef MODEL_STORAGE_H
#define MODEL_STORAGE_H

#include "formats/safetensors.h"
#include "model/params.h"

typedef enum StorageType { STORAGE_F32, STORAGE_BF16, STORAGE_INT8, STORAGE_INT4 } StorageType;
enum { STORAGE_TYPES = STORAGE_INT4 + 1 };
#define STORAGE_NAMES "f32|bf16|int8|int4" // in that order

const char *storage_name(StorageType type); // "f32", ...

// 8 or 4 where `type` keeps this tensor in so few bits, 0 where it keeps floats: of storage_dtype then.
int storage_bits(StorageType type, const ParamSpec *spec);
Dtype storage_dtype(StorageType type);

// Exact bytes in a file of one row of the tensor, its scales included (headers are not). A file's bytes are the sum
// over its rows: see model_params_bytes.
size_t storage_row_bytes(StorageType type, const ParamSpec *spec);

#endif
