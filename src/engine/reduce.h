// Sums over rows: what weight gradients are. Rows are cut into a number of parts that depends on the shape alone; each
// part is summed in order into scratch, and the parts in order into the result, so that threads change no bit.
#ifndef ENGINE_REDUCE_H
#define ENGINE_REDUCE_H

#include "engine/internal.h"

// Columns p, p + 1, ... p + n - 1 of L are the components of a tailor: of the one in the slot of the row's sample.
typedef struct ReduceTailors {
    const Gate *gate; // those without a gradient vector are left out
    int n, rows;      // components of a tailor; rows of a sample
    size_t scale;     // where in a tailor's vector the factors (n) are ...
    size_t G;         // ... and in its gradient vector the sums (n, q)
} ReduceTailors;

// Each result is added to; NULL: not wanted.
typedef struct Reduction {
    int n, p, q;
    Activation L; // (n, p and the tailor's columns), rows ldl apart
    int ldl;
    Activation X; // (n, q), rows ldx apart
    int ldx;
    const float *scale;     // (p), or NULL for ones
    float *G;               // (p, q) += diag(scale) L^T X
    float *sums_l, *sums_x; // (p), (q) += column sums of L, of X
    ReduceTailors tailors;  // .gate NULL: none
} Reduction;

enum { REDUCE_MOST = 2 }; // reductions in a call: their work is shared out together

// The same for one slot, which has a gradient vector, from sums (n, q) that were formed elsewhere.
void reduce_add_tailor(const ReduceTailors *t, int slot, int q, float *sums);

size_t reduce_scratch(int n, int p, int q, int n_tailor, int n_slots); // of one of them
void reduce(Engine *engine, int count, const Reduction *r, float *scratch);

#endif
