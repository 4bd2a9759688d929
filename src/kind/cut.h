// A smaller model from a larger one, with no retraining: the first of its classes, and of every factored matrix the
// strongest components (energy.h). Copies of rows, never arithmetic.
#ifndef KIND_CUT_H
#define KIND_CUT_H

#include "kind/energy.h"

// What is left of a model.
typedef struct Cut {
    int n_classes;             // its first
    int n_learngene, n_tailor; // components of the learngene and of each tailor, in every factored matrix
} Cut;

// A new model, `full` cut down; `energy` is of `full`, and `cut` at most what it has. Rows that stay keep their order.
KinditStatus cut_create(Model **out, const Model *full, const Energy *energy, const Cut *cut);

#endif
