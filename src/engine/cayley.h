// Rotations from skew-symmetric matrices, as peft's OFT makes them (Qiu et al. 2023; Q_i is its oft_R.weight):
//
//     terms 0    R = (I - Q) (I + Q)^-1                            Cayley's transform, exact: R is orthogonal
//     terms t    R = I + 2 Q + 2 Q^2 + ... + 2 Q^(p-1) + Q^p       its Neumann series with Q for -Q: the transpose, for
//                                                                  small Q; p = max(t - 1, 3); 2: I + 2 Q
//
// q (b (b - 1) / 2) is the upper triangle of Q, row after row; `work` has cayley_work floats. `threads` share the
// products of one rotation: its matrices are as large as a row of x where one rotation turns all of it.
#ifndef ENGINE_CAYLEY_H
#define ENGINE_CAYLEY_H

#include "engine/engine.h"

enum { CAYLEY_MOST_TERMS = 64 };

static inline size_t cayley_numbers(int b) { // of q
    return (size_t)b * (size_t)(b - 1) / 2;
}
size_t cayley_work(int b, int terms);
// R (b, b).
void cayley_forward(int threads, int b, int terms, const float *q, float *work, float *R);
// dq += the gradient, given R and dR^T (b, b). type: what its products are rounded to.
void cayley_backward(int threads, EngineType type, int b, int terms, const float *q, const float *R, const float *dRt,
                     float *work, float *dq);

#endif
