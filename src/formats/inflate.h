// zlib decompression of untrusted bytes to a size known beforehand.
#ifndef FORMATS_INFLATE_H
#define FORMATS_INFLATE_H

#include "base/context.h"

typedef enum InflateWrapper { INFLATE_RAW = -15, INFLATE_GZIP = 15 + 16 } InflateWrapper; // zlib's windowBits

// *out = exactly `out_size` bytes from all of `in`; anything less or more is a format error. An `out_size` that deflate
// cannot reach from `in_size` bytes is refused before memory is taken. Caller frees *out with memory_free.
KinditStatus inflate_bytes(uint8_t **out, size_t out_size, KinditContext *ctx, const char *name, const uint8_t *in,
                           size_t in_size, InflateWrapper wrapper);

#endif
