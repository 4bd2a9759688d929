#include "engine/reduce.h"

#include <string.h>

#include "engine/amx.h"
#include "engine/gemm_bf16.h"
#include "engine/rows.h"
#include "engine/simd.h"
#include "engine/tile.h"

enum {
    TILE_HEIGHT = 384, // most rows and columns of G that one work item sums
    TILE_WIDTH = 192,
    STEP = 64,       // rows of L and X that one kernel call sums ...
    LEFT = 96,       // ... and rows ...
    BF16_ROWS = 256, // (of bf16 so many rows: a tile of G is read and written once for each)
    COLUMNS = 32,    // ... and columns of G: these, L's and G's share the first-level cache
    PART_ROWS = 512, // fewest rows in a part
    WORK_ITEMS = 32, // parts are added until there are about so many items to share out
    FAR_STRIDE = 256 // rows further apart are gathered first: they would fight over cache sets and TLB entries
};

typedef struct Cut {
    int height, width, part; // rows and columns of a tile of G; rows of L and X in a part
    int down, across, parts;
} Cut;

// Where L is tall, it is read again for every tile across: wide tiles; else narrow ones stay closer to the processor.
static Cut cut(int n, int p, int q) {
    int widest = p > TILE_HEIGHT ? TILE_WIDTH : TILE_WIDTH / 2;
    Cut c = {.height = tile_even(p, TILE_HEIGHT, 2), .width = tile_even(q, widest, COLUMNS)};
    c.down = p > 0 ? tile_count(p, c.height) : 1;
    c.across = tile_count(q, c.width);
    int wanted = tile_count(WORK_ITEMS, tile_min(c.down * c.across, WORK_ITEMS));
    c.part = tile_round(tile_count(n, tile_min(wanted, tile_count(n, PART_ROWS))), STEP);
    c.parts = tile_count(n, c.part);
    return c;
}

// What one part sums: each piece lies as far from the same piece of the next part.
typedef struct Sums {
    float *G;       // (p + n_tailor, q): the last rows are for the tailor at hand
    float *l, *x;   // (p), (q)
    float *tailors; // (n_slots, n_tailor, q)
    size_t size;    // of a part, in floats
} Sums;

static Sums lay_out(int p, int q, int n_tailor, int n_slots, float *scratch) {
    size_t rows = (size_t)p, columns = (size_t)q, n = (size_t)n_tailor;
    size_t g = (rows + n) * columns, tailors = (size_t)n_slots * n * columns;
    Sums s = {.G = scratch, .size = scratch_size(g + rows + columns + tailors)};
    if (!scratch) return s;
    s.l = s.G + g;
    s.x = s.l + rows;
    s.tailors = s.x + columns;
    return s;
}

size_t reduce_scratch(int n, int p, int q, int n_tailor, int n_slots) {
    if (n == 0 || q == 0) return 0;
    return (size_t)cut(n, p, q).parts * lay_out(p, q, n_tailor, n_slots, NULL).size;
}

// ---- one part of one tile ------------------------------------------------------------------------------------------

static const float *gather(int rows, int width, Activation from, int *stride, float *buffer) {
    if (*stride <= FAR_STRIDE) return rows_read(rows, width, from, stride, buffer);
    rows_load(rows, width, from, *stride, buffer, width);
    *stride = width;
    return buffer;
}

// sum (height, width; rows `ld` apart) = [sum +] L^T x over `rows` <= STEP rows.
static void multiply(int rows, int height, int width, Activation L, int ldl, const float *x, int ldx, float *sum,
                     int ld, bool accumulate) {
    _Alignas(64) float buffer[STEP * LEFT];
    int most = tile_even(height, LEFT, 6); // kernels keep three or six rows of G in registers
    for (int i = 0; i < height; i += most) {
        int left = tile_min(most, height - i), stride = ldl;
        const float *l = gather(rows, left, activation_at(L, (size_t)i), &stride, buffer);
        for (int j = 0; j < width; j += COLUMNS) {
            gemm_tile(GEMM_TN, left, tile_min(COLUMNS, width - j), rows, l, stride, x + j, ldx,
                      sum + (size_t)i * (size_t)ld + j, ld, accumulate);
        }
    }
}

// The same of bf16: x in pairs of rows. L^T is made of pairs too, each of which moves as a float does.
static void multiply_bf16(int rows, int height, int width, Activation L, int ldl, const uint16_t *x, float *sum, int ld,
                          bool accumulate) {
    _Alignas(64) uint16_t pairs[BF16_ROWS * LEFT], left_t[LEFT * BF16_ROWS];
    const int depth = tile_round(rows, BF16_STEP);
    for (int i = 0; i < height; i += LEFT) {
        int left = tile_min(LEFT, height - i);
        rows_load_pairs(rows, left, activation_at(L, (size_t)i), ldl, pairs);
        gemm_transpose(depth / 2, left, (const float *)(const void *)pairs, left, (float *)(void *)left_t, depth / 2);
        gemm_bf16(left, width, depth, left_t, depth, x, width, sum + (size_t)i * (size_t)ld, ld, accumulate);
    }
}

typedef struct Item { // rows of L and X, and the tile of G
    int row, rows, top, height, left, width;
    bool last; // of the tiles down: the tailors' columns of L are behind it
} Item;

static void clear(int n, int width, float *rows, int stride) {
    for (int i = 0; i < n; i++) memset(rows + (size_t)i * (size_t)stride, 0, (size_t)width * sizeof(float));
}

static float *tailor_sums(const Reduction *r, const Sums *s, int slot) {
    return s->tailors + (size_t)slot * (size_t)r->tailors.n * (size_t)r->q;
}

// Adds rows [row, row + rows) to the tailors' sums: x holds the item's columns of these rows.
static void add_tailors(const Reduction *r, const Item *item, int row, int rows, const float *x, int ldx,
                        const Sums *s) {
    const ReduceTailors *t = &r->tailors;
    for (int first = row, count; first < row + rows; first += count) {
        int sample = first / t->rows, slot = t->gate->slot[sample];
        count = tile_min((sample + 1) * t->rows, row + rows) - first;
        if (slot < 0) continue;
        Activation L = activation_at(r->L, (size_t)first * (size_t)r->ldl + (size_t)r->p);
        multiply(count, t->n, item->width, L, r->ldl, x + (size_t)(first - row) * (size_t)ldx, ldx,
                 tailor_sums(r, s, slot) + item->left, r->q, true);
    }
}

// The first part of a sum that needs no scaling is formed in the result.
static bool in_place(const Reduction *r, int row) {
    return row == 0 && r->G && !r->scale;
}

// Long samples: the tailor's columns of L go through the same product as the learngene's, where that is wanted, to rows
// behind G's that are emptied into the sums of a slot when the next one comes. (Products of their own take longer.)
static bool joins(const Reduction *r, const Item *item) {
    return item->last && r->tailors.gate && (r->scale || !r->G) && r->tailors.rows >= STEP / 2;
}

// Whether the processor's bf16 products serve: where nothing is left to add from rows that lie apart.
static bool is_bf16(const Reduction *r, const Item *item) {
    const bool apart = item->last && r->tailors.gate && !joins(r, item);
    const bool wanted = r->G || joins(r, item);
    return r->L.type == ENGINE_BF16 && r->X.type == ENGINE_BF16 && gemm_bf16_is_native() && wanted && !apart;
}

static void change_slot(const Reduction *r, const Item *item, const Sums *s, int from, int to) {
    float *rows = s->G + (size_t)r->p * (size_t)r->q + item->left;
    if (from == to) return;
    for (int i = 0; i < r->tailors.n && from >= 0; i++) {
        float *sum = tailor_sums(r, s, from) + (size_t)i * (size_t)r->q + item->left;
        for (int j = 0; j < item->width; j++) sum[j] += rows[(size_t)i * (size_t)r->q + (size_t)j];
    }
    clear(r->tailors.n, item->width, rows, r->q);
}

static void clear_item(const Reduction *r, const Item *item, const Sums *s) {
    if (item->left == 0) clear(1, item->height, s->l + item->top, 0);
    if (!item->last) return;
    clear(1, item->width, s->x + item->left, 0);
    if (!r->tailors.gate) return;
    for (int i = item->row / r->tailors.rows; i * r->tailors.rows < item->row + item->rows; i++) {
        int slot = r->tailors.gate->slot[i];
        if (slot >= 0) clear(r->tailors.n, item->width, tailor_sums(r, s, slot) + item->left, r->q);
    }
}

static void sum_item(const Reduction *r, const Item *item, const Sums *s) {
    _Alignas(64) float buffer[BF16_ROWS * TILE_WIDTH / 2]; // or STEP rows of fp32
    const bool direct = in_place(r, item->row), join = joins(r, item), half = is_bf16(r, item);
    float *sum = (direct ? r->G : s->G) + (size_t)item->top * (size_t)r->q + item->left;
    int slot = -1;
    clear_item(r, item, s);
    for (int i = 0, rows; i < item->rows; i += rows) {
        int row = item->row + i, ldx = r->ldx, height = item->height;
        rows = tile_min(half ? BF16_ROWS : STEP, item->rows - i);
        if (join) {
            int sample = row / r->tailors.rows, next = r->tailors.gate->slot[sample];
            rows = tile_min(rows, (sample + 1) * r->tailors.rows - row);
            change_slot(r, item, s, slot, next);
            slot = next;
            if (slot >= 0) height += r->tailors.n;
        }
        Activation L = activation_at(r->L, (size_t)row * (size_t)r->ldl + (size_t)item->top);
        Activation X = activation_at(r->X, (size_t)row * (size_t)r->ldx + (size_t)item->left);
        if (item->left == 0 && r->sums_l) rows_sum(rows, item->height, L, r->ldl, s->l + item->top);
        if (!r->G && !r->tailors.gate && !r->sums_x) continue;
        if (item->last && r->sums_x) rows_sum(rows, item->width, X, ldx, s->x + item->left);
        if (half) {
            rows_load_pairs(rows, item->width, X, ldx, (uint16_t *)(void *)buffer);
            multiply_bf16(rows, height, item->width, L, r->ldl, (const uint16_t *)(const void *)buffer, sum, r->q,
                          direct || i > 0);
            continue;
        }
        const float *x = gather(rows, item->width, X, &ldx, buffer);
        if (r->G || join) multiply(rows, height, item->width, L, r->ldl, x, ldx, sum, r->q, direct || i > 0);
        if (item->last && r->tailors.gate && !join) add_tailors(r, item, row, rows, x, ldx, s);
    }
    if (join) change_slot(r, item, s, slot, -1);
}

// ---- the parts together --------------------------------------------------------------------------------------------

// g += factor * (sum of the parts, `size` apart), n elements; the first part is overwritten.
ENGINE_CLONES
static void add_parts(int n, int parts, float *sum, size_t size, float factor, float *g) {
    for (int part = 1; part < parts; part++) {
        const float *term = sum + (size_t)part * size;
        for (int j = 0; j < n; j++) sum[j] += term[j];
    }
    for (int j = 0; j < n && parts > 0; j++) g[j] += factor * sum[j];
}

static void add_row(const Reduction *r, const Cut *c, const Sums *s, int i) {
    int first = in_place(r, 0) ? 1 : 0;
    size_t at = (size_t)i * (size_t)r->q;
    add_parts(r->q, c->parts - first, s->G + (size_t)first * s->size + at, s->size, r->scale ? r->scale[i] : 1.0F,
              r->G + at);
}

// Whether a sample of the slot has rows in the part: of the others' sums it leaves nothing.
static bool part_has(const Reduction *r, const Cut *c, int part, int slot) {
    int first = part * c->part, end = first + tile_extent(r->n, c->part, part);
    for (int i = first / r->tailors.rows; i * r->tailors.rows < end; i++) {
        if (r->tailors.gate->slot[i] == slot) return true;
    }
    return false;
}

static void add_tailor(const Reduction *r, const Cut *c, const Sums *s, int slot) {
    const ReduceTailors *t = &r->tailors;
    for (int part = 0; part < c->parts && t->gate->dtailor[slot]; part++) {
        if (!part_has(r, c, part, slot)) continue;
        for (int i = 0; i < t->n; i++) {
            size_t at = (size_t)i * (size_t)r->q;
            float *sum = s->tailors + (size_t)part * s->size + (size_t)slot * (size_t)t->n * (size_t)r->q + at;
            add_parts(r->q, 1, sum, 0, t->gate->tailor[slot][t->scale + (size_t)i], t->gate->dtailor[slot] + t->G + at);
        }
    }
}

// A reduction being run: its items are numbered by part, then down, then across.
typedef struct Task {
    const Reduction *r;
    Cut cut;
    Sums sums;
    int items;
} Task;

static Task begin(const Reduction *r, float **scratch) {
    int n_slots = r->tailors.gate ? r->tailors.gate->n_slots : 0;
    Task t = {.r = r};
    if (r->n == 0 || r->q == 0) return t;
    t.cut = cut(r->n, r->p, r->q);
    t.items = t.cut.parts * t.cut.down * t.cut.across;
    t.sums = lay_out(r->p, r->q, r->tailors.n, n_slots, *scratch);
    *scratch += (size_t)t.cut.parts * t.sums.size;
    return t;
}

static void run_item(const Task *t, int index) {
    const Cut *c = &t->cut;
    int j = index % c->across, i = index / c->across % c->down, part = index / c->across / c->down;
    Item item = {
        part * c->part, tile_extent(t->r->n, c->part, part), i * c->height,   tile_extent(t->r->p, c->height, i),
        j * c->width,   tile_extent(t->r->q, c->width, j),   i + 1 == c->down};
    size_t offset = (size_t)part * t->sums.size;
    Sums own = {t->sums.G + offset, t->sums.l + offset, t->sums.x + offset, t->sums.tailors + offset, 0};
    sum_item(t->r, &item, &own);
}

static void end(const Task *t) {
    const Reduction *r = t->r;
    if (t->items == 0) return;
#pragma omp for schedule(static) nowait
    for (int i = 0; i < (r->G ? r->p : 0); i++) add_row(r, &t->cut, &t->sums, i);
#pragma omp for schedule(static) nowait
    for (int slot = 0; slot < (r->tailors.gate ? r->tailors.gate->n_slots : 0); slot++) {
        add_tailor(r, &t->cut, &t->sums, slot);
    }
#pragma omp single nowait
    {
        if (r->sums_l) add_parts(r->p, t->cut.parts, t->sums.l, t->sums.size, 1.0F, r->sums_l);
        if (r->sums_x) add_parts(r->q, t->cut.parts, t->sums.x, t->sums.size, 1.0F, r->sums_x);
    }
}

void reduce(Engine *engine, int count, const Reduction *r, float *scratch) {
    Task tasks[REDUCE_MOST];
    int items = 0;
    for (int i = 0; i < count; i++) {
        tasks[i] = begin(&r[i], &scratch);
        items += tasks[i].items;
    }
#pragma omp parallel num_threads(engine->threads)
    {
        amx_begin();
#pragma omp for schedule(dynamic)
        for (int item = 0; item < items; item++) {
            int task = item < tasks[0].items ? 0 : 1;
            run_item(&tasks[task], item - (task > 0 ? tasks[0].items : 0));
        }
        amx_end();
        for (int i = 0; i < count; i++) end(&tasks[i]);
    }
}
