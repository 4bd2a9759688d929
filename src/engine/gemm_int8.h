// The serial product of 8-bit integers, by whatever multiplies such here: Intel's AMX, the AVX-512 dot products of four
// (VNNI), or those of ARM. Sums are exact, in 32 bits, and become fp32 at the end, times a scale for each row of A and
// one for each column of B. Where there are no such instructions, fp32 is faster than what could stand in for them.
//
// Operands are -127 .. 127, padded with zeros to whole steps of INT8_STEP terms, INT8_MOST_TERMS of them at most. B is
// kept in quads: its rows 4i .. 4i + 3 lie interleaved, (k / 4, ldb, 4), so that what one instruction multiplies lies
// side by side.
#ifndef ENGINE_GEMM_INT8_H
#define ENGINE_GEMM_INT8_H

#include <stdbool.h>
#include <stdint.h>

#include "base/context.h"

enum {
    INT8_STEP = 64,            // terms that an AMX tile sums at once
    INT8_MOST_TERMS = 1 << 16, // with so many no sum is beyond 32 bits: VNNI adds up to 255 x 127
};

// Chooses for the whole process: the first of these that works, or what the environment's KINDIT_INT8 names: amx, vnni,
// dotprod or none (unknown or unusable: KINDIT_ERROR_ARGUMENT).
KinditStatus gemm_int8_choose(KinditContext *ctx);
bool gemm_int8_is_native(void);          // false: gemm_int8 must not be called
const char *gemm_int8_description(void); // "AMX", "AVX-512 VNNI", "ARM dot products", "none"

// Rows of A `ld` bytes apart, or quads of rows of B 4 ld, with the scales of A's rows or of B's columns.
typedef struct Int8Operand {
    const int8_t *q;
    int ld;
    const float *scale;
} Int8Operand;

// C[i, j] (m, n) = [C[i, j] +] A.scale[i] B.scale[j] (A B)[i, j], k a multiple of INT8_STEP. What a row gets does not
// depend on the other rows. Called between amx_begin and amx_end (amx.h).
void gemm_int8(int m, int n, int k, Int8Operand A, Int8Operand B, float *C, int ldc, bool accumulate);

// The same in plain C, on any processor: its twin.
void gemm_int8_plain(int m, int n, int k, Int8Operand A, Int8Operand B, float *C, int ldc, bool accumulate);

#endif
