// The serial product in plain C: what computes where neither LIBXSMM nor a CBLAS can, and what both are tested against.
#ifndef ENGINE_GEMM_PLAIN_H
#define ENGINE_GEMM_PLAIN_H

#include <stdbool.h>
#include <stddef.h>

// C (m, n) = [C +] A B with A(i, l) = A[i * row + l * column]; B and C row-major, rows ldb and ldc floats apart. Every
// element is one sum over l in order, whatever its place in the tile, so a row does not depend on the others.
void gemm_plain(int m, int n, int k, const float *A, size_t row, size_t column, const float *B, size_t ldb, float *C,
                size_t ldc, bool accumulate);

// Terms up to which the columns behind the last whole vector are summed as the others are: in one go, then added to C.
enum { GEMM_PLAIN_DEPTH = 384 };

// Columns of B that it likes together here.
int gemm_plain_columns(void);
// The instructions it uses here: "AVX2", "SSE2", "NEON", "scalar".
const char *gemm_plain_vectors(void);

#endif
