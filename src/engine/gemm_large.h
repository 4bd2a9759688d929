// The product of matrices that do not fit into cache, by all threads: what is left of rows of activations, which
// linear.c multiplies, are the b by b matrices of OFT's rotations.
#ifndef ENGINE_GEMM_LARGE_H
#define ENGINE_GEMM_LARGE_H

#include "engine/engine.h"

// C (m, n) = [C +] A B, rows lda, ldb and ldc floats apart; k is positive. type: what they are rounded to. Within a
// parallel region it is serial; the number of threads changes no bit.
size_t gemm_large_work(int n, int k); // floats
void gemm_large(int threads, EngineType type, int m, int n, int k, const float *A, int lda, const float *B, int ldb,
                float *C, int ldc, bool accumulate, float *work);

#endif
