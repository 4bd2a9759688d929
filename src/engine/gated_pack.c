#include <string.h>

#include "engine/gated_chain.h"

static size_t slot_in_size(const GatedShape *shape, int in) {
    return panel_size(in, gated_slot_width(shape, 0));
}

static size_t slot_out_size(const GatedShape *shape, int out) {
    return panel_size(gated_slot_components(shape, true) + 1, out);
}

static const float *tailor_of(const Gate *gate, const Factor *factor, int slot) {
    return gate->tailor[slot] + factor->tailor;
}

size_t gated_pack_size(const GatedShape *shape, int n_slots, int in, int out) {
    size_t slots = (size_t)gated_slots_apart(shape, n_slots) + 1, wide = (size_t)gated_main_width(shape);
    return scratch_size(panel_size(in, (int)wide)) + scratch_size(panel_size((int)wide, out)) +
           scratch_size(slots * slot_in_size(shape, in)) + scratch_size(slots * slot_out_size(shape, out)) +
           2 * scratch_size(slots * (size_t)gated_components(shape));
}

static size_t room_of(const Chain *chain, int slot) {
    return slot < 0 ? 0 : (size_t)(chain->by_thread ? chain->room : slot) + 1;
}

float *gated_slot_in(const Chain *chain, int slot) {
    return chain->slot_in + room_of(chain, slot) * slot_in_size(chain->shape, chain->in.width);
}

float *gated_slot_out(const Chain *chain, int slot) {
    return chain->slot_out + room_of(chain, slot) * slot_out_size(chain->shape, chain->out.width);
}

// Open slots differ in their tailors alone. What they share is packed, copied from slot 0, or in the room already.
typedef enum Shared { SHARED_PACKED, SHARED_COPIED, SHARED_THERE } Shared;

// The slot's panel of the first product: (in.width, components padded to whole vectors).
static void pack_slot_in(const Chain *chain, int slot, Shared shared) {
    const GatedShape *shape = chain->shape;
    int in = chain->in.width, rest = gated_rest_width(shape), width = gated_slot_width(shape, slot);
    float *panel = gated_slot_in(chain, slot);
    const size_t bytes = (size_t)(panel_at(chain->form, panel, in, width) - panel) * sizeof *panel;
    if (shared == SHARED_COPIED) {
        memcpy(panel, gated_slot_in(chain, 0), bytes);
    } else if (shared == SHARED_PACKED) {
        memset(panel, 0, bytes);
        if (rest > 0) {
            const float *rows = chain->in.learngene + (size_t)gated_main_width(shape) * (size_t)in;
            panel_set_columns(chain->form, in, 0, rest, rows, in, panel, width);
        }
    }
    if (slot >= 0) {
        const float *rows = tailor_of(chain->gate, &chain->in, slot);
        panel_set_columns(chain->form, in, rest, shape->n_tailor, rows, in, panel, width);
    }
    if (chain->form == PANEL_ROUNDED) rows_round((size_t)in * (size_t)width, panel);
}

// A slot's part of an array (slots, N_G + N_T).
float *gated_slot_at(const Chain *chain, float *array, int slot) {
    return array + (size_t)(slot + 1) * (size_t)gated_components(chain->shape);
}

// (N_G + N_T), zeros for a tailor that is shut.
static void pack_slot_sigma(const Chain *chain, int slot) {
    size_t learngene = (size_t)chain->shape->n_learngene, tailor = (size_t)chain->shape->n_tailor;
    float *to = gated_slot_at(chain, chain->slot_sigma, slot);
    const float *scale = gated_slot_at(chain, chain->slot_scale, slot);
    if (learngene > 0) memcpy(to, chain->sigma.learngene, learngene * sizeof *to);
    memset(to + learngene, 0, tailor * sizeof *to);
    if (slot >= 0) memcpy(to + learngene, tailor_of(chain->gate, &chain->sigma, slot), tailor * sizeof *to);
    for (size_t i = 0; i < learngene + tailor && chain->form == PANEL_INT8; i++) to[i] *= scale[i];
}

// The scales of the learngene's rows of V, for all slots, then of the tailors'.
static void pack_scales(Engine *engine, const Chain *chain) {
    const int learngene = chain->shape->n_learngene, tailor = chain->shape->n_tailor, out = chain->out.width;
    float *first = gated_slot_at(chain, chain->slot_scale, -1);
    panel_find_scales(engine, learngene, out, chain->out.learngene, out, first);
    memset(first + learngene, 0, (size_t)tailor * sizeof *first);
    for (int slot = 0; slot < gated_slot_count(chain); slot++) {
        float *to = gated_slot_at(chain, chain->slot_scale, slot);
        memcpy(to, first, (size_t)learngene * sizeof *to);
        panel_find_scales(engine, tailor, out, tailor_of(chain->gate, &chain->out, slot), out, to + learngene);
    }
}

// Of the rows that the second product takes from the slot one: the learngene's rest, the tailor, the bias; NULL beyond.
static const float *slot_row(const Chain *chain, int slot, int i) {
    const int rest = gated_rest_width(chain->shape), out = chain->out.width;
    if (i >= gated_slot_rows(chain, slot)) return NULL;
    if (i < rest) return chain->out.learngene + (size_t)(gated_main_width(chain->shape) + i) * (size_t)out;
    if (i < gated_slot_components(chain->shape, slot >= 0)) {
        return tailor_of(chain->gate, &chain->out, slot) + (size_t)(i - rest) * (size_t)out;
    }
    return chain->bias;
}

// The slot's panels of the second product: (slot_rows, out.width) in panels of panel_width columns.
static void pack_slot_out(const Chain *chain, int slot, Shared shared) {
    const int out = chain->out.width, rows = gated_slot_rows(chain, slot);
    // What is the slot's own begins here; where all else is in place, zeros behind it are, too.
    const int own = shared == SHARED_PACKED ? 0 : gated_rest_width(chain->shape) / PANEL_QUAD * PANEL_QUAD;
    const int end = shared == SHARED_THERE ? rows : panel_depth(chain->form, rows);
    const float *scales = gated_slot_at(chain, chain->slot_scale, slot) + gated_main_width(chain->shape);
    for (int j = 0; j < out; j += panel_width(chain->form)) {
        const int width = tile_min(panel_width(chain->form), out - j);
        float *panel = panel_at(chain->form, gated_slot_out(chain, slot), rows, j);
        if (own > 0 && shared == SHARED_COPIED) {
            const float *first = panel_at(chain->form, gated_slot_out(chain, 0), rows, j);
            memcpy(panel, first, (size_t)(panel_at(chain->form, panel, rows, width) - panel) * sizeof *panel);
        }
        for (int i = own; i < end; i += PANEL_QUAD) {
            const float *quad[PANEL_QUAD];
            for (int l = 0; l < PANEL_QUAD; l++) {
                const float *row = slot_row(chain, slot, i + l);
                quad[l] = row ? row + j : NULL;
            }
            panel_set_rows(chain->form, rows, i, quad, scales + i, panel, width);
        }
    }
}

static void pack_slot(const Chain *chain, int slot, Shared shared) {
    pack_slot_in(chain, slot, shared);
    if (chain->output.data) pack_slot_out(chain, slot, shared);
}

void gated_pack_room(Chain *chain, int slot) {
    if (slot != chain->held) pack_slot(chain, slot, chain->held < 0 ? SHARED_PACKED : SHARED_THERE);
    chain->held = slot;
}

void gated_pack_lay_out(Chain *chain, float *weights) {
    const GatedShape *shape = chain->shape;
    size_t slots = (size_t)gated_slot_count(chain) + 1, wide = (size_t)gated_main_width(shape);
    chain->in_panels = scratch_take(&weights, panel_size(chain->in.width, (int)wide));
    chain->out_panels = scratch_take(&weights, panel_size((int)wide, chain->out.width));
    chain->slot_in = scratch_take(&weights, slots * slot_in_size(shape, chain->in.width));
    chain->slot_out = scratch_take(&weights, slots * slot_out_size(shape, chain->out.width));
    chain->slot_sigma = scratch_take(&weights, slots * (size_t)gated_components(shape));
    chain->slot_scale = weights;
}

void gated_pack(Engine *engine, const Chain *chain) {
    const GatedShape *shape = chain->shape;
    int in = chain->in.width, out = chain->out.width, wide = gated_main_width(shape);
    if (chain->form == PANEL_INT8) pack_scales(engine, chain);
    panel_pack_transposed(engine, chain->form, in, wide, chain->in.learngene, in, chain->in_panels);
    if (chain->output.data && wide > 0) {
        panel_pack(engine, chain->form, wide, out, chain->out.learngene, out, chain->slot_scale, chain->out_panels);
    }
    const int slots = gated_slot_count(chain), packed = chain->by_thread ? 0 : slots;
    for (int slot = -1; slot < slots; slot++) pack_slot_sigma(chain, slot);
#pragma omp parallel num_threads(engine->threads)
    {
#pragma omp for schedule(static)
        for (int slot = -1; slot < tile_min(1, packed); slot++) pack_slot(chain, slot, SHARED_PACKED);
#pragma omp for schedule(static)
        for (int slot = 1; slot < packed; slot++) pack_slot(chain, slot, SHARED_COPIED);
    }
}
