// Matrices in few bits. Every row stands for itself, so rows are copied from file to file as they lie:
//
//     w[i] = q[i] * scale[i / group]
//
//     bits   q              group           a row of n numbers is
//     8      -127 .. 127    the whole row   n bytes, two's complement, and 1 scale
//     4      -7 .. 7        32              (n + 1) / 2 bytes and ceil(n / 32) scales; byte i is q[2i] + 8 in its
//                                           low half, q[2i + 1] + 8 in its high (8 where an odd row has none)
//
// Writing takes scale = max |w| / 127 (or / 7) of the group, rounded to bfloat16, and q = w / scale to nearest, ties to
// even. Readers take any q that fits and any scale from 0 to 2^120.
//   - 8 bits with one scale a row: an integer dot product over the row is multiplied once, at its end; a row of V is a
//     component, whose scale joins its s. 4 bits need the shorter group for accuracy.
//   - Scales in bfloat16 have the range of float, where f16 would lose rows that are still small. That they are coarse
//     costs nothing, since q is chosen for the scale as rounded: 127 (1 + 2^-8) < 127.5, so |w - q * scale| <= scale
//     / 2.
//   - q * scale is exact in float, and encoding what was decoded gives the same bytes.
//   - A group whose scale would be below 2^-126 is all zeros.
#ifndef FORMATS_QUANT_H
#define FORMATS_QUANT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { QUANT_GROUP_4 = 32 };   // numbers that share a scale in 4 bits
#define QUANT_LARGEST 0x1p120f // of weights and of scales: products with q stay finite

// `bits` is 8 or 4 in all of these. Bytes of the q, and number of scales, of a row of n numbers.
size_t quant_row_bytes(int bits, size_t n);
size_t quant_row_scales(int bits, size_t n);

// The scale of a group whose largest |w| is `largest`, as encoding takes it; NaN where that is none to keep.
float quant_scale(int bits, float largest);

// q [quant_row_bytes], scales [quant_row_scales] (bfloat16) = the row w[0..n-1]. False, and nothing of use written,
// when a number is NaN, infinite or beyond QUANT_LARGEST.
bool quant_encode_row(int bits, const float *w, size_t n, uint8_t *q, uint16_t *scales);
// w[0..n-1] = the row. `scales` are bfloat16, little-endian, maybe unaligned (as files are mapped). False when a scale
// is not a number from 0 to QUANT_LARGEST.
bool quant_decode_row(int bits, const uint8_t *q, const void *scales, size_t n, float *w);

#endif
