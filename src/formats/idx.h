// IDX (the MNIST family): bytes 0 0 type n_dims, big-endian 32-bit sizes, data; plain or gzip-compressed. Type 0x08
// (uint8) only.
#ifndef FORMATS_IDX_H
#define FORMATS_IDX_H

#include "base/context.h"

typedef struct Idx {
    int n_dims; // 1..4
    int64_t shape[4];
    size_t n_elements;
    uint8_t *data; // owned
} Idx;

// The counts must match the data exactly; at most `1 GiB` of data is accepted.
KinditStatus idx_read(Idx *out, KinditContext *ctx, const char *path);
KinditStatus idx_parse(Idx *out, KinditContext *ctx, const char *name, const uint8_t *data, size_t size); // plain or gz
void idx_close(Idx *idx);

#endif
