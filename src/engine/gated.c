// The class-gated low-rank product. Forward and the gradient of its input are one chain with the factors exchanged:
//
//     y  = ((x  U^T) * s) V + b      keeps  a  = x  U^T
//     dx = ((dy V^T) * s) U          keeps  dh = dy V^T
//
// and the parameter gradients follow from a and dh alone: dU = s * (dh^T x), dV = s * (a^T dy), ds = sum of a * dh.
//
// A tile of rows goes through the whole chain while it is in cache. Its hidden columns are [main | rest | tailor | 1 |
// unused]: `main` are the learngene's components that fill whole panels and are common to all samples. The `rest` of
// the learngene is packed once a slot together with the slot's tailor (and the bias, the output row of the constant 1):
// the few columns of a tailor alone would leave most of a vector empty, and the output would be passed over once more
// for each.
#include <string.h>

#include "engine/panel.h"
#include "engine/reduce.h"
#include "engine/simd.h"
#include "engine/tile.h"

enum {
    VECTOR = 8,
    BLOCK = 64 // columns of a tailor's gradient in a work item
};

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
    const float *input;    // (N, in.width)
    float *raw;            // (N, N_G + N_T) hidden values before sigma
    const float *bias;     // (out.width) or NULL
    float *output;         // (N, out.width), or NULL: raw alone is wanted
    bool accumulate;
    float *in_panels, *out_panels; // scratch: main
    float *slot_in, *slot_out;     // scratch: rest, tailor and bias of slots -1 (shut), 0, 1, ...
    float *hidden;                 // scratch: (N, stride) after sigma
} Chain;

// ---- layout of the hidden columns ----------------------------------------------------------------------------------

static int components(const GatedShape *shape) {
    return shape->n_learngene + shape->n_tailor;
}

// Panels of equal width hold all components with the least padding.
static int panel_width(const GatedShape *shape) {
    return tile_even(components(shape), PANEL_WIDTH, VECTOR);
}

static int main_width(const GatedShape *shape) {
    return shape->n_learngene / panel_width(shape) * panel_width(shape);
}

static int rest_width(const GatedShape *shape) {
    return shape->n_learngene - main_width(shape);
}

// Components of the learngene's rest and, if the gate is open, of the tailor.
static int slot_components(const GatedShape *shape, bool open) {
    return rest_width(shape) + (open ? shape->n_tailor : 0);
}

static int slot_stride(const GatedShape *shape) {
    return tile_round(slot_components(shape, true), VECTOR);
}

static int hidden_stride(const GatedShape *shape) { // a column more than components: the constant 1
    return main_width(shape) + tile_round(slot_components(shape, true) + 1, VECTOR);
}

static size_t slot_in_size(const GatedShape *shape, int in) {
    return (size_t)in * (size_t)slot_stride(shape);
}

static size_t slot_out_size(const GatedShape *shape, int out) {
    return (size_t)out * (size_t)(slot_components(shape, true) + 1);
}

static const float *tailor_of(const Gate *gate, const Factor *factor, int slot) {
    return gate->tailor[slot] + factor->tailor;
}

// ---- tiles and segments of rows ------------------------------------------------------------------------------------

// Long samples are cut into equal tiles of at most PANEL_ROWS; short ones share a tile.
typedef struct Rows {
    int per_tile, tiles_per_sample, samples_per_tile;
    int tiles;
} Rows;

static Rows cut_rows(const GatedShape *shape, int n_samples) {
    Rows r = {.tiles_per_sample = tile_count(shape->rows, PANEL_ROWS), .samples_per_tile = 1};
    if (shape->rows < PANEL_ROWS) r.samples_per_tile = PANEL_ROWS / shape->rows;
    r.per_tile = tile_count(shape->rows * r.samples_per_tile, r.tiles_per_sample);
    r.tiles = tile_count(n_samples, r.samples_per_tile) * r.tiles_per_sample;
    return r;
}

typedef struct Span {
    int first, count; // rows
    int slot;         // of a segment
} Span;

static Span tile_rows(const Rows *r, const GatedShape *shape, int n_samples, int tile) {
    int sample = tile / r->tiles_per_sample * r->samples_per_tile;
    int samples = tile_min(r->samples_per_tile, n_samples - sample);
    int offset = tile % r->tiles_per_sample * r->per_tile;
    int count = tile_min(r->per_tile, samples * shape->rows - offset);
    return (Span){.first = sample * shape->rows + offset, .count = count > 0 ? count : 0};
}

// The longest run of rows from `row` on, within the tile, whose samples have the same slot.
static Span next_segment(const Chain *chain, Span tile, int row) {
    int rows = chain->shape->rows, end = tile.first + tile.count, sample = row / rows;
    Span segment = {.first = row, .slot = chain->gate->slot[sample]};
    while (sample * rows < end && chain->gate->slot[sample] == segment.slot) sample++;
    segment.count = tile_min(end, sample * rows) - row;
    return segment;
}

// ---- packing -------------------------------------------------------------------------------------------------------

static size_t chain_scratch(const GatedShape *shape, int n_samples, int n_slots, int in, int out) {
    size_t slots = (size_t)n_slots + 1, wide = (size_t)main_width(shape);
    return scratch_size(wide * (size_t)in) + scratch_size(wide * (size_t)out) +
           scratch_size(slots * slot_in_size(shape, in)) + scratch_size(slots * slot_out_size(shape, out)) +
           scratch_size((size_t)n_samples * (size_t)shape->rows * (size_t)hidden_stride(shape));
}

static float *slot_in(const Chain *chain, int slot) {
    return chain->slot_in + (size_t)(slot + 1) * slot_in_size(chain->shape, chain->in.width);
}

static float *slot_out(const Chain *chain, int slot) {
    return chain->slot_out + (size_t)(slot + 1) * slot_out_size(chain->shape, chain->out.width);
}

// The slot's panel of the first product: (in.width, components padded to whole vectors).
static void pack_slot_in(const Chain *chain, int slot) {
    const GatedShape *shape = chain->shape;
    int in = chain->in.width, rest = rest_width(shape), width = tile_round(slot_components(shape, slot >= 0), VECTOR);
    float *panel = slot_in(chain, slot);
    memset(panel, 0, (size_t)in * (size_t)width * sizeof *panel);
    if (rest > 0) {
        gemm_transpose(rest, in, chain->in.learngene + (size_t)main_width(shape) * (size_t)in, in, panel, width);
    }
    if (slot >= 0) {
        gemm_transpose(shape->n_tailor, in, tailor_of(chain->gate, &chain->in, slot), in, panel + rest, width);
    }
}

static void copy_rows(int n, size_t width, const float *from, int stride, float **to) {
    for (int i = 0; i < n; i++, *to += width) memcpy(*to, from + (size_t)i * (size_t)stride, width * sizeof(float));
}

// Rows that the second product takes from the slot.
static int slot_rows(const Chain *chain, int slot) {
    return slot_components(chain->shape, slot >= 0) + (chain->bias ? 1 : 0);
}

// The slot's panels of the second product: (slot_rows, out.width) in panels of PANEL_WIDTH columns.
static void pack_slot_out(const Chain *chain, int slot) {
    const GatedShape *shape = chain->shape;
    int out = chain->out.width, rest = rest_width(shape);
    float *to = slot_out(chain, slot);
    for (int j = 0; j < out; j += PANEL_WIDTH) {
        size_t width = (size_t)tile_min(PANEL_WIDTH, out - j);
        if (rest > 0) {
            copy_rows(rest, width, chain->out.learngene + (size_t)main_width(shape) * (size_t)out + j, out, &to);
        }
        if (slot >= 0) copy_rows(shape->n_tailor, width, tailor_of(chain->gate, &chain->out, slot) + j, out, &to);
        if (chain->bias) copy_rows(1, width, chain->bias + j, out, &to);
    }
}

static void pack(Engine *engine, Chain *chain, float *scratch) {
    const GatedShape *shape = chain->shape;
    int in = chain->in.width, out = chain->out.width, wide = main_width(shape);
    size_t slots = (size_t)chain->gate->n_slots + 1;
    chain->in_panels = scratch_take(&scratch, (size_t)wide * (size_t)in);
    chain->out_panels = scratch_take(&scratch, (size_t)wide * (size_t)out);
    chain->slot_in = scratch_take(&scratch, slots * slot_in_size(shape, in));
    chain->slot_out = scratch_take(&scratch, slots * slot_out_size(shape, out));
    chain->hidden = scratch;
    panel_pack_transposed(engine, in, wide, panel_width(shape), chain->in.learngene, in, chain->in_panels);
    if (chain->output && wide > 0) {
        panel_pack(engine, wide, out, PANEL_WIDTH, chain->out.learngene, out, chain->out_panels);
    }
#pragma omp parallel for num_threads(engine->threads) schedule(static)
    for (int slot = -1; slot < chain->gate->n_slots; slot++) {
        pack_slot_in(chain, slot);
        if (chain->output) pack_slot_out(chain, slot);
    }
}

// ---- the chain -----------------------------------------------------------------------------------------------------

// Hidden values go to `raw`, and become raw * sigma.
ENGINE_CLONES
static void scale_rows(int n, int width, const float *sigma, float *hidden, int stride, float *raw, int raw_stride) {
    for (int i = 0; i < n; i++) {
        float *h = hidden + (size_t)i * (size_t)stride, *r = raw + (size_t)i * (size_t)raw_stride;
        for (int j = 0; j < width; j++) {
            r[j] = h[j];
            h[j] *= sigma[j];
        }
    }
}

// Between the products, for rows of one slot: sigma, and the constant 1 behind the last component.
static void finish_hidden(const Chain *chain, Span s) {
    const GatedShape *shape = chain->shape;
    int stride = hidden_stride(shape), all = components(shape), learngene = shape->n_learngene;
    float *hidden = chain->hidden + (size_t)s.first * (size_t)stride, *raw = chain->raw + (size_t)s.first * (size_t)all;
    scale_rows(s.count, learngene, chain->sigma.learngene, hidden, stride, raw, all);
    if (s.slot >= 0) {
        scale_rows(s.count, shape->n_tailor, tailor_of(chain->gate, &chain->sigma, s.slot), hidden + learngene, stride,
                   raw + learngene, all);
    }
    for (int i = 0; i < s.count; i++) {
        hidden[(size_t)i * (size_t)stride + (size_t)(s.slot >= 0 ? all : learngene)] = 1.0F;
        for (int j = learngene; j < all && s.slot < 0; j++) raw[(size_t)i * (size_t)all + (size_t)j] = 0.0F;
    }
}

// Rows of the tile: hidden = input [learngene; tailor]^T, then sigma.
static void project(const Chain *chain, Span tile) {
    const GatedShape *shape = chain->shape;
    int in = chain->in.width, wide = main_width(shape), width = panel_width(shape), stride = hidden_stride(shape);
    const float *input = chain->input + (size_t)tile.first * (size_t)in;
    float *hidden = chain->hidden + (size_t)tile.first * (size_t)stride;
    for (int j = 0; j < wide; j += width) {
        panel_multiply(tile.count, in, width, input, in, chain->in_panels + (size_t)j * (size_t)in, hidden + j, stride,
                       false);
    }
    for (Span s = tile; s.first < tile.first + tile.count; s.first += s.count) {
        s = next_segment(chain, tile, s.first);
        panel_multiply(s.count, in, tile_round(slot_components(shape, s.slot >= 0), VECTOR),
                       chain->input + (size_t)s.first * (size_t)in, in, slot_in(chain, s.slot),
                       chain->hidden + (size_t)s.first * (size_t)stride + wide, stride, false);
        finish_hidden(chain, s);
    }
}

// Rows of the tile: output = [output +] hidden [learngene; tailor] [+ bias]
static void expand(const Chain *chain, Span tile) {
    const GatedShape *shape = chain->shape;
    int out = chain->out.width, wide = main_width(shape), stride = hidden_stride(shape);
    for (int j = 0; j < out; j += PANEL_WIDTH) {
        int width = tile_min(PANEL_WIDTH, out - j);
        for (Span s = tile; s.first < tile.first + tile.count; s.first += s.count) {
            s = next_segment(chain, tile, s.first);
            int rows = slot_rows(chain, s.slot);
            panel_multiply(s.count, rows, width, chain->hidden + (size_t)s.first * (size_t)stride + wide, stride,
                           slot_out(chain, s.slot) + (size_t)j * (size_t)rows,
                           chain->output + (size_t)s.first * (size_t)out + j, out, chain->accumulate);
        }
        panel_multiply(tile.count, wide, width, chain->hidden + (size_t)tile.first * (size_t)stride, stride,
                       chain->out_panels + (size_t)j * (size_t)wide,
                       chain->output + (size_t)tile.first * (size_t)out + j, out, true);
    }
}

static void run_chain(Engine *engine, Chain *chain, float *scratch) {
    Rows rows = cut_rows(chain->shape, chain->gate->n_samples);
    pack(engine, chain, scratch);
#pragma omp parallel for num_threads(engine->threads) schedule(dynamic)
    for (int i = 0; i < rows.tiles; i++) {
        Span tile = tile_rows(&rows, chain->shape, chain->gate->n_samples, i);
        project(chain, tile);
        if (chain->output) expand(chain, tile);
    }
}

// ---- gradients of the tailors --------------------------------------------------------------------------------------

// What one factor's gradient is made of: sigma * (left^T right), left (N, N_G + N_T), right (N, width).
typedef struct Side {
    const float *left, *right;
    size_t tailor;
    int width;
} Side;

// Columns [column, column + width) of a tailor's factor, over the rows of the samples of its slot.
static void tailor_block(const GatedShape *shape, const Gate *gate, const Side *side, size_t sigma, int slot,
                         int column, float *sum) {
    int n_tailor = shape->n_tailor, all = components(shape), width = tile_min(BLOCK, side->width - column);
    bool found = false;
    for (int sample = 0; sample < gate->n_samples; sample++) {
        if (gate->slot[sample] != slot) continue;
        for (int i = 0; i < shape->rows; i += PANEL_ROWS) {
            size_t row = (size_t)sample * (size_t)shape->rows + (size_t)i;
            gemm_tile(GEMM_TN, n_tailor, width, tile_min(PANEL_ROWS, shape->rows - i),
                      side->left + row * (size_t)all + shape->n_learngene, all,
                      side->right + row * (size_t)side->width + column, side->width, sum, BLOCK, found);
            found = true;
        }
    }
    for (int i = 0; i < n_tailor && found; i++) {
        float factor = gate->tailor[slot][sigma + (size_t)i];
        float *gradient = gate->dtailor[slot] + side->tailor + (size_t)i * (size_t)side->width + column;
        for (int j = 0; j < width; j++) gradient[j] += factor * sum[i * BLOCK + j];
    }
}

static void tailor_sigma(const GatedShape *shape, const Gate *gate, const float *a, const float *dh, size_t sigma,
                         int slot) {
    size_t all = (size_t)components(shape), rows = (size_t)shape->rows;
    for (int i = 0; i < shape->n_tailor; i++) {
        double sum = 0;
        for (int sample = 0; sample < gate->n_samples; sample++) {
            if (gate->slot[sample] != slot) continue;
            size_t at = (size_t)sample * rows * all + (size_t)(shape->n_learngene + i);
            for (size_t row = 0; row < rows; row++) sum += (double)a[at + row * all] * (double)dh[at + row * all];
        }
        gate->dtailor[slot][sigma + (size_t)i] += (float)sum;
    }
}

static size_t tailor_scratch(const GatedShape *shape, int n_slots) {
    int blocks = tile_count(shape->m1, BLOCK) + tile_count(shape->m2, BLOCK);
    return scratch_size((size_t)n_slots * (size_t)blocks * (size_t)shape->n_tailor * BLOCK);
}

static void tailor_gradients(Engine *engine, const GatedShape *shape, const Gate *gate, const GatedWeights *w,
                             const Side sides[2], const float *a, const float *dh, float *scratch) {
    int of_u = tile_count(shape->m1, BLOCK), blocks = of_u + tile_count(shape->m2, BLOCK);
#pragma omp parallel for collapse(2) num_threads(engine->threads) schedule(dynamic)
    for (int slot = 0; slot < gate->n_slots; slot++) {
        for (int block = -1; block < blocks; block++) {
            if (!gate->dtailor[slot]) continue;
            if (block < 0) {
                tailor_sigma(shape, gate, a, dh, w->tailor_s, slot);
            } else {
                size_t index = (size_t)slot * (size_t)blocks + (size_t)block;
                tailor_block(shape, gate, &sides[block >= of_u], w->tailor_s, slot,
                             (block >= of_u ? block - of_u : block) * BLOCK,
                             scratch + index * (size_t)shape->n_tailor * BLOCK);
            }
        }
    }
}

// ---- calls ---------------------------------------------------------------------------------------------------------

size_t engine_gated_scratch(const GatedShape *shape, int n_samples, int n_slots) {
    int n = n_samples * shape->rows, m1 = shape->m1, m2 = shape->m2;
    size_t chain = scratch_larger(chain_scratch(shape, n_samples, n_slots, m1, m2),
                                  chain_scratch(shape, n_samples, n_slots, m2, m1));
    size_t products = scratch_larger(reduce_product_scratch(n, shape->n_learngene, m1),
                                     reduce_product_scratch(n, shape->n_learngene, m2));
    size_t columns = scratch_larger(reduce_columns_scratch(n, m2), reduce_columns_scratch(n, shape->n_learngene));
    return scratch_size((size_t)n * (size_t)components(shape)) +
           scratch_larger(scratch_larger(chain, products), scratch_larger(columns, tailor_scratch(shape, n_slots)));
}

// Multiply-adds of one pass through both factors, by the rows that are open.
static double count_products(const GatedShape *shape, const Gate *gate, double width) {
    double sum = 0;
    for (int i = 0; i < gate->n_samples; i++) sum += shape->n_learngene + (gate->slot[i] >= 0 ? shape->n_tailor : 0);
    return sum * shape->rows * width;
}

void engine_gated_forward(Engine *engine, const GatedShape *shape, const Gate *gate, const GatedWeights *w,
                          Activation rows_x, Activation rows_a, Activation rows_y) {
    const float *x = rows_x.data;
    float *a = rows_a.data, *y = rows_y.data;
    engine_profile_begin(engine);
    Chain chain = {.shape = shape,
                   .gate = gate,
                   .in = {w->U, w->tailor_U, shape->m1},
                   .out = {w->V, w->tailor_V, shape->m2},
                   .sigma = {w->s, w->tailor_s, 1},
                   .input = x,
                   .raw = a,
                   .bias = w->bias,
                   .output = y};
    run_chain(engine, &chain, engine->scratch);
    double n = (double)gate->n_samples * shape->rows, in = shape->m1, out = shape->m2;
    engine_profile_end(engine, KERNEL_GATED_FORWARD, 2 * count_products(shape, gate, in + out),
                       4 * n * (in + out + components(shape)));
}

void engine_gated_backward(Engine *engine, const GatedShape *shape, const Gate *gate, const GatedWeights *w,
                           Activation rows_x, Activation rows_a, Activation rows_dy, Activation rows_dx,
                           bool accumulate, const GatedGradients *dw) {
    const float *x = rows_x.data, *a = rows_a.data, *dy = rows_dy.data;
    float *dx = rows_dx.data;
    engine_profile_begin(engine);
    int n = gate->n_samples * shape->rows, m1 = shape->m1, m2 = shape->m2, all = components(shape);
    float *scratch = engine->scratch, *dh = scratch_take(&scratch, (size_t)n * (size_t)all);
    bool tailors = gate->dtailor && gate->n_slots > 0 && shape->n_tailor > 0;
    Chain chain = {.shape = shape,
                   .gate = gate,
                   .in = {w->V, w->tailor_V, m2},
                   .out = {w->U, w->tailor_U, m1},
                   .sigma = {w->s, w->tailor_s, 1},
                   .input = dy,
                   .raw = dh,
                   .output = dx,
                   .accumulate = accumulate};
    if (dx || dw->U || tailors) run_chain(engine, &chain, scratch);
    if (dw->U) {
        reduce_product(engine, n, shape->n_learngene, m1, dh, all, x, m1, w->s, scratch, dw->U);
        reduce_product(engine, n, shape->n_learngene, m2, a, all, dy, m2, w->s, scratch, dw->V);
        reduce_columns(engine, n, shape->n_learngene, a, dh, all, scratch, dw->s);
    }
    if (tailors) {
        const Side sides[2] = {{dh, x, w->tailor_U, m1}, {a, dy, w->tailor_V, m2}};
        tailor_gradients(engine, shape, gate, w, sides, a, dh, scratch);
    }
    if (dw->bias) reduce_columns(engine, n, m2, dy, NULL, m2, scratch, dw->bias);
    double products = count_products(shape, gate, m2) + (dx ? count_products(shape, gate, m1) : 0) +
                      (dw->U ? count_products(shape, gate, (double)m1 + m2) : 0);
    engine_profile_end(engine, KERNEL_GATED_BACKWARD, 2 * products, 8.0 * n * ((double)m1 + m2 + all));
}
