// Symmetric matrices in double, in host memory: what covariances are made of and taken apart with. By OpenBLAS and its
// LAPACK, on one thread: the same bits whatever their number. A matrix (d, d) is whole, both triangles.
// KINDIT_ERROR_UNSUPPORTED in a build without LAPACK.
#ifndef ENGINE_SYMMETRIC_H
#define ENGINE_SYMMETRIC_H

#include "base/context.h"

enum { SYMMETRIC_LARGEST = 16384 }; // d: workspace sizes stay within LAPACK's 32 bits

// a (d, d) += the sum over rows of x x^T, rows (n, d). Only the upper triangle (row <= column) is kept up:
// symmetric_mirror ends a series of calls.
KinditStatus symmetric_add_rows(KinditContext *ctx, int n, int d, const double *rows, double *a);
void symmetric_mirror(int d, double *a); // the lower triangle from the upper

// values (d), rising, and vectors: a becomes them, row k of values[k], each of length 1 and at right angles. By dsyevd.
KinditStatus symmetric_eigen(KinditContext *ctx, int d, double *a, double *values);
// values (d), rising; a is overwritten.
KinditStatus symmetric_eigenvalues(KinditContext *ctx, int d, double *a, double *values);

// out (d, d) = b a b^T with a symmetric and b (d, d).
KinditStatus symmetric_sandwich(KinditContext *ctx, int d, const double *b, const double *a, double *out);

#endif
