// Sums over rows: what weight gradients are. Rows are cut into a number of parts that depends on the shape alone; each
// part is summed in order into scratch, and the parts in order into the result, so that threads change no bit.
#ifndef ENGINE_REDUCE_H
#define ENGINE_REDUCE_H

#include "engine/internal.h"

// G (p, q) += diag(scale) L^T X with L (n, p), X (n, q); scale (p) or NULL for ones.
size_t reduce_product_scratch(int n, int p, int q);
void reduce_product(Engine *engine, int n, int p, int q, const float *L, int ldl, const float *X, int ldx,
                    const float *scale, float *scratch, float *G);

// out (m) += column sums of X (n, m), or of the elementwise product X * Y when Y is given (same stride).
size_t reduce_columns_scratch(int n, int m);
void reduce_columns(Engine *engine, int n, int m, const float *X, const float *Y, int stride, float *scratch,
                    float *out);

#endif
