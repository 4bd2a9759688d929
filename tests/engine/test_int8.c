// Products of 8-bit integers from end to end: rows rounded as they are read, weights as files keep them, against a twin
// in double with the weights that such a file would hold. Skipped where the processor multiplies no integers.
#include "matrices.h"

#include "engine/panel.h"
#include "engine/plain_gated.h"
#include "engine/plain_linear.h"
#include "engine/plain_ops.h"
#include "formats/quant.h"

enum { N_SLOTS = 2, N_SAMPLES = 6 };

static void skip_where_there_is_none(void) {
    if (!gemm_int8_is_native()) skip();
}

// ---- the weights ---------------------------------------------------------------------------------------------------

// Rows as a file in 8 bits gives them back: its integers and scales too, if wanted.
static void through_file(int rows, int width, float *w, uint8_t *q, float *scales) {
    for (int i = 0; i < rows; i++, w += width) {
        uint8_t own[2048];
        uint16_t scale;
        assert_true(quant_encode_row(8, w, (size_t)width, own, &scale));
        assert_true(quant_decode_row(8, own, &scale, (size_t)width, w));
        if (q) memcpy(q + (size_t)i * (size_t)width, own, (size_t)width);
        if (scales) scales[i] = bf16_to_float(scale);
    }
}

// Packing what was read from a file in 8 bits gives that file's integers and scales, whichever way it packs.
static void test_packs_hold_the_file(void **state) {
    (void)state;
    enum { ROWS = 70, WIDTH = 300 };
    KinditContext ctx;
    Engine *engine = engine_with_threads(&ctx, 2, 0);
    Numbers w = numbers_random((size_t)ROWS * WIDTH, 1), found = numbers_zero(ROWS);
    float scales[ROWS], *columns, *rows;
    uint8_t q[ROWS * WIDTH];
    for (int i = 0; i < WIDTH; i++) w.f[3 * WIDTH + i] *= 1e-30F, w.f[5 * WIDTH + i] = 0;
    through_file(ROWS, WIDTH, w.f, q, scales);
    assert_int_equal(engine_alloc(engine, panel_size(WIDTH, ROWS), &columns), KINDIT_OK);
    assert_int_equal(engine_alloc(engine, panel_size(ROWS, WIDTH), &rows), KINDIT_OK);
    panel_pack_transposed(engine, PANEL_INT8, WIDTH, ROWS, w.f, WIDTH, columns);
    panel_find_scales(engine, ROWS, WIDTH, w.f, WIDTH, found.f);
    panel_pack(engine, PANEL_INT8, ROWS, WIDTH, w.f, WIDTH, found.f, rows);
    assert_memory_equal(found.f, scales, sizeof scales);
    for (int i = 0; i < ROWS; i++) {
        const int of = i / PANEL_NARROW, at = i % PANEL_NARROW, wide = tile_extent(ROWS, PANEL_NARROW, of);
        const float *panel = panel_at(PANEL_INT8, columns, WIDTH, of * PANEL_NARROW);
        assert_true(panel[panel_rows(PANEL_INT8, WIDTH) * (size_t)wide + (size_t)at] == scales[i]);
        for (int j = 0; j < WIDTH; j++) {
            const int to = j / PANEL_NARROW, high = tile_extent(WIDTH, PANEL_NARROW, to);
            const int8_t *across = (const int8_t *)panel_at(PANEL_INT8, rows, ROWS, to * PANEL_NARROW);
            assert_int_equal(((const int8_t *)panel)[4 * (j / 4 * wide + at) + j % 4], (int8_t)q[i * WIDTH + j]);
            assert_int_equal(across[4 * (i / 4 * high + j % PANEL_NARROW) + i % 4], (int8_t)q[i * WIDTH + j]);
        }
    }
    engine_free(engine, &columns), engine_free(engine, &rows);
    numbers_free(&w), numbers_free(&found);
    engine_close(&engine);
}

// ---- comparing -----------------------------------------------------------------------------------------------------

// A number rounded to a step is off by up to half of it, evenly: its variance is step^2 / 12. The errors of a sum are
// independent, so `deviation` is the root of their squares' sum, and 6 of them hold for all the numbers here.
static void assert_within(const Numbers *y, size_t i, double deviation, double size, const char *what) {
    const double bound = 6 * deviation + 1e-5 * size;
    if (!(fabs((double)y->f[i] - y->d[i]) <= bound)) {
        fail_msg("%s[%zu]: expected %.9g, found %.9g, bound %.3g", what, i, y->d[i], (double)y->f[i], bound);
    }
}

static double step_of(const double *row, int n) {
    double largest = 0;
    for (int i = 0; i < n; i++) largest = fmax(largest, fabs(row[i]));
    return largest / 127;
}

static double norm_of(const double *row, int n, int stride) {
    double squares = 0;
    for (int i = 0; i < n; i++) squares += row[(size_t)i * (size_t)stride] * row[(size_t)i * (size_t)stride];
    return sqrt(squares);
}

// ---- the dense product ---------------------------------------------------------------------------------------------

typedef struct Dense {
    int n, m1, m2;
} Dense;

static void run_dense(int threads, Dense c, EngineType type, bool gelu, bool kept, Numbers of[4]) {
    KinditContext ctx;
    Engine *engine = engine_with_threads(&ctx, threads, engine_linear_scratch(c.n, c.m1, c.m2));
    EnginePack pack = {.int8 = true};
    of[0] = numbers_random((size_t)(c.n * c.m1), 1), of[1] = numbers_random((size_t)(c.m1 * c.m2), 2);
    of[2] = numbers_random((size_t)c.m2, 3), of[3] = numbers_zero((size_t)(c.n * c.m2));
    Activation x = numbers_as(&of[0], type), y = numbers_as(&of[3], type);
    x.gelu = gelu;
    if (kept) assert_int_equal(engine_alloc(engine, engine_linear_pack(c.m1, c.m2), &pack.weights), KINDIT_OK);
    engine_linear_forward(engine, c.n, c.m1, c.m2, x, of[1].f, of[2].f, y, &pack);
    numbers_fetch(&of[3], type);
    engine_free(engine, &pack.weights);
    engine_close(&engine);
}

static void free_dense(Numbers of[4]) {
    for (int i = 0; i < 4; i++) numbers_free(&of[i]);
}

static void check_dense(Dense c, EngineType type, bool gelu) {
    Numbers of[4], *x = &of[0], *W = &of[1], *y = &of[3];
    run_dense(2, c, type, gelu, true, of);
    through_file(c.m2, c.m1, W->f, NULL, NULL);
    for (size_t i = 0; i < W->n; i++) W->d[i] = W->f[i];
    if (gelu) plain_gelu_forward_f64(x->n, x->d, x->d);
    plain_linear_forward_f64(c.n, c.m1, c.m2, x->d, W->d, of[2].d, y->d);
    for (int i = 0; i < c.n; i++) {
        const double step = step_of(x->d + (size_t)i * (size_t)c.m1, c.m1);
        for (int j = 0; j < c.m2; j++) {
            const size_t at = (size_t)i * (size_t)c.m2 + (size_t)j;
            const double error = step / sqrt(12) * norm_of(W->d + (size_t)j * (size_t)c.m1, c.m1, 1);
            const double stored = type == ENGINE_BF16 ? fabs(y->d[at]) / 256 : 0;
            assert_within(y, at, error + stored, sqrt(c.m1), "y");
        }
    }
    free_dense(of);
}

static void test_dense(void **state) {
    (void)state;
    skip_where_there_is_none();
    static const Dense cases[] = {{1, 1, 1}, {5, 40, 70}, {130, 300, 50}, {64, 192, 768}, {33, 530, 33}};
    for (size_t i = 0; i < 4 * sizeof cases / sizeof *cases; i++) {
        check_dense(cases[i / 4], i % 2 ? ENGINE_BF16 : ENGINE_F32, i / 2 % 2);
    }
}

// The same bits for any number of threads, any number of rows, and whether the pack is kept or made anew.
static void test_dense_keeps_its_bits(void **state) {
    (void)state;
    skip_where_there_is_none();
    Numbers one[4], other[4];
    run_dense(1, (Dense){300, 200, 70}, ENGINE_F32, true, true, one);
    for (int n = 1; n <= 300; n = n * 3 + 1) {
        run_dense(1 + n % 3, (Dense){n, 200, 70}, ENGINE_F32, true, n % 2, other);
        assert_memory_equal(other[3].f, one[3].f, other[3].n * sizeof(float));
        free_dense(other);
    }
    free_dense(one);
}

// ---- the gated product ---------------------------------------------------------------------------------------------

typedef struct Gated {
    Numbers U, s, V, bias, x, a, y, tailor[N_SLOTS];
    size_t tailor_s, tailor_V; // tailors: U, then s, then V
} Gated;

static const int slots[N_SAMPLES] = {0, -1, 1, 1, -1, 0};

static Gated gated_random(const GatedShape *shape, int n) {
    const size_t m1 = (size_t)shape->m1, m2 = (size_t)shape->m2, g = (size_t)shape->n_learngene;
    const size_t t = (size_t)shape->n_tailor, rows = (size_t)n * (size_t)shape->rows;
    Gated w = {.U = numbers_random(g * m1, 1),
               .s = numbers_random(g, 2),
               .V = numbers_random(g * m2, 3),
               .bias = numbers_random(m2, 4),
               .x = numbers_random(rows * m1, 5),
               .a = numbers_zero(rows * (g + t)),
               .y = numbers_zero(rows * m2),
               .tailor_s = t * m1,
               .tailor_V = t * m1 + t};
    for (int i = 0; i < N_SLOTS; i++) w.tailor[i] = numbers_random(w.tailor_V + t * m2, 10 + (uint64_t)i);
    return w;
}

static void gated_free(Gated *w) {
    Numbers *all[] = {&w->U, &w->s, &w->V, &w->bias, &w->x, &w->a, &w->y};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) numbers_free(all[i]);
    for (int i = 0; i < N_SLOTS; i++) numbers_free(&w->tailor[i]);
}

static void run_gated(int threads, const GatedShape *shape, int n, EngineType type, bool gelu, bool kept, Gated *w) {
    KinditContext ctx;
    Engine *engine = engine_with_threads(&ctx, threads, engine_gated_scratch(shape, n, N_SLOTS));
    EnginePack pack = {.int8 = true};
    const float *tailors[N_SLOTS] = {w->tailor[0].f, w->tailor[1].f};
    Gate gate = {n, N_SLOTS, slots, tailors, NULL};
    GatedWeights weights = {w->U.f, w->s.f, w->V.f, w->bias.f, 0, w->tailor_s, w->tailor_V};
    Activation x = numbers_as(&w->x, type), a = activation_f32(w->a.f), y = numbers_as(&w->y, type);
    x.gelu = gelu;
    if (kept) assert_int_equal(engine_alloc(engine, engine_gated_pack(shape, N_SLOTS), &pack.weights), KINDIT_OK);
    for (int pass = 0; pass < 2; pass++) engine_gated_forward(engine, shape, &gate, &weights, x, a, y, false, &pack);
    numbers_fetch(&w->y, type);
    engine_free(engine, &pack.weights);
    engine_close(&engine);
}

// Rows of w as a file gives them back, in double.
static void rows_of_file(int rows, int width, Numbers *w, size_t offset) {
    through_file(rows, width, w->f + offset, NULL, NULL);
    for (size_t i = 0; i < (size_t)rows * (size_t)width; i++) w->d[offset + i] = w->f[offset + i];
}

static void run_twin(const GatedShape *shape, bool gelu, Gated *w) {
    double *tailors[N_SLOTS] = {w->tailor[0].d, w->tailor[1].d};
    PlainFactors_f64 factors = {w->U.d, w->s.d, w->V.d, w->bias.d, tailors, 0, w->tailor_s, w->tailor_V};
    rows_of_file(shape->n_learngene, shape->m1, &w->U, 0);
    rows_of_file(shape->n_learngene, shape->m2, &w->V, 0);
    for (int i = 0; i < N_SLOTS; i++) {
        rows_of_file(shape->n_tailor, shape->m1, &w->tailor[i], 0);
        rows_of_file(shape->n_tailor, shape->m2, &w->tailor[i], w->tailor_V);
    }
    if (gelu) plain_gelu_forward_f64(w->x.n, w->x.d, w->x.d);
    plain_gated_forward_f64(shape, N_SAMPLES, slots, &factors, w->x.d, w->a.d, w->y.d);
}

// Component k of a row's class: its row of U or V (width m) and its sigma.
static const double *component(const GatedShape *shape, const Gated *w, int slot, int k, bool of_V, double *sigma) {
    const int m = of_V ? shape->m2 : shape->m1, tailor = k - shape->n_learngene;
    const size_t at = (size_t)(tailor < 0 ? k : tailor) * (size_t)m;
    if (tailor < 0) return *sigma = w->s.d[k], (of_V ? w->V.d : w->U.d) + at;
    *sigma = w->tailor[slot].d[w->tailor_s + (size_t)tailor];
    return w->tailor[slot].d + (of_V ? w->tailor_V : 0) + at;
}

// Two roundings: x, whose error comes to y through both factors, and the hidden row times sigma and the scales of V.
static void check_row(const GatedShape *shape, const Gated *w, int row, EngineType type) {
    const int slot = slots[row / shape->rows], all = shape->n_learngene + shape->n_tailor, m2 = shape->m2;
    const int open = slot >= 0 ? all : shape->n_learngene;
    const double step = step_of(w->x.d + (size_t)row * (size_t)shape->m1, shape->m1) / sqrt(12);
    double hidden = 0, sigma, of_hidden[512], scale[512];
    for (int k = 0; k < open; k++) {
        const double *u = component(shape, w, slot, k, false, &sigma);
        const size_t at = (size_t)row * (size_t)all + (size_t)k;
        of_hidden[k] = step * norm_of(u, shape->m1, 1);
        assert_within(&w->a, at, of_hidden[k], sqrt(shape->m1), "a");
        scale[k] = step_of(component(shape, w, slot, k, true, &sigma), m2);
        hidden = fmax(hidden, (fabs(w->a.d[at]) + 6 * of_hidden[k]) * fabs(sigma) * scale[k]);
    }
    for (int j = 0; j < m2; j++) {
        double squares = 0;
        for (int k = 0; k < open; k++) {
            const double *v = component(shape, w, slot, k, true, &sigma);
            squares += pow(v[j] * sigma * of_hidden[k], 2);
            if (scale[k] > 0) squares += pow(v[j] / scale[k] * hidden / 127 / sqrt(12), 2);
        }
        const size_t at = (size_t)row * (size_t)m2 + (size_t)j;
        assert_within(&w->y, at, sqrt(squares) + (type == ENGINE_BF16 ? fabs(w->y.d[at]) / 256 : 0), all, "y");
    }
}

static const GatedShape shapes[] = {
    {1, 1, 1, 1, 1, false},        {10, 12, 9, 5, 3, false},     {64, 40, 70, 64, 2, false},
    {100, 33, 24, 17, 1, false},   {16, 128, 512, 56, 1, false}, {20, 512, 128, 56, 1, false},
    {64, 192, 192, 80, 2, false},  {7, 24, 30, 9, 0, false},     {20, 24, 30, 0, 3, false},
    {25, 600, 280, 290, 9, false},
};
enum { N_SHAPES = sizeof shapes / sizeof *shapes };

static void test_gated(void **state) {
    (void)state;
    skip_where_there_is_none();
    for (int i = 0; i < 2 * N_SHAPES; i++) {
        const GatedShape *shape = &shapes[i / 2];
        const EngineType type = i % 2 ? ENGINE_BF16 : ENGINE_F32;
        const bool gelu = (i / 2 + i) % 2; // with the one type or the other, by turns
        Gated w = gated_random(shape, N_SAMPLES);
        run_gated(2, shape, N_SAMPLES, type, gelu, true, &w);
        run_twin(shape, gelu, &w);
        for (int row = 0; row < N_SAMPLES * shape->rows; row++) check_row(shape, &w, row, type);
        gated_free(&w);
    }
}

// As for the dense product, sample by sample.
static void test_gated_keeps_its_bits(void **state) {
    (void)state;
    skip_where_there_is_none();
    for (int i = 0; i < N_SHAPES; i++) {
        Gated all = gated_random(&shapes[i], N_SAMPLES);
        run_gated(1, &shapes[i], N_SAMPLES, ENGINE_F32, false, true, &all);
        for (int n = 1; n <= N_SAMPLES; n++) {
            Gated few = gated_random(&shapes[i], n);
            run_gated(1 + n % 3, &shapes[i], n, ENGINE_F32, false, n % 2, &few);
            assert_memory_equal(few.y.f, all.y.f, few.y.n * sizeof(float));
            gated_free(&few);
        }
        gated_free(&all);
    }
}

// What is no number stays none, whichever operand has it, and harms no other row.
static void test_nan_is_kept(void **state) {
    (void)state;
    skip_where_there_is_none();
    const GatedShape shape = {4, 40, 30, 20, 2, false};
    Gated w = gated_random(&shape, N_SAMPLES);
    w.x.f[5] = NAN, w.x.f[45] = INFINITY;
    run_gated(1, &shape, N_SAMPLES, ENGINE_F32, false, true, &w);
    for (size_t i = 0; i < w.y.n; i++) assert_int_equal(isnan(w.y.f[i]) != 0, i < 2 * 30);
    w.x.f[5] = w.x.f[45] = 0;
    w.V.f[7] = INFINITY;
    run_gated(1, &shape, N_SAMPLES, ENGINE_F32, false, true, &w);
    for (size_t i = 0; i < w.y.n; i++) assert_true(isnan(w.y.f[i]));
    gated_free(&w);
}

static int choose(void **state) {
    (void)state;
    KinditContext ctx = {0};
    return gemm_int8_choose(&ctx) ? -1 : 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_packs_hold_the_file),  cmocka_unit_test(test_dense),
        cmocka_unit_test(test_dense_keeps_its_bits), cmocka_unit_test(test_gated),
        cmocka_unit_test(test_gated_keeps_its_bits), cmocka_unit_test(test_nan_is_kept),
    };
    return cmocka_run_group_tests(tests, choose, NULL);
}
