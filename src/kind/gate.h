// The class gate (paper Eq. 8, Algorithm 1):
//
//     W(x) = U_G S_G V_G^T + sum_c g_c(x) U_c S_c V_c^T,      g_c(x) = 1 if x is of class c, else 0
//
// Only one g_c is 1, so the sum is never formed: each sample names the one tailor that is open for it (its slot), and a
// null label names none. Tailors no sample names are not in the gate at all: not read, not multiplied, not updated.
#ifndef KIND_GATE_H
#define KIND_GATE_H

#include "model/params.h"

// Owns a Gate for batches of up to `capacity` samples, and the gradient vectors of the tailors open since the last
// reset.
typedef struct ClassGate {
    Gate gate; // hand this to the model
    int capacity, n_classes;
    int *slot;       // [capacity]
    int *slot_class; // [max slots] the class of each slot
    int *class_slot; // [n_classes] its slot, or -1
    const float **tailor;
    float **dtailor;
    int max_slots;    // as many as classes can be open, not as many as there are
    float *gradients; // engine memory, max_slots tailor vectors
    size_t n_tailor;
    Engine *engine;
} ClassGate;

// max_slots bounds the different classes that may be open between two resets (a step's samples at most). With
// `training`, gradient vectors of n_tailor floats are allocated, max_slots or n_classes of them, whichever is fewer.
KinditStatus gate_create(ClassGate *out, Engine *engine, KinditContext *ctx, int capacity, int n_classes, int max_slots,
                         size_t n_tailor, bool training);
void gate_close(ClassGate *gate);
// Forgets all slots (start of an optimiser step); gradient vectors are zeroed when a slot opens.
void gate_reset(ClassGate *gate);
// Opens the tailors of labels[0..n-1], each 0..n_classes (n_classes = null label; `params` holds the tailors), n at
// most `capacity`. Slots opened since the last reset stay, so that gradients accumulate over micro-batches.
void gate_open(ClassGate *gate, const ParamSet *params, const int *labels, int n);
// Every tailor shut for n samples (the paper's Figure 7 with null labels).
void gate_shut(ClassGate *gate, int n);

#endif
