// The class gate, paper Eq. 8 and Algorithm 1:
//
//     W(x) = U_G S_G V_G^T + sum_c g_c(x) U_c S_c V_c^T,      g_c(x) = 1 if x is of class c, else 0
//
// gate_open is that g: for each sample, the slot of the one tailor whose g_c is 1, or none for the null label.
#include "kind/gate.h"

enum { SHUT = -1 };

// The slot of class c, opened if no sample asked for it before.
static int gate_open_class(ClassGate *gate, const ParamSet *params, int c) {
    if (gate->class_slot[c] != SHUT) return gate->class_slot[c];
    int slot = gate->gate.n_slots++;
    gate->class_slot[c] = slot;
    gate->slot_class[slot] = c;
    gate->tailor[slot] = params->tailor[c];
    if (gate->gate.dtailor) engine_zero(gate->engine, gate->dtailor[slot], gate->n_tailor);
    return slot;
}

void gate_open(ClassGate *gate, const ParamSet *params, const int *labels, int n) {
    for (int i = 0; i < n; i++) {
        bool is_null = labels[i] == gate->n_classes;
        gate->slot[i] = is_null ? SHUT : gate_open_class(gate, params, labels[i]);
    }
    gate->gate.n_samples = n;
}

void gate_shut(ClassGate *gate, int n) {
    for (int i = 0; i < n; i++) gate->slot[i] = SHUT;
    gate->gate.n_samples = n;
}

void gate_reset(ClassGate *gate) {
    for (int slot = 0; slot < gate->gate.n_slots; slot++) gate->class_slot[gate->slot_class[slot]] = SHUT;
    gate->gate.n_slots = 0;
}

static KinditStatus gate_alloc(ClassGate *gate, KinditContext *ctx, bool training) {
    size_t n_slots = (size_t)gate->max_slots, n_gradients;
    TRY(memory_alloc(ctx, (size_t)gate->capacity, sizeof *gate->slot, &gate->slot));
    TRY(memory_alloc(ctx, n_slots, sizeof *gate->slot_class, &gate->slot_class));
    TRY(memory_alloc(ctx, (size_t)gate->n_classes, sizeof *gate->class_slot, &gate->class_slot));
    TRY(memory_alloc(ctx, n_slots, sizeof *gate->tailor, &gate->tailor));
    TRY(memory_alloc(ctx, n_slots, sizeof *gate->dtailor, &gate->dtailor));
    if (!training) return KINDIT_OK;
    if (!memory_multiply(n_slots, gate->n_tailor, &n_gradients))
        return context_fail(ctx, KINDIT_ERROR_MEMORY, "gradients of %zu tailors of %zu numbers overflow", n_slots,
                            gate->n_tailor);
    TRY(engine_alloc(gate->engine, n_gradients, &gate->gradients));
    for (size_t slot = 0; slot < n_slots; slot++) gate->dtailor[slot] = gate->gradients + slot * gate->n_tailor;
    return KINDIT_OK;
}

KinditStatus gate_create(ClassGate *out, Engine *engine, KinditContext *ctx, int capacity, int n_classes, int max_slots,
                         size_t n_tailor, bool training) {
    *out = (ClassGate){.capacity = capacity,
                       .n_classes = n_classes,
                       .max_slots = max_slots < n_classes ? max_slots : n_classes,
                       .n_tailor = n_tailor,
                       .engine = engine};
    KinditStatus status = gate_alloc(out, ctx, training);
    if (status) {
        gate_close(out);
        return status;
    }
    for (int c = 0; c < n_classes; c++) out->class_slot[c] = SHUT;
    out->gate = (Gate){.slot = out->slot, .tailor = out->tailor, .dtailor = training ? out->dtailor : NULL};
    return KINDIT_OK;
}

void gate_close(ClassGate *gate) {
    if (gate->engine) engine_free(gate->engine, &gate->gradients);
    memory_free(&gate->slot);
    memory_free(&gate->slot_class);
    memory_free(&gate->class_slot);
    memory_free(&gate->tailor);
    memory_free(&gate->dtailor);
    *gate = (ClassGate){0};
}
