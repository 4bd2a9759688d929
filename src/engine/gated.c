// The class-gated low-rank product. Forward and the gradient of its input are one chain with the factors exchanged:
//
//     y  = ((x  U^T) * s) V + b      keeps  a  = x  U^T
//     dx = ((dy V^T) * s) U          keeps  dh = dy V^T
//
// and the parameter gradients follow from a and dh alone: dU = s * (dh^T x), dV = s * (a^T dy), ds = sum of a * dh.
// reduce.c sums them over rows; beside a frozen learngene the chain itself does so, for the tailors alone.
//
// A tile of rows goes through the whole chain while it is in cache. Its hidden columns are [main | rest | tailor | 1 |
// unused]: `main` are the learngene's components that fill whole panels and are common to all samples. The `rest` of
// the learngene is packed together with the slot's tailor (and the bias, the output row of the constant 1): the few
// columns of a tailor alone would leave most of a vector empty, and the output would be passed over once more for each.
// A thread packs a slot when it comes to a sample of it, or all are packed before, where they are kept or samples are
// short. Where hidden rows are rounded to integers the bias is none of them: it is where the output's sums start.
#include <omp.h>
#include <string.h>

#include "base/bf16.h"
#include "engine/gated_chain.h"
#include "engine/reduce.h"

enum {
    SHARED_ROWS = 64, // rows of a tile of short samples
    FEW_TILES = 8,    // tiles that few rows are cut into
    GROUP = 256       // columns of the output that are formed in a tile of their own: long rows are stored faster
};

// ---- tiles and segments of rows ------------------------------------------------------------------------------------

// Long samples are cut into equal tiles of at most PANEL_ROWS; short ones share a tile of SHARED_ROWS.
typedef struct Rows {
    int per_tile, tiles_per_sample, samples_per_tile;
    int tiles;
} Rows;

static Rows cut_rows(const GatedShape *shape, int n_samples, int tiles) {
    int fair = tile_round(tile_count(n_samples * shape->rows, tiles), GATED_VECTOR); // few rows are shared out too
    int most = tile_min(PANEL_ROWS, fair), shared = tile_min(SHARED_ROWS, fair);
    Rows r = {.tiles_per_sample = tile_count(shape->rows, most), .samples_per_tile = 1};
    if (shape->rows < shared) r.samples_per_tile = shared / shape->rows;
    r.per_tile = tile_count(shape->rows * r.samples_per_tile, r.tiles_per_sample);
    r.tiles = tile_count(n_samples, r.samples_per_tile) * r.tiles_per_sample;
    return r;
}

// Of n_samples or fewer: (fewer samples may be cut into more tiles each).
static size_t most_tiles(const GatedShape *shape, int n_samples) {
    return (size_t)n_samples * (size_t)tile_count(shape->rows, PANEL_ROWS) + FEW_TILES;
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
    if (chain->shape->n_tailor == 0) return (Span){.first = row, .count = end - row, .slot = -1};
    Span segment = {.first = row, .slot = chain->gate->slot[sample]};
    while (sample * rows < end && chain->gate->slot[sample] == segment.slot) sample++;
    segment.count = tile_min(end, sample * rows) - row;
    return segment;
}

static int hidden_stride(const GatedShape *shape, PanelForm form) { // a column more than components: the constant 1
    const int step = form == PANEL_INT8 ? INT8_STEP : BF16_STEP;    // the slot's part alone is read in whole steps, too
    return tile_round(gated_main_width(shape) + tile_round(gated_slot_components(shape, true) + 1, step), step);
}

// Of n rows in fp32, and again in bf16, or as integers with their scales.
static size_t hidden_rows(const GatedShape *shape, size_t n) {
    return n * (size_t)hidden_stride(shape, PANEL_INT8) / 2 * 3;
}

static size_t hidden_size(const GatedShape *shape, const Rows *r) { // of a tile
    return scratch_size(hidden_rows(shape, (size_t)r->per_tile));
}

// Of all tiles of n_samples or fewer: each may be a row higher than its share, the last one full.
static size_t most_hidden(const GatedShape *shape, int n_samples) {
    size_t tiles = most_tiles(shape, n_samples), rows = (size_t)n_samples * (size_t)shape->rows + tiles + PANEL_ROWS;
    return hidden_rows(shape, rows) + tiles * scratch_size(1);
}

static size_t chain_scratch(const GatedShape *shape, int n_samples, int n_slots, int in, int out) {
    return gated_pack_size(shape, n_slots, in, out) + most_hidden(shape, n_samples);
}

// ---- the chain -----------------------------------------------------------------------------------------------------

// Where a segment's sums are kept.
static float *sums_of(const Chain *chain, const Rows *r, Span s) {
    int rows = chain->shape->rows, tile = s.first / rows * r->tiles_per_sample + s.first % rows / r->per_tile;
    return chain->sums + (size_t)tile * gated_sums(chain->shape);
}

// sums (N_T, width) = left^T rows, left (N, N_T), over the segment.
static void sum_tailor(const Chain *chain, Span s, Activation left, Activation rows, int width, float *sums) {
    _Alignas(64) float l[PANEL_ROWS * GATED_VECTOR], buffer[PANEL_BUFFER];
    const int n = chain->shape->n_tailor, piece = panel_piece(PANEL_F32);
    for (int c = 0; c < n; c += GATED_VECTOR) {
        const int some = tile_min(GATED_VECTOR, n - c);
        rows_load(s.count, some, activation_at(left, (size_t)s.first * (size_t)n + (size_t)c), n, l, some);
        for (int first = 0; first < width; first += piece) {
            const int depth = tile_min(piece, width - first);
            const Activation from = activation_at(rows, (size_t)s.first * (size_t)width + (size_t)first);
            int ld = width;
            const float *x = rows_read(s.count, depth, from, &ld, buffer);
            float *to = sums + (size_t)c * (size_t)width + first;
            gemm_wide(GEMM_TN, some, depth, s.count, l, some, x, ld, to, width, false);
        }
    }
}

// Of both factors, while the rows are in cache. (Beside a learngene that trains reduce.c reads them all anyway.)
static void sum_tailors(const Chain *chain, Span s, float *sums) {
    const int n = chain->shape->n_tailor, in = chain->in.width;
    sum_tailor(chain, s, chain->other, chain->input, in, sums);
    sum_tailor(chain, s, chain->raw, chain->slope, chain->out.width, sums + (size_t)n * (size_t)in);
}

// Between the products, for rows of one slot: raw values are kept, then come sigma and the constant 1 behind the last
// component. rounded: the rows as bf16, where the next product takes such, else NULL.
static void finish_hidden(const Chain *chain, const Rows *r, Span s, float *hidden, uint16_t *rounded) {
    const GatedShape *shape = chain->shape;
    int stride = hidden_stride(shape, chain->form), all = gated_components(shape);
    int open = s.slot >= 0 ? all : shape->n_learngene, kept = engine_gated_kept(shape), first = all - kept;
    size_t at = (size_t)s.first * (size_t)kept;
    const int end = chain->form == PANEL_INT8 ? stride : all; // integers are read to the end
    for (int i = 0; i < s.count && open < end; i++) {
        memset(hidden + (size_t)i * (size_t)stride + open, 0, (size_t)(end - open) * sizeof *hidden);
    }
    float *sums = chain->other.data ? sums_of(chain, r, s) : NULL;
    if (sums) {
        memset(sums, 0, (size_t)kept * sizeof *sums);
        rows_sum_products(s.count, kept, activation_at(chain->other, at), kept, hidden + first, stride, sums);
    }
    const float *sigma = gated_slot_at(chain, chain->slot_sigma, s.slot);
    if (first > 0) rows_store_and_scale(s.count, first, sigma, hidden, stride, (Activation){0}, 0, rounded);
    rows_store_and_scale(s.count, kept, sigma + first, hidden + first, stride, activation_at(chain->raw, at), kept,
                         rounded ? rounded + first : NULL);
    if (sums && shape->frozen && s.slot >= 0) sum_tailors(chain, s, sums + kept);
    for (int i = 0; i < s.count && rounded; i++) {
        uint16_t *row = rounded + (size_t)i * (size_t)stride;
        memset(row + open, 0, (size_t)(stride - open) * sizeof *row);
        if (gated_has_bias_row(chain)) row[open] = bf16_from_float(1);
    }
    for (int i = 0; i < s.count && !rounded && gated_has_bias_row(chain); i++) {
        hidden[(size_t)i * (size_t)stride + (size_t)open] = 1.0F;
    }
}

// What is rounded of a tile's n hidden rows lies behind the fp32 it comes from.
static float *rounded_rows(const Chain *chain, int n, float *hidden) {
    return hidden + (size_t)n * (size_t)hidden_stride(chain->shape, chain->form);
}

// The hidden rows as the second product takes them.
static Operand hidden_operand(const Chain *chain, int n, float *hidden) {
    const int stride = hidden_stride(chain->shape, chain->form);
    float *rounded = panel_is_f32(chain->form) ? hidden : rounded_rows(chain, n, hidden);
    if (chain->form != PANEL_INT8) return (Operand){.rows = rounded, .ld = stride, .form = chain->form};
    return operand_read(PANEL_INT8, n, stride, activation_f32(hidden), stride, rounded);
}

// Rows of the tile: hidden = input [learngene; tailor]^T, then sigma.
static void project(const Chain *chain, const Rows *r, Span tile, float *hidden) {
    _Alignas(64) float loaded[PANEL_BUFFER];
    const GatedShape *shape = chain->shape;
    int in = chain->in.width, wide = gated_main_width(shape), stride = hidden_stride(shape, chain->form);
    const int piece = panel_piece(chain->form);
    uint16_t *rounded = NULL; // by finish_hidden
    if (chain->form == PANEL_BF16) rounded = (uint16_t *)(void *)rounded_rows(chain, tile.count, hidden);
    for (int first = 0; first < in; first += piece) {
        int depth = tile_min(piece, in - first);
        Activation rows = activation_at(chain->input, (size_t)tile.first * (size_t)in + (size_t)first);
        Operand input = operand_read(chain->form, tile.count, depth, rows, in, loaded);
        panel_multiply(tile.count, depth, wide, input, chain->in_panels, in, first, panel_width(chain->form), hidden,
                       stride, first > 0);
        for (Span s = tile; s.first < tile.first + tile.count; s.first += s.count) {
            s = next_segment(chain, tile, s.first);
            int width = gated_slot_width(shape, s.slot), row = s.first - tile.first;
            panel_multiply(s.count, depth, width, operand_at(input, row, 0), gated_slot_in(chain, s.slot), in, first,
                           width, hidden + (size_t)row * (size_t)stride + wide, stride, first > 0);
        }
    }
    for (Span s = tile; s.first < tile.first + tile.count; s.first += s.count) {
        s = next_segment(chain, tile, s.first);
        const size_t at = (size_t)(s.first - tile.first) * (size_t)stride;
        finish_hidden(chain, r, s, hidden + at, rounded ? rounded + at : NULL);
    }
}

// y (tile.count, width; rows `ld` apart) = [y +] hidden [learngene; tailor] [+ bias] for columns from `column` on. The
// longer product comes first: it leaves time for y to come to the cache.
static void expand_panel(const Chain *chain, Span tile, Operand hidden, int column, int width, float *y, int ld,
                         bool accumulate) {
    int wide = gated_main_width(chain->shape);
    const float *main = panel_at(chain->form, chain->out_panels, wide, column);
    Span whole = next_segment(chain, tile, tile.first);
    if (chain->form == PANEL_BF16 && whole.count == tile.count && wide % BF16_STEP == 0) { // one pass over y
        int depth = gated_slot_rows(chain, whole.slot);
        operand_multiply_joined(tile.count, wide + depth, width, hidden, main, wide,
                                panel_at(chain->form, gated_slot_out(chain, whole.slot), depth, column), y, ld,
                                accumulate);
        return;
    }
    const int piece = panel_piece(chain->form);
    for (int first = 0; first < wide; first += piece) {
        panel_multiply(tile.count, tile_min(piece, wide - first), width, operand_at(hidden, 0, first), main, wide,
                       first, width, y, ld, accumulate || first > 0);
    }
    for (Span s = tile; s.first < tile.first + tile.count; s.first += s.count) {
        s = next_segment(chain, tile, s.first);
        int depth = gated_slot_rows(chain, s.slot), row = s.first - tile.first;
        operand_multiply(s.count, depth, width, operand_at(hidden, row, wide),
                         panel_at(chain->form, gated_slot_out(chain, s.slot), depth, column),
                         y + (size_t)row * (size_t)ld, ld, accumulate || wide > 0);
    }
}

// Rows of the tile: output = [output +] slope * (hidden [learngene; tailor] [+ bias]), formed in the output itself
// where it keeps sums as they are.
static void expand(const Chain *chain, Span tile, Operand hidden) {
    _Alignas(64) float sums[PANEL_ROWS * GROUP];
    const int out = chain->out.width, panel = panel_width(chain->form);
    bool direct = rows_in_place(chain->output) && !chain->slope.gelu;
    const float *start = gated_has_bias_row(chain) ? NULL : chain->bias; // of the sums
    for (int j = 0; j < out; j += GROUP) {
        int width = tile_min(GROUP, out - j), ld = direct ? out : width;
        size_t at = (size_t)tile.first * (size_t)out + (size_t)j;
        float *y = direct ? (float *)chain->output.data + at : sums;
        for (int i = 0; i < tile.count && start; i++) {
            memcpy(y + (size_t)i * (size_t)ld, start + j, (size_t)width * sizeof *y);
        }
        for (int i = 0; i < width; i += panel) {
            expand_panel(chain, tile, hidden, j + i, tile_min(panel, width - i), y + i, ld,
                         start || (direct && chain->accumulate));
        }
        if (direct) continue;
        if (chain->slope.gelu) rows_gelu_slope(tile.count, width, activation_at(chain->slope, at), out, y, ld);
        rows_store(tile.count, width, y, ld, activation_at(chain->output, at), out, chain->accumulate);
    }
}

static void run_chain(Engine *engine, Chain *chain, EnginePack *weights, float *scratch) {
    const Gate *gate = chain->gate;
    Rows rows = cut_rows(chain->shape, gate->n_samples, chain->tiles);
    if (rows.tiles == 0) return;
    EnginePack own = {.weights = scratch_take(
                          &scratch, gated_pack_size(chain->shape, gate->n_slots, chain->in.width, chain->out.width))};
    chain->form = panel_form(chain->input.type, weights);
    if (!weights || !weights->weights) weights = &own;
    chain->hidden = scratch;
    // A tile of one sample meets its slot's panels once: packed just before, they are in the thread's cache.
    chain->by_thread = weights == &own && rows.samples_per_tile == 1 && gated_slot_count(chain) >= engine->threads;
    gated_pack_lay_out(chain, weights->weights);
    if (!weights->ready) gated_pack(engine, chain);
    weights->ready = true;
#pragma omp parallel num_threads(tile_min(engine->threads, rows.tiles))
    {
        amx_begin();
        Chain mine = *chain;
        mine.room = omp_get_thread_num();
        mine.held = -1;
        float *hidden = chain->hidden + (size_t)mine.room * hidden_size(chain->shape, &rows);
#pragma omp for schedule(dynamic)
        for (int i = 0; i < rows.tiles; i++) {
            Span tile = tile_rows(&rows, chain->shape, chain->gate->n_samples, i);
            const int slot = next_segment(chain, tile, tile.first).slot;
            if (chain->by_thread && slot >= 0) gated_pack_room(&mine, slot);
            project(&mine, &rows, tile, hidden);
            if (chain->output.data) expand(&mine, tile, hidden_operand(&mine, tile.count, hidden));
        }
        amx_end();
    }
}

// ---- calls ---------------------------------------------------------------------------------------------------------

static ReduceTailors tailors_of(const Chain *chain, const Factor *factor) {
    const GatedShape *shape = chain->shape;
    return (ReduceTailors){chain->gate, shape->n_tailor, shape->rows, chain->sigma.tailor, factor->tailor};
}

// The gradients from the sums that the chain left: of the learngene's sigma (or NULL), and of the tailors'.
static void add_sums(const Chain *chain, float *ds) {
    const GatedShape *shape = chain->shape;
    const Gate *gate = chain->gate;
    const int kept = engine_gated_kept(shape);
    const ReduceTailors in = tailors_of(chain, &chain->in), out = tailors_of(chain, &chain->out);
    Rows rows = cut_rows(shape, gate->n_samples, chain->tiles);
    for (int i = 0; i < rows.tiles; i++) {
        Span tile = tile_rows(&rows, shape, gate->n_samples, i);
        for (Span s = tile; s.first < tile.first + tile.count; s.first += s.count) {
            s = next_segment(chain, tile, s.first);
            float *sums = sums_of(chain, &rows, s);
            float *tailor = s.slot >= 0 && gate->dtailor ? gate->dtailor[s.slot] : NULL;
            for (int j = 0; j < shape->n_learngene && ds; j++) ds[j] += sums[j];
            for (int j = 0; j < shape->n_tailor && tailor; j++) {
                tailor[chain->sigma.tailor + (size_t)j] += sums[kept - shape->n_tailor + j];
            }
            if (!shape->frozen || !tailor) continue;
            reduce_add_tailor(&in, s.slot, chain->in.width, sums + kept);
            reduce_add_tailor(&out, s.slot, chain->out.width,
                              sums + kept + (size_t)shape->n_tailor * (size_t)chain->in.width);
        }
    }
}

static size_t sums_size(const GatedShape *shape, int n_samples) {
    return most_tiles(shape, n_samples) * gated_sums(shape);
}

size_t engine_gated_pack(const GatedShape *shape, int n_slots) {
    return gated_pack_size(shape, n_slots, shape->m1, shape->m2);
}

size_t engine_gated_scratch(const GatedShape *shape, int n_samples, int n_slots) {
    int n = n_samples * shape->rows, m1 = shape->m1, m2 = shape->m2, g = shape->n_learngene;
    int t = shape->frozen ? 0 : shape->n_tailor;
    size_t chain = scratch_larger(chain_scratch(shape, n_samples, n_slots, m1, m2),
                                  chain_scratch(shape, n_samples, n_slots, m2, m1));
    size_t sums = scratch_larger(reduce_scratch(n, g, m1, t, n_slots) + reduce_scratch(n, g, m2, t, n_slots),
                                 reduce_scratch(n, 0, m1, t, n_slots) + reduce_scratch(n, 0, m2, t, n_slots));
    return scratch_size((size_t)n * (size_t)engine_gated_kept(shape)) + scratch_size(sums_size(shape, n_samples)) +
           scratch_larger(chain, sums);
}

// Multiply-adds of one pass through both factors, by the rows that are open.
static double count_products(const GatedShape *shape, const Gate *gate, double width) {
    double sum = 0;
    for (int i = 0; i < gate->n_samples; i++) sum += shape->n_learngene + (gate->slot[i] >= 0 ? shape->n_tailor : 0);
    return sum * shape->rows * width;
}

static double count_bytes(const GatedShape *shape, const Gate *gate, Activation x, Activation a, Activation y) {
    return (double)gate->n_samples * shape->rows *
           (shape->m1 * (double)engine_type_size(x.type) + engine_gated_kept(shape) * (double)engine_type_size(a.type) +
            shape->m2 * (double)engine_type_size(y.type));
}

void engine_gated_forward(Engine *engine, const GatedShape *shape, const Gate *gate, const GatedWeights *w,
                          Activation x, Activation a, Activation y, bool accumulate, EnginePack *weights) {
    engine_profile_begin(engine);
    const bool high = x.type == ENGINE_F32 && gemm_keeps_rows(); // fp32 kernels like many rows
    const int few = high ? tile_min(engine->threads, FEW_TILES) : FEW_TILES;
    Chain chain = {.shape = shape,
                   .gate = gate,
                   .in = {w->U, w->tailor_U, shape->m1},
                   .out = {w->V, w->tailor_V, shape->m2},
                   .sigma = {w->s, w->tailor_s, 1},
                   .input = x,
                   .raw = a,
                   .bias = w->bias,
                   .output = y,
                   .accumulate = accumulate,
                   .tiles = few};
    run_chain(engine, &chain, weights, engine->scratch);
    engine_profile_end(engine, KERNEL_GATED_FORWARD, 2 * count_products(shape, gate, (double)shape->m1 + shape->m2),
                       count_bytes(shape, gate, x, a, y));
}

void engine_gated_backward(Engine *engine, const GatedShape *shape, const Gate *gate, const GatedWeights *w,
                           Activation x, Activation a, Activation dy, Activation dx, bool accumulate,
                           const GatedGradients *dw) {
    engine_profile_begin(engine);
    int n = gate->n_samples * shape->rows, m1 = shape->m1, m2 = shape->m2, columns = engine_gated_kept(shape);
    float *scratch = engine->scratch, *dh = scratch_take(&scratch, (size_t)n * (size_t)columns);
    float *sums = scratch_take(&scratch, sums_size(shape, gate->n_samples));
    const Activation kept = {.data = dh, .type = panel_form(dy.type, NULL) == PANEL_BF16 ? ENGINE_BF16 : ENGINE_F32};
    bool tailors = gate->dtailor && gate->n_slots > 0 && shape->n_tailor > 0;
    Chain chain = {.shape = shape,
                   .gate = gate,
                   .in = {w->V, w->tailor_V, m2},
                   .out = {w->U, w->tailor_U, m1},
                   .sigma = {w->s, w->tailor_s, 1},
                   .input = dy,
                   .raw = kept,
                   .other = dw->s || tailors ? a : (Activation){0},
                   .sums = sums,
                   .output = dx,
                   .slope = x,
                   .accumulate = accumulate,
                   .tiles = FEW_TILES};
    Reduction of[2] = {{.n = n, .q = m1, .L = kept, .ldl = columns, .X = x, .ldx = m1},
                       {.n = n, .q = m2, .L = a, .ldl = columns, .X = dy, .ldx = m2, .sums_x = dw->bias}};
    for (int i = 0; i < 2; i++) {
        if (dw->U) {
            of[i].p = shape->n_learngene;
            of[i].scale = w->s;
            of[i].G = i == 0 ? dw->U : dw->V;
        } else {
            of[i].L = activation_at(of[i].L, (size_t)(columns - shape->n_tailor)); // the tailors' columns alone
        }
        if (!tailors || shape->frozen) continue;
        of[i].tailors = tailors_of(&chain, i == 0 ? &chain.out : &chain.in);
    }
    if (dx.data || dw->U || dw->s || tailors) run_chain(engine, &chain, NULL, scratch);
    if (dw->s || tailors) add_sums(&chain, dw->s);
    if (dw->U || (tailors && !shape->frozen)) {
        reduce(engine, 2, of, scratch);
    } else if (dw->bias) {
        reduce(engine, 1, &of[1], scratch);
    }
    double open = count_products(shape, gate, 1), learngene = (double)n * shape->n_learngene;
    double summed = (dw->U ? learngene : 0) + (tailors ? open - learngene : 0);
    engine_profile_end(engine, KERNEL_GATED_BACKWARD, 2 * (open * (m2 + (dx.data ? m1 : 0)) + summed * (m1 + m2)),
                       2 * count_bytes(shape, gate, x, a, dy));
}
