// Gradients of LoRA's factors, from x and the gradient dy of y = x M^T (lora.c):
//
//     dA = dh^T x      dB = s g * (a^T dy)      a = x A^T      dh = dy (s g * B)^T
//
// A tile of rows gives both its hidden rows, a and dh, and their sums while it is in cache: neither is kept, and
// nothing of M's size is formed. Rows in bf16 are multiplied as such where the processor does. Rows are cut into parts
// whose sums are added in order.
#include <string.h>

#include "engine/panel.h"

enum { VECTOR = 16 };

typedef struct Side { // x and A, or dy and s g * B
    Activation rows;
    int m;
    float *panels; // (m, r) in panels of panel_width columns, the last one padded to whole vectors
    size_t sums;   // where its (r, m) begin in a part
} Side;

typedef struct Sums {
    int n, r, stride; // stride: of hidden rows
    int part, parts;  // rows of a part, and how many
    PanelForm form;
    Side x, dy;
    const float *s;
    float *g;      // (m2)
    float *hidden; // (parts, 3, PANEL_ROWS, stride): dh, a, and either turned
    float *sums;   // (parts, r, m1 + m2)
} Sums;

// ---- layout --------------------------------------------------------------------------------------------------------

static Sums lay_out(const LoraShape *shape, int n) {
    const size_t each = (size_t)shape->r * (size_t)(shape->m1 + shape->m2);
    Sums s = {.n = n, .r = shape->r, .stride = tile_round(shape->r, VECTOR)};
    s.part = tile_part(n, each, PANEL_ROWS);
    s.parts = tile_count(n, s.part);
    s.x.m = shape->m1;
    s.dy.m = shape->m2;
    s.dy.sums = (size_t)shape->r * (size_t)shape->m1;
    return s;
}

static size_t part_size(const Sums *s) {
    return scratch_size((size_t)s->r * (size_t)(s->x.m + s->dy.m));
}

static size_t hidden_size(const Sums *s) {
    return (size_t)PANEL_ROWS * (size_t)s->stride;
}

size_t engine_lora_backward_scratch(const LoraShape *shape, int n) {
    const Sums s = lay_out(shape, n);
    const size_t m2 = (size_t)shape->m2;
    return scratch_size(m2) + scratch_size((size_t)s.r * m2) + scratch_size(panel_size(shape->m1, s.stride)) +
           scratch_size(panel_size(shape->m2, s.stride)) + (size_t)s.parts * (3 * hidden_size(&s) + part_size(&s));
}

// ---- packing -------------------------------------------------------------------------------------------------------

// out (r, m2) = s g * B
static void scale_factor(Engine *engine, const Sums *s, const float *B, float *out) {
#pragma omp parallel for num_threads(engine->threads) schedule(static)
    for (int k = 0; k < s->r; k++) {
        const size_t at = (size_t)k * (size_t)s->dy.m;
        for (int j = 0; j < s->dy.m; j++) out[at + (size_t)j] = s->s[k] * s->g[j] * B[at + (size_t)j];
    }
}

static void pack(Engine *engine, const Sums *s, const Side *side, const float *factor) {
#pragma omp parallel for num_threads(engine->threads) schedule(static)
    for (int j = 0; j < s->r; j += panel_width(s->form)) {
        const int columns = tile_min(panel_width(s->form), s->r - j), width = tile_round(columns, VECTOR);
        float *panel = panel_at(s->form, side->panels, side->m, j);
        memset(panel, 0, panel_rows(s->form, side->m) * (size_t)width * sizeof *panel);
        panel_set_columns(s->form, side->m, 0, columns, factor + (size_t)j * (size_t)side->m, side->m, panel, width);
    }
}

// ---- a part --------------------------------------------------------------------------------------------------------

// Columns [first, first + depth) of rows from `row` on.
static Operand read_rows(const Sums *s, const Side *side, int row, int rows, int first, int depth, float *buffer) {
    const Activation from = activation_at(side->rows, (size_t)row * (size_t)side->m + (size_t)first);
    return operand_read(s->form, rows, depth, from, side->m, buffer);
}

// hidden (rows, stride) [+]= x factor^T, of these columns of x.
static void project(const Sums *s, const Side *side, Operand x, int rows, int first, int depth, float *hidden) {
    panel_multiply(rows, depth, s->stride, x, side->panels, side->m, first, panel_width(s->form), hidden, s->stride,
                   first > 0);
}

// The transpose of hidden rows in bf16, (r, rows up to a whole step), into the third of them.
static const uint16_t *turn(const Sums *s, int rows, const float *hidden, float *turned) {
    uint16_t *left = (uint16_t *)(void *)(turned + hidden_size(s) / 2);
    rows_load_columns(rows, s->r, activation_f32(hidden), s->stride, turned, left);
    return left;
}

// sums (r, m), these columns, [+]= hidden^T x; left: hidden, turned where in bf16. buffer: of what x lies in, the
// second half.
static void add_rows(const Sums *s, const Side *side, Operand x, int rows, int first, int depth, const void *left,
                     float *buffer, float *sums, bool accumulate) {
    float *to = sums + side->sums + first;
    if (s->form == PANEL_BF16) {
        const int terms = tile_round(rows, BF16_STEP);
        uint16_t *pairs = (uint16_t *)(void *)(buffer + PANEL_BUFFER / 2);
        const Activation from = {.data = (void *)x.rows, .type = ENGINE_BF16};
        rows_load_panels(rows, depth, from, x.ld, pairs);
        gemm_bf16_panels(s->r, depth, terms, left, terms, pairs, terms, 0, to, side->m, accumulate);
        return;
    }
    gemm_wide(GEMM_TN, s->r, depth, rows, left, s->stride, x.rows, x.ld, to, side->m, accumulate);
}

static void sum_tile(const Sums *s, int row, int rows, float *hidden, float *sums, bool accumulate) {
    _Alignas(64) float buffer[PANEL_BUFFER];
    float *dh = hidden, *a = hidden + hidden_size(s), *turned = a + hidden_size(s);
    const bool half = s->form == PANEL_BF16;
    const int piece = panel_piece(s->form);
    for (int first = 0; first < s->dy.m; first += piece) {
        const int depth = tile_min(piece, s->dy.m - first);
        project(s, &s->dy, read_rows(s, &s->dy, row, rows, first, depth, buffer), rows, first, depth, dh);
    }
    const void *left = half ? (const void *)turn(s, rows, dh, turned) : dh;
    for (int first = 0; first < s->x.m; first += piece) {
        const int depth = tile_min(piece, s->x.m - first);
        const Operand x = read_rows(s, &s->x, row, rows, first, depth, buffer);
        project(s, &s->x, x, rows, first, depth, a);
        add_rows(s, &s->x, x, rows, first, depth, left, buffer, sums, accumulate);
    }
    left = half ? (const void *)turn(s, rows, a, turned) : a;
    for (int first = 0; first < s->dy.m; first += piece) {
        const int depth = tile_min(piece, s->dy.m - first);
        const Operand dy = read_rows(s, &s->dy, row, rows, first, depth, buffer);
        add_rows(s, &s->dy, dy, rows, first, depth, left, buffer, sums, accumulate);
    }
}

static void sum_part(const Sums *s, int part) {
    float *hidden = s->hidden + (size_t)part * 3 * hidden_size(s), *sums = s->sums + (size_t)part * part_size(s);
    const int end = tile_extent(s->n, s->part, part);
    for (int i = 0; i < end; i += PANEL_ROWS) {
        sum_tile(s, part * s->part + i, tile_min(PANEL_ROWS, end - i), hidden, sums, i > 0);
    }
}

// The sums of row k of both factors, of all parts.
static void finish_row(const Sums *s, int k, const LoraGradients *d) {
    const size_t m1 = (size_t)s->x.m, m2 = (size_t)s->dy.m, row = (size_t)k;
    float *sums_a = s->sums + s->x.sums + row * m1, *sums_b = s->sums + s->dy.sums + row * m2;
    for (int part = 1; part < s->parts; part++) {
        const size_t at = (size_t)part * part_size(s);
        for (size_t j = 0; j < m1; j++) sums_a[j] += sums_a[at + j];
        for (size_t j = 0; j < m2; j++) sums_b[j] += sums_b[at + j];
    }
    for (size_t j = 0; j < m1; j++) d->A[row * m1 + j] += sums_a[j];
    for (size_t j = 0; j < m2; j++) d->B[row * m2 + j] += s->s[k] * s->g[j] * sums_b[j];
}

void engine_lora_backward(Engine *engine, const LoraShape *shape, int n, const LoraFactors *f, const float *norms,
                          Activation x, Activation dy, const LoraGradients *d) {
    engine_profile_begin(engine);
    Sums s = lay_out(shape, n);
    const size_t m2 = (size_t)s.dy.m;
    float *scratch = engine->scratch, *B = scratch_take(&scratch, (size_t)s.r * m2);
    s.g = scratch_take(&scratch, m2);
    s.x.rows = x;
    s.dy.rows = dy;
    s.form = panel_form(dy.type, NULL) == PANEL_BF16 ? PANEL_BF16 : PANEL_F32;
    s.x.panels = scratch_take(&scratch, panel_size(s.x.m, s.stride));
    s.dy.panels = scratch_take(&scratch, panel_size(s.dy.m, s.stride));
    s.hidden = scratch_take(&scratch, (size_t)s.parts * 3 * hidden_size(&s));
    s.sums = scratch;
    s.s = f->s;
    for (int j = 0; j < s.dy.m; j++) s.g[j] = f->lengths ? f->lengths[j] / norms[j] : 1.0F;
    scale_factor(engine, &s, f->B, B);
    pack(engine, &s, &s.x, f->A);
    pack(engine, &s, &s.dy, B);
#pragma omp parallel num_threads(engine->threads)
    {
        amx_begin();
#pragma omp for schedule(dynamic)
        for (int part = 0; part < s.parts; part++) sum_part(&s, part);
        amx_end();
#pragma omp for schedule(static)
        for (int k = 0; k < s.r; k++) finish_row(&s, k, d);
    }
    engine_profile_end(
        engine, KERNEL_ADAPTER, 4.0 * n * s.r * (shape->m1 + shape->m2),
        (double)n * (shape->m1 * (double)engine_type_size(x.type) + shape->m2 * (double)engine_type_size(dy.type)));
}
