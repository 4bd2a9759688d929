// Products by the tiles of Intel's AMX, which multiply bf16 and 8-bit integers alike: a step is 64 bytes of a row of A
// and 16 rows of B's pairs or quads, 4 bytes each. gemm_bf16.h and gemm_int8.h say how operands lie.
#ifndef ENGINE_AMX_H
#define ENGINE_AMX_H

#include <stdbool.h>
#include <stdint.h>

// Whether the processor has both; asks the system for the tiles. Until it has answered true, amx_begin and amx_end do
// nothing and none of the others may be called.
bool amx_prepare(void);

// A thread's products come between these two: laying out its tiles takes as long as a small product.
void amx_begin(void);
void amx_end(void);

// C (m, n) = [C +] A B over `steps` steps. A's rows are `a` bytes apart, B's rows (of pairs or quads) ldb columns;
// those of its steps from `joint` on lie at `rest`. What a row gets does not depend on the other rows.
void amx_multiply_bf16(int m, int n, int steps, const void *A, int a, const void *B, int ldb, int joint,
                       const void *rest, float *C, int ldc, bool accumulate);
void amx_multiply_int8(int m, int n, int steps, const void *A, int a, const void *B, int ldb, int32_t *C, int ldc);

// A loop of multiply-adds of bf16 alone, for engine/peak.c: returns a value that depends on it, *flops receives the
// work done.
float amx_peak_bf16(double *flops);

#endif
