// The chain of gated.c, and the packed weights that its tiles of rows meet: those that are common to all samples, and
// a slot's own.
#ifndef ENGINE_GATED_CHAIN_H
#define ENGINE_GATED_CHAIN_H

#include "engine/panel.h"

// One factor: the learngene's rows, and where the tailor's begin in its parameter vector.
typedef struct Factor {
    const float *learngene;
    size_t tailor;
    int width;
} Factor;

typedef struct Chain {
    const GatedShape *shape;
    const Gate *gate;
    Factor in, out, sigma; // width of sigma: 1
    Activation input;      // (N, in.width)
    Activation raw;        // (N, kept) receives the hidden values before sigma
    Activation other;      // (N, kept) or none: raw's partner in the gradient of sigma ...
    float *sums;           // ... scratch: (tiles of samples, gated_sums) of rows
    const float *bias;     // (out.width) or NULL
    Activation output;     // (N, out.width), or none: raw alone is wanted
    Activation slope;      // where .gelu: output is multiplied by GELU's slope at these (N, out.width)
    bool accumulate;
    float *in_panels, *out_panels; // scratch: main
    float *slot_in, *slot_out;     // scratch: rest, tailor and bias of slots -1 (shut), 0, 1, ...: a room each
    float *slot_sigma;             // scratch: (slots, N_G + N_T), times slot_scale
    float *slot_scale;             // scratch: (slots, N_G + N_T) of rows of V as integers
    float *hidden;                 // scratch: (tiles of rows, stride) after sigma, one tile a thread
    PanelForm form;                // of all panels, and of the hidden rows as an operand
    int tiles;                     // of few rows there are so many, or tiles of GATED_VECTOR rows
    bool by_thread;                // of the rooms of open slots each thread has one, for the slot of its tile ...
    int room, held;                // ... this one, and what it holds: a slot, or -1
} Chain;

enum { GATED_VECTOR = 16 };

// ---- layout of the hidden columns: [main | rest | tailor | 1 | unused] ---------------------------------------------

static inline int gated_components(const GatedShape *shape) {
    return shape->n_learngene + shape->n_tailor;
}

// Floats of a tile's sums over rows: of raw * other, column by column, and, where the learngene is frozen, of the
// tailor's other^T input and raw^T slope.
static inline size_t gated_sums(const GatedShape *shape) {
    const size_t tailors = (size_t)shape->n_tailor * (size_t)(shape->m1 + shape->m2);
    return (size_t)engine_gated_kept(shape) + (shape->frozen ? tailors : 0);
}

// Narrow panels of equal width hold all components with the least padding; what fills some of them is main. (Wide ones
// would leave more to the slots, which have it each.)
static inline int gated_main_width(const GatedShape *shape) {
    const int width = tile_even(gated_components(shape), PANEL_NARROW, GATED_VECTOR);
    return shape->n_learngene / width * width;
}

static inline int gated_rest_width(const GatedShape *shape) {
    return shape->n_learngene - gated_main_width(shape);
}

// Components of the learngene's rest and, if the gate is open, of the tailor.
static inline int gated_slot_components(const GatedShape *shape, bool open) {
    return gated_rest_width(shape) + (open ? shape->n_tailor : 0);
}

// The same in whole vectors: the width of the slot's panel.
static inline int gated_slot_width(const GatedShape *shape, int slot) {
    return tile_round(gated_slot_components(shape, slot >= 0), GATED_VECTOR);
}

static inline bool gated_has_bias_row(const Chain *chain) {
    return chain->bias && chain->form != PANEL_INT8;
}

// Rows that the second product takes from the slot.
static inline int gated_slot_rows(const Chain *chain, int slot) {
    return gated_slot_components(chain->shape, slot >= 0) + gated_has_bias_row(chain);
}

// Slots that differ from one another: without tailors none does.
static inline int gated_slots_apart(const GatedShape *shape, int n_slots) {
    return shape->n_tailor > 0 ? n_slots : 0;
}

static inline int gated_slot_count(const Chain *chain) {
    return gated_slots_apart(chain->shape, chain->gate->n_slots);
}

// ---- packed weights (gated_pack.c) ---------------------------------------------------------------------------------

// Floats they take, of a chain from `in` columns to `out`.
size_t gated_pack_size(const GatedShape *shape, int n_slots, int in, int out);
// Where they lie from `weights` on.
void gated_pack_lay_out(Chain *chain, float *weights);
// All of them; by thread, all but the panels of open slots.
void gated_pack(Engine *engine, const Chain *chain);
// The panels of an open slot into the thread's room.
void gated_pack_room(Chain *chain, int slot);

// A slot's panel of the first product, its panels of the second, and its part of an array (slots, N_G + N_T).
float *gated_slot_in(const Chain *chain, int slot);
float *gated_slot_out(const Chain *chain, int slot);
float *gated_slot_at(const Chain *chain, float *array, int slot);

#endif
