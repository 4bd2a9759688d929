#include "engine/reduce.h"

#include <string.h>

#include "engine/amx.h"
#include "engine/gemm_bf16.h"
#include "engine/rows.h"
#include "engine/simd.h"
#include "engine/tile.h"

enum {
    TILE_HEIGHT = 384, // most rows ...
    TILE_WIDTH = 384,  // ... and columns of G that one work item sums; twice as many of bf16: L is turned for each
    STEP = 256,        // rows of L and X at a time: a tile of G is read and written once for each
    LEFT = 96,         // rows of G that one kernel call sums
    PIECE = 16,        // rows of X that are copied at a time, all their columns one after the other
    TAILOR_ROWS = 16,  // rows of tailors' sums that one kernel call sums: what a tile of the processor's bf16 has
    PART_ROWS = 512,   // fewest rows in a part
    WORK_ITEMS = 16    // parts are added until there are about so many items to share out
};

typedef struct Cut {
    int height, width, part; // rows and columns of a tile of G; rows of L and X in a part
    int down, across, parts;
} Cut;

static Cut cut(int n, int p, int q, bool half) {
    const int widest = half ? 2 * TILE_WIDTH : TILE_WIDTH;
    Cut c = {.height = tile_even(p, TILE_HEIGHT, 2), .width = tile_even(q, widest, gemm_columns())};
    c.down = p > 0 ? tile_count(p, c.height) : 1;
    c.across = tile_count(q, c.width);
    int wanted = tile_count(WORK_ITEMS, tile_min(c.down * c.across, WORK_ITEMS));
    c.part = tile_round(tile_count(n, tile_min(wanted, tile_count(n, PART_ROWS))), STEP);
    c.parts = tile_count(n, c.part);
    return c;
}

// What one part sums: each piece lies as far from the same piece of the next part.
typedef struct Sums {
    float *G;       // (p, q)
    float *l, *x;   // (p), (q)
    float *tailors; // (n_slots, n_tailor, q)
    size_t size;    // of a part, in floats
} Sums;

static Sums lay_out(int p, int q, int n_tailor, int n_slots, float *scratch) {
    size_t rows = (size_t)p, columns = (size_t)q;
    size_t g = rows * columns, tailors = (size_t)n_slots * (size_t)n_tailor * columns;
    Sums s = {.G = scratch, .size = scratch_size(g + rows + columns + tailors)};
    if (!scratch) return s;
    s.l = s.G + g;
    s.x = s.l + rows;
    s.tailors = s.x + columns;
    return s;
}

size_t reduce_scratch(int n, int p, int q, int n_tailor, int n_slots) {
    if (n == 0 || q == 0) return 0;
    const int parts = tile_max(cut(n, p, q, false).parts, cut(n, p, q, true).parts);
    return (size_t)parts * lay_out(p, q, n_tailor, n_slots, NULL).size;
}

// ---- one part of one tile ------------------------------------------------------------------------------------------

// Rows of X in cache, in panels, each of all rows: as fp32 of gemm_columns (rows of the last one are as far apart), as
// bf16 as gemm_bf16_panels has them.
typedef struct Right {
    int rows, width;
    bool half;
    float *x; // STEP * TILE_WIDTH
} Right;

static void load_right(Activation from, int stride, Right *right) {
    if (right->half) {
        rows_load_panels(right->rows, right->width, from, stride, (uint16_t *)(void *)right->x);
        return;
    }
    const int columns = gemm_columns();
    for (int i = 0; i < right->rows; i += PIECE) {
        for (int j = 0; j < right->width; j += columns) {
            rows_load(tile_min(PIECE, right->rows - i), tile_min(columns, right->width - j),
                      activation_at(from, (size_t)i * (size_t)stride + (size_t)j), stride,
                      right->x + (size_t)j * (size_t)right->rows + (size_t)i * (size_t)columns, columns);
        }
    }
}

static void multiply_f32(const Right *right, int first, int rows, int left, Activation L, int ldl, float *sum, int ld,
                         bool accumulate) {
    _Alignas(64) float buffer[STEP * LEFT];
    const int columns = gemm_columns();
    const float *l = L.data;
    if (ldl > FAR_STRIDE || !rows_in_place(L)) {
        rows_load(rows, left, L, ldl, buffer, left);
        ldl = left;
        l = buffer;
    }
    for (int j = 0; j < right->width; j += columns) {
        const float *x = right->x + (size_t)j * (size_t)right->rows + (size_t)first * (size_t)columns;
        gemm_tile(GEMM_TN, left, tile_min(columns, right->width - j), rows, l, ldl, x, columns, sum + j, ld,
                  accumulate);
    }
}

static void multiply_bf16(const Right *right, int first, int rows, int left, Activation L, int ldl, float *sum, int ld,
                          bool accumulate) {
    _Alignas(64) float pairs[STEP / 2 * LEFT];
    _Alignas(64) uint16_t left_t[LEFT * STEP];
    const int depth = tile_round(rows, BF16_STEP);
    rows_load_columns(rows, left, L, ldl, pairs, left_t);
    gemm_bf16_panels(left, right->width, depth, left_t, depth, (const uint16_t *)(const void *)right->x,
                     tile_round(right->rows, BF16_STEP), first, sum, ld, accumulate);
}

// sum (height, width; rows `ld` apart) = [sum +] L^T x over `rows` rows of x from `first` on, a multiple of BF16_STEP.
static void multiply(const Right *right, int first, int rows, int height, Activation L, int ldl, float *sum, int ld,
                     bool accumulate) {
    int most = tile_even(height, LEFT, right->half ? 32 : 6); // kernels keep three or six rows of G in registers
    for (int i = 0; i < height; i += most) {
        (right->half ? multiply_bf16 : multiply_f32)(right, first, rows, tile_min(most, height - i),
                                                     activation_at(L, (size_t)i), ldl, sum + (size_t)i * (size_t)ld, ld,
                                                     accumulate);
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

// Some samples in a row, or the part of them that lies in rows [row, end): their tailors' components are summed
// together, from columns of L that are zero in the other samples' rows.
typedef struct Samples {
    int first, count; // samples
    int row, end;
    int component, n; // of each tailor
} Samples;

static Samples take_samples(const ReduceTailors *t, int row, int end) {
    Samples m = {.first = row / t->rows, .row = row};
    int most = t->n < TAILOR_ROWS ? TAILOR_ROWS / t->n : 1;
    m.end = tile_min((m.first + most) * t->rows, end);
    m.count = tile_count(m.end, t->rows) - m.first;
    return m;
}

static void add_samples(const Reduction *r, const Item *item, const Samples *m, const Right *right, int row,
                        const Sums *s) {
    _Alignas(64) float left[STEP * TAILOR_ROWS], sums[2 * TAILOR_ROWS * TILE_WIDTH];
    const ReduceTailors *t = &r->tailors;
    const int first = (m->row - row) / BF16_STEP * BF16_STEP, columns = right->half ? TAILOR_ROWS : m->count * m->n;
    const int rows = tile_min(tile_round(m->end - row, BF16_STEP), right->rows) - first;
    memset(left, 0, (size_t)rows * (size_t)columns * sizeof *left);
    for (int i = 0; i < m->count; i++) {
        int begin = tile_max(m->row, (m->first + i) * t->rows), end = tile_min(m->end, (m->first + i + 1) * t->rows);
        Activation L = activation_at(r->L, (size_t)begin * (size_t)r->ldl + (size_t)(r->p + m->component));
        rows_load(end - begin, m->n, L, r->ldl, left + (size_t)(begin - row - first) * (size_t)columns + i * m->n,
                  columns);
    }
    multiply(right, first, rows, columns, activation_f32(left), columns, sums, right->width, false);
    for (int i = 0; i < m->count; i++) {
        int slot = t->gate->slot[m->first + i];
        for (int c = 0; c < m->n && slot >= 0; c++) {
            float *to = tailor_sums(r, s, slot) + (size_t)(m->component + c) * (size_t)r->q + item->left;
            const float *sum = sums + (size_t)(i * m->n + c) * (size_t)right->width;
            for (int j = 0; j < right->width; j++) to[j] += sum[j];
        }
    }
}

// Adds rows from `row` on, which `right` holds, to the tailors' sums.
static void add_tailors(const Reduction *r, const Item *item, const Right *right, int row, const Sums *s) {
    const int n = r->tailors.n, end = row + right->rows;
    for (Samples m = {.end = row}; m.end < end;) {
        m = take_samples(&r->tailors, m.end, end);
        for (; m.component < n; m.component += m.n) {
            m.n = tile_min(TAILOR_ROWS, n - m.component);
            add_samples(r, item, &m, right, row, s);
        }
    }
}

static bool is_half(const Reduction *r) {
    return r->L.type == ENGINE_BF16 && r->X.type == ENGINE_BF16 && gemm_bf16_is_native();
}

// The first part of a sum that needs no scaling is formed in the result.
static bool in_place(const Reduction *r, int row) {
    return row == 0 && r->G && !r->scale;
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
    _Alignas(64) float x[STEP * TILE_WIDTH];
    const bool direct = in_place(r, item->row), tailors = item->last && r->tailors.gate;
    float *sum = (direct ? r->G : s->G) + (size_t)item->top * (size_t)r->q + item->left;
    Right right = {.width = item->width, .x = x};
    right.half = is_half(r);
    clear_item(r, item, s);
    for (int i = 0; i < item->rows; i += STEP) {
        int row = item->row + i;
        Activation L = activation_at(r->L, (size_t)row * (size_t)r->ldl + (size_t)item->top);
        Activation X = activation_at(r->X, (size_t)row * (size_t)r->ldx + (size_t)item->left);
        right.rows = tile_min(STEP, item->rows - i);
        if (item->left == 0 && r->sums_l) rows_sum(right.rows, item->height, L, r->ldl, s->l + item->top);
        if (item->last && r->sums_x) rows_sum(right.rows, item->width, X, r->ldx, s->x + item->left);
        if (!r->G && !tailors) continue;
        load_right(X, r->ldx, &right);
        if (r->G) multiply(&right, 0, right.rows, item->height, L, r->ldl, sum, r->q, direct || i > 0);
        if (tailors) add_tailors(r, item, &right, row, s);
    }
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

void reduce_add_tailor(const ReduceTailors *t, int slot, int q, float *sums) {
    for (int i = 0; i < t->n; i++) {
        const size_t at = (size_t)i * (size_t)q;
        add_parts(q, 1, sums + at, 0, t->gate->tailor[slot][t->scale + (size_t)i], t->gate->dtailor[slot] + t->G + at);
    }
}

static void add_tailor(const Reduction *r, const Cut *c, const Sums *s, int slot) {
    const ReduceTailors *t = &r->tailors;
    for (int part = 0; part < c->parts && t->gate->dtailor[slot]; part++) {
        if (!part_has(r, c, part, slot)) continue;
        reduce_add_tailor(t, slot, r->q, tailor_sums(r, s, slot) + (size_t)part * s->size);
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
    t.cut = cut(r->n, r->p, r->q, is_half(r));
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
