// How much of a factored model lies in each of its components: the energy of component k is the Frobenius norm of its
// rank-one matrix, |s_k| ||u_k|| ||v_k||. Cutting a model down keeps, in every matrix, the strongest components of the
// learngene and of each tailor.
//
// What a cut loses is, as a mean over the factored matrices,
//
//     sum of squared energies cut / sum of squared energies
//
// of the learngene, and apart from it of each tailor: the share of ||W||^2 that goes, where components are orthogonal
// (as `kindit factorize` makes them), and a measure of it elsewhere. Of a class's matrix the tailor is a few per cent,
// but all that tells the class from others, so each part is held to itself.
#ifndef KIND_ENERGY_H
#define KIND_ENERGY_H

#include "model/model_file.h"
#include "model/storage.h"

typedef struct Energy {
    int n_matrices, n_learngene, n_tailor, n_classes;
    double *learngene; // (n_matrices, N_G) squares
    double *tailor;    // (n_classes, n_matrices, N_T) squares
} Energy;

// Of a factored model's weights.
KinditStatus energy_measure(Energy *out, const Model *model);
void energy_close(Energy *energy);

// kept[0..n_kept-1] = the strongest of `n` squared energies, ties to the lower index, in ascending order of index: what
// stays keeps its order, so that cutting nothing changes nothing.
KinditStatus energy_choose(KinditContext *ctx, const double *squares, int n, int n_kept, int *kept);

// The losses of every cut.
typedef struct EnergyLoss {
    double *learngene; // [N_G + 1]: with only the g strongest components of the learngene
    double *tailor;    // (n_classes, N_T + 1): with only the t strongest of the class's tailor
} EnergyLoss;
KinditStatus energy_losses(EnergyLoss *out, KinditContext *ctx, const Energy *energy);
void energy_losses_close(EnergyLoss *losses);

// What writing the weights as `type` loses: sum (w - rounded w)^2 / sum w^2 of the learngene's U plus that of its V, as
// a mean over the factored matrices; measured on the weights.
KinditStatus energy_measure_rounding(double *out, const Model *model, StorageType type);

#endif
