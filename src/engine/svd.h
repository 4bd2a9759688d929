// Singular value decompositions, in double: of a model's matrices, once, in host memory.
#ifndef ENGINE_SVD_H
#define ENGINE_SVD_H

#include "base/context.h"

// a (m, n), row-major, = sum over k < min(m, n) of s[k] left[k] right[k]^T, with s falling, the rows of left (min(m,
// n), m) and of right (min(m, n), n) each of length 1 and at right angles. The largest number of each row of right (the
// first, if several) is positive, so the answer is one. `a` is overwritten. By LAPACK's dgesdd, which OpenBLAS has
// inside, on one thread: the same bits whatever their number. KINDIT_ERROR_NUMERIC when `a` is not finite,
// KINDIT_ERROR_UNSUPPORTED in a build without LAPACK.
KinditStatus svd_compute(KinditContext *ctx, int m, int n, double *a, double *left, double *s, double *right);

#endif
