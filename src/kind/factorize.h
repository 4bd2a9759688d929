// Factored models by singular value decomposition, with no training: W = U diag(s) V^T (paper Eq. 5) whose components
// are at right angles and of falling energy, so that the first of them are the best approximation of their number
// (Eckart and Young): ||W - W_r||^2 is the sum of the other s^2, in Frobenius norm.
//
//   - A dense model: q, k, v (apart), o, in and out each. The learngene takes the first components. Tailors are empty
//     but for their label rows, or take what comes next, class after class: no class then sees those of the others,
//     which is the paper's ablation #1 (factored after training, nothing diverted into tailors).
//   - A factored model: the learngene's product is decomposed anew; tailors stay as they are. What it computes stays
//     the same while all components are kept, but the weakest may now be left out at a fraction of the loss.
#ifndef KIND_FACTORIZE_H
#define KIND_FACTORIZE_H

#include "model/model_file.h"

// A new model with n_learngene (1 and more) and n_tailor components. Dense: n_learngene + classes * n_tailor is at most
// the width. Factored: n_learngene at most what it has, n_tailor as it is. Anything else is an argument error that says
// what would do. *kept: the share of the learngene's (the dense matrices') sum of s^2 that the new learngene has, mean
// of the matrices. In double, rounded once at the end. Progress and cancellation through the context.
KinditStatus factorize_create(Model **out, const Model *model, int n_learngene, int n_tailor, double *kept);

#endif
