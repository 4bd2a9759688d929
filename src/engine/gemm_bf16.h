// The serial product of bf16 operands with sums in fp32, by the tiles of Intel's AMX. Where there are none, products of
// bf16 rows are taken in fp32 (gemm.c). (AVX-512's dot products of pairs measured slower than its fp32 on such a
// machine.)
//
// Operands are padded with zeros to whole steps of BF16_STEP terms. B is kept in pairs: its rows 2i and 2i + 1 lie
// interleaved, (k / 2, ldb, 2), so that what one instruction multiplies lies side by side.
#ifndef ENGINE_GEMM_BF16_H
#define ENGINE_GEMM_BF16_H

#include <stdbool.h>
#include <stdint.h>

#include "base/context.h"

enum {
    BF16_STEP = 32,  // terms that an AMX tile sums at once
    BF16_PANEL = 128 // columns of B that lie together where gemm_bf16_panels reads them
};

// Chooses for the whole process: AMX where it works, or what the environment's KINDIT_BF16 names: amx or fp32 (unknown
// or unusable: KINDIT_ERROR_ARGUMENT).
KinditStatus gemm_bf16_choose(KinditContext *ctx);
bool gemm_bf16_is_native(void); // false: it must not be called

// C (m, n) = [C +] A B, k a multiple of BF16_STEP; A's rows are lda elements apart, B's pairs of rows 2 ldb. What a
// row gets does not depend on the other rows. Called between amx_begin and amx_end (amx.h).
void gemm_bf16(int m, int n, int k, const uint16_t *A, int lda, const uint16_t *B, int ldb, float *C, int ldc,
               bool accumulate);

// The same where B's rows from k1 on (a multiple of BF16_STEP) lie at `rest`: to the bit what two products would sum.
void gemm_bf16_joined(int m, int n, int k, const uint16_t *A, int lda, const uint16_t *B, int ldb, int k1,
                      const uint16_t *rest, float *C, int ldc, bool accumulate);

// The same where B lies in panels of BF16_PANEL columns (the last one may be narrower), each of `depth` rows one after
// the other, of which it takes k from `first` on (multiples of BF16_STEP). It is the faster way where a B of many
// columns is used again and again: rows far apart are in each other's way in the nearest cache.
void gemm_bf16_panels(int m, int n, int k, const uint16_t *A, int lda, const uint16_t *panels, int depth, int first,
                      float *C, int ldc, bool accumulate);

// gemm_bf16 in plain C, on any processor: its twin.
void gemm_bf16_plain(int m, int n, int k, const uint16_t *A, int lda, const uint16_t *B, int ldb, float *C, int ldc,
                     bool accumulate);

#endif
