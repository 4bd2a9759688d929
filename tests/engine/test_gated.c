// The class-gated product against its double twin, the twin against finite differences, and the gate itself: what it
// shuts is neither read nor written.
#include "matrices.h"

#include "engine/internal.h"
#include "engine/plain_gated.h"
#include "engine/plain_ops.h"

enum { MOST_SLOTS = 8, LABEL = 5 }; // a tailor's vector also holds things that are none of the layer's business

typedef struct Case {
    GatedShape shape;
    int n_samples, n_slots;
    int slot[70];
} Case;

static const Case cases[] = {
    {{1, 1, 1, 1, 1, false}, 1, 1, {0}},
    {{10, 12, 9, 5, 3, false}, 4, 3, {0, 2, -1, 1}},            // every slot and the null label
    {{64, 40, 70, 64, 2, false}, 3, 1, {0, 0, 0}},              // one class repeated; whole vectors and a thin tailor
    {{100, 33, 24, 17, 1, false}, 3, 2, {1, -1, 0}},            // N_T = 1, samples longer than a tile
    {{130, 16, 200, 66, 4, false}, 2, 2, {1, 0}},               // tiles of uneven length
    {{7, 24, 30, 9, 0, false}, 3, 0, {-1, -1, -1}},             // N_T = 0
    {{7, 24, 30, 9, 0, false}, 4, 3, {0, 2, -1, 1}},            // the same, with slots that hold other layers' tailors
    {{20, 24, 30, 0, 3, false}, 4, 2, {0, -1, 1, 0}},           // N_G = 0
    {{20, 24, 30, 11, 2, false}, 3, 0, {-1, -1, -1}},           // all null
    {{70, 40, 70, 80, 2, false}, 7, 3, {0, 1, 0, 2, -1, 1, 1}}, // threads go from one slot to the next and back
    {{20, 24, 30, 8, 2, false}, 3, 2, {1, -1, 1}},              // slot 0 open but used by no sample
    {{1, 50, 300, 26, 2, false}, 70, 3, {0, 0, 1, 2, -1, -1, 2}}, // one row a sample (the rest: slot 0)
    {{140, 270, 20, 200, 9, false}, 1, 1, {0}},             // one sample; more components than a kernel sums at once
    {{70, 300, 280, 24, 3, false}, 5, 2, {1, 1, 0, -1, 1}}, // wide: rows are gathered
    {{16, 400, 70, 150, 3, false}, 3, 2, {1, 0, -1}},       // wider than a tile is deep; panels of any width are full
    {{10, 8, 9, 1100, 2, false}, 14, 2, {1, 0, -1, 1}},     // hidden rows that are pages apart
    {{70, 40, 70, 80, 2, true}, 4, 3, {2, 0, -1, 1}},       // beside a frozen learngene
    {{130, 300, 24, 30, 2, true}, 3, 2, {1, -1, 0}},        // the same, wide, samples longer than a tile
    {{10, 12, 9, 5, 17, true}, 4, 3, {0, 2, -1, 1}},        // more components than are summed at once
    {{7, 24, 30, 9, 0, true}, 3, 0, {-1, -1, -1}},          // frozen, and nothing is kept
};
enum { N_CASES = sizeof cases / sizeof *cases };

typedef struct Layer {
    Numbers U, s, V, bias, tailor[MOST_SLOTS]; // weights
    Numbers dU, ds, dV, dbias, dtailor[MOST_SLOTS];
    Numbers x, a, y, dy, dx;
    size_t tailor_U, tailor_s, tailor_V;
    const float *tailor_f[MOST_SLOTS];
    float *dtailor_f[MOST_SLOTS];
    double *tailor_d[MOST_SLOTS], *dtailor_d[MOST_SLOTS];
} Layer;

static void layer_random(Layer *l, const Case *c) {
    size_t rows = (size_t)(c->n_samples * c->shape.rows), m1 = (size_t)c->shape.m1, m2 = (size_t)c->shape.m2;
    size_t g = (size_t)c->shape.n_learngene, t = (size_t)c->shape.n_tailor, kept = c->shape.frozen ? t : g + t;
    *l = (Layer){.U = numbers_random(g * m1, 1),
                 .s = numbers_random(g, 2),
                 .V = numbers_random(g * m2, 3),
                 .bias = numbers_random(m2, 4),
                 .dU = numbers_random(g * m1, 5),
                 .ds = numbers_random(g, 6),
                 .dV = numbers_random(g * m2, 7),
                 .dbias = numbers_random(m2, 8),
                 .x = numbers_random(rows * m1, 9),
                 .a = numbers_random(rows * kept, 10),
                 .y = numbers_random(rows * m2, 11),
                 .dy = numbers_random(rows * m2, 12),
                 .dx = numbers_random(rows * m1, 13)};
    l->tailor_V = LABEL;
    l->tailor_s = l->tailor_V + t * m2;
    l->tailor_U = l->tailor_s + t + LABEL;
    size_t size = l->tailor_U + t * m1 + LABEL;
    for (int i = 0; i < MOST_SLOTS; i++) {
        l->tailor[i] = numbers_random(size, 20 + (uint64_t)i);
        l->dtailor[i] = numbers_random(size, 40 + (uint64_t)i);
        l->tailor_f[i] = l->tailor[i].f, l->tailor_d[i] = l->tailor[i].d;
        l->dtailor_f[i] = l->dtailor[i].f, l->dtailor_d[i] = l->dtailor[i].d;
    }
}

static void layer_free(Layer *l) {
    Numbers *all[] = {&l->U,     &l->s, &l->V, &l->bias, &l->dU, &l->ds, &l->dV,
                      &l->dbias, &l->x, &l->a, &l->y,    &l->dy, &l->dx};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) numbers_free(all[i]);
    for (int i = 0; i < MOST_SLOTS; i++) {
        numbers_free(&l->tailor[i]);
        numbers_free(&l->dtailor[i]);
    }
}

typedef struct Wanted {
    bool bias, dx, accumulate, learngene, tailors;
} Wanted;
static const Wanted everything = {true, true, true, true, true};

// How the rows are stored, and whether the product reads GELU of its operand.
typedef struct Types {
    EngineType x, a, y, dy, dx;
    bool gelu;
} Types;

static const Types all_types[] = {
    {.gelu = false},
    {.gelu = true},
    {ENGINE_BF16, ENGINE_BF16, ENGINE_BF16, ENGINE_BF16, ENGINE_BF16, false},
    {ENGINE_BF16, ENGINE_BF16, ENGINE_BF16, ENGINE_BF16, ENGINE_BF16, true},
    {ENGINE_BF16, ENGINE_F32, ENGINE_F32, ENGINE_F32, ENGINE_BF16, false},
    {ENGINE_F32, ENGINE_BF16, ENGINE_BF16, ENGINE_BF16, ENGINE_F32, true},
};
enum { N_TYPES = sizeof all_types / sizeof *all_types };

static void run_engine_as(Engine *engine, const Case *c, Layer *l, const Types *types, Wanted want) {
    Gate gate = {c->n_samples, c->n_slots, c->slot, l->tailor_f, want.tailors ? l->dtailor_f : NULL};
    GatedWeights w = {l->U.f, l->s.f, l->V.f, want.bias ? l->bias.f : NULL, l->tailor_U, l->tailor_s, l->tailor_V};
    GatedGradients dw = {NULL, NULL, NULL, want.bias ? l->dbias.f : NULL};
    Activation x = numbers_as(&l->x, types->x), a = numbers_as(&l->a, types->a), dx = numbers_as(&l->dx, types->dx);
    x.gelu = types->gelu;
    if (want.learngene && !c->shape.frozen) dw.U = l->dU.f, dw.s = l->ds.f, dw.V = l->dV.f;
    engine_gated_forward(engine, &c->shape, &gate, &w, x, a, numbers_as(&l->y, types->y), want.accumulate && !want.bias,
                         NULL);
    engine_gated_backward(engine, &c->shape, &gate, &w, x, a, numbers_as(&l->dy, types->dy),
                          want.dx ? dx : (Activation){0}, want.accumulate, &dw);
    numbers_fetch(&l->a, types->a);
    numbers_fetch(&l->y, types->y);
    numbers_fetch(&l->dx, types->dx);
}

static void run_engine(Engine *engine, const Case *c, Layer *l, Wanted want) {
    run_engine_as(engine, c, l, &all_types[0], want);
}

static PlainFactors_f64 plain_weights(Layer *l, bool bias) {
    return (PlainFactors_f64){l->U.d,      l->s.d,      l->V.d,      bias ? l->bias.d : NULL,
                              l->tailor_d, l->tailor_U, l->tailor_s, l->tailor_V};
}

// The factors U and V, the tailors' too, and the bias, as a product of bf16 rows takes them.
static void round_weights(const Case *c, Layer *l) {
    size_t u = (size_t)(c->shape.n_tailor * c->shape.m1), v = (size_t)(c->shape.n_tailor * c->shape.m2);
    numbers_round(&l->U);
    numbers_round(&l->V);
    numbers_round(&l->bias);
    for (int i = 0; i < MOST_SLOTS; i++) {
        double *of_u = l->tailor[i].d + l->tailor_U, *of_v = l->tailor[i].d + l->tailor_V;
        for (size_t j = 0; j < u; j++) of_u[j] = bf16_round((float)of_u[j]);
        for (size_t j = 0; j < v; j++) of_v[j] = bf16_round((float)of_v[j]);
    }
}

static void run_twin_as(const Case *c, Layer *l, const Types *types, Wanted want) {
    Layer rounded;
    layer_random(&rounded, c);
    round_weights(c, &rounded);
    PlainFactors_f64 of_x = plain_weights(types->x == ENGINE_BF16 ? &rounded : l, want.bias);
    PlainFactors_f64 of_dy = plain_weights(types->dy == ENGINE_BF16 ? &rounded : l, want.bias);
    PlainFactors_f64 dw = {.bias = want.bias ? l->dbias.d : NULL,
                           .tailor = want.tailors ? l->dtailor_d : NULL,
                           .tailor_U = l->tailor_U,
                           .tailor_s = l->tailor_s,
                           .tailor_V = l->tailor_V};
    Numbers read = numbers_zero(l->x.n), dread = numbers_zero(l->x.n), before = numbers_zero(l->y.n);
    memcpy(before.d, l->y.d, l->y.n * sizeof(double));
    memcpy(read.d, l->x.d, l->x.n * sizeof(double));
    if (types->gelu) plain_gelu_forward_f64(l->x.n, l->x.d, read.d);
    if (want.learngene && !c->shape.frozen) dw.U = l->dU.d, dw.s = l->ds.d, dw.V = l->dV.d;
    plain_gated_forward_f64(&c->shape, c->n_samples, c->slot, &of_x, read.d, l->a.d, l->y.d);
    for (size_t i = 0; i < l->y.n && want.accumulate && !want.bias; i++) l->y.d[i] += before.d[i];
    // Backward is given what forward kept: a stored `a` may lie one rounding from the twin's.
    for (size_t i = 0; i < l->a.n && types->a == ENGINE_BF16; i++) rounded.a.d[i] = l->a.f[i];
    plain_gated_backward_f64(&c->shape, c->n_samples, c->slot, &of_dy, read.d,
                             types->a == ENGINE_BF16 ? rounded.a.d : l->a.d, l->dy.d, want.dx ? dread.d : NULL, false,
                             &dw);
    if (types->gelu) plain_gelu_backward_f64(l->x.n, l->x.d, dread.d, dread.d);
    for (size_t i = 0; i < l->dx.n && want.dx; i++) l->dx.d[i] = (want.accumulate ? l->dx.d[i] : 0) + dread.d[i];
    numbers_free(&read);
    numbers_free(&dread);
    numbers_free(&before);
    layer_free(&rounded);
}

static void run_twin(const Case *c, Layer *l, Wanted want) {
    run_twin_as(c, l, &all_types[0], want);
}

// Everything that may have been written is compared, the surroundings of the tailors' gradients included.
static void assert_layer_as(const Case *c, const Layer *l, const Types *types) {
    double hidden = c->shape.n_learngene + c->shape.n_tailor, rows = (double)c->n_samples * c->shape.rows;
    double m1 = c->shape.m1, m2 = c->shape.m2;
    const bool forward = rounds_operands(types->x), backward = forward || rounds_operands(types->dy);
    assert_close_rounded(&l->a, types->a, m1, forward, "a");
    assert_close_rounded(&l->y, types->y, m1 + hidden, forward, "y"); // two products, one after the other
    assert_close_rounded(&l->dx, types->dx, m2 + hidden, backward, "dx");
    assert_close_rounded(&l->dU, ENGINE_F32, m2 + rows, backward, "dU");
    assert_close_rounded(&l->dV, ENGINE_F32, m1 + rows, backward, "dV");
    assert_close_rounded(&l->ds, ENGINE_F32, m1 + m2 + rows, backward, "ds");
    assert_close(&l->dbias, rows, "dbias");
    for (int i = 0; i < MOST_SLOTS; i++) {
        assert_close_rounded(&l->dtailor[i], ENGINE_F32, m1 + m2 + rows, backward, "dtailor");
    }
}

static void assert_layer(const Case *c, const Layer *l) {
    assert_layer_as(c, l, &all_types[0]);
}

static const Wanted wanted[] = {
    {true, true, true, true, true},     {true, true, false, true, true},    {false, true, true, false, false},
    {false, false, false, true, false}, {false, false, false, false, true}, {true, false, false, false, false},
    {false, true, true, false, true},
};
enum { N_WANTED = sizeof wanted / sizeof *wanted };

static void test_against_twin(void **state) {
    (void)state;
    KinditContext ctx;
    for (int i = 0; i < N_CASES; i++) {
        const Case *c = &cases[i];
        Engine *engine = engine_with_threads(&ctx, 2, engine_gated_scratch(&c->shape, c->n_samples, c->n_slots));
        for (size_t j = (size_t)i % 3; j < N_WANTED * N_TYPES; j += 3) { // the others in the next two cases
            const Types *types = &all_types[j / N_WANTED];
            Layer l;
            layer_random(&l, c);
            run_engine_as(engine, c, &l, types, wanted[j % N_WANTED]);
            run_twin_as(c, &l, types, wanted[j % N_WANTED]);
            assert_layer_as(c, &l, types);
            layer_free(&l);
        }
        engine_close(&engine);
    }
}

// A forward pass alone: without the hidden values y is the same, and what is stored through GELU is GELU of it.
static void test_inference(void **state) {
    (void)state;
    KinditContext ctx;
    for (int i = 0; i < 2 * N_CASES; i++) {
        const Case *c = &cases[i / 2];
        const EngineType type = i % 2 ? ENGINE_BF16 : ENGINE_F32;
        Engine *engine = engine_with_threads(&ctx, 2, engine_gated_scratch(&c->shape, c->n_samples, c->n_slots));
        Layer l, through;
        layer_random(&l, c);
        layer_random(&through, c);
        Gate gate = {c->n_samples, c->n_slots, c->slot, l.tailor_f, NULL};
        GatedWeights w = {l.U.f, l.s.f, l.V.f, l.bias.f, l.tailor_U, l.tailor_s, l.tailor_V};
        Activation x = activation_f32(l.x.f), y = numbers_as(&through.y, type);
        y.gelu = true;
        engine_gated_forward(engine, &c->shape, &gate, &w, x, activation_f32(l.a.f), activation_f32(l.y.f), false,
                             NULL);
        engine_gated_forward(engine, &c->shape, &gate, &w, x, (Activation){0}, activation_f32(l.dy.f), false, NULL);
        assert_memory_equal(l.y.f, l.dy.f, l.y.n * sizeof(float));
        engine_gated_forward(engine, &c->shape, &gate, &w, x, (Activation){0}, y, false, NULL);
        assert_through_gelu(&through.y, type, &l.y, "y");
        layer_free(&l);
        layer_free(&through);
        engine_close(&engine);
    }
}

static void assert_same(const Numbers *a, const Numbers *b) {
    assert_memory_equal(a->f, b->f, a->n * sizeof(float));
}

static void assert_same_layer(const Layer *a, const Layer *b) {
    assert_same(&a->a, &b->a);
    assert_same(&a->y, &b->y);
    assert_same(&a->dx, &b->dx);
    assert_same(&a->dU, &b->dU);
    assert_same(&a->ds, &b->ds);
    assert_same(&a->dV, &b->dV);
    assert_same(&a->dbias, &b->dbias);
    for (int i = 0; i < MOST_SLOTS; i++) assert_same(&a->dtailor[i], &b->dtailor[i]);
}

static void test_threads_change_no_bit(void **state) {
    (void)state;
    KinditContext ctx;
    for (int i = 0; i < N_CASES * N_TYPES; i++) {
        if ((i / N_TYPES + i % N_TYPES) % 3) continue; // a third of the types, all of them in three cases
        const Case *c = &cases[i / N_TYPES];
        const Types *types = &all_types[i % N_TYPES];
        Layer one;
        layer_random(&one, c);
        for (int threads = 1; threads <= 3; threads++) {
            Layer l;
            layer_random(&l, c);
            Engine *engine =
                engine_with_threads(&ctx, threads, engine_gated_scratch(&c->shape, c->n_samples, c->n_slots));
            run_engine_as(engine, c, threads == 1 ? &one : &l, types, everything);
            engine_close(&engine);
            if (threads > 1) assert_same_layer(&one, &l);
            layer_free(&l);
        }
        layer_free(&one);
    }
}

// What a sample gets does not depend on the samples beside it: fewer of them give the first ones the same bits.
static void test_samples_are_independent(void **state) {
    (void)state;
    skip_where_blas_is_forced();
    KinditContext ctx;
    for (int i = 0; i < N_TYPES; i++) {
        Case c = {{10, 300, 70, 40, 3, false}, 20, 3, {0, 2, -1, 1, 1}};
        Engine *engine = engine_with_threads(&ctx, 2, engine_gated_scratch(&c.shape, c.n_samples, c.n_slots));
        Layer all;
        layer_random(&all, &c);
        run_engine_as(engine, &c, &all, &all_types[i], everything);
        for (c.n_samples = 1; c.n_samples < 20; c.n_samples += 4) {
            Layer few;
            layer_random(&few, &c);
            run_engine_as(engine, &c, &few, &all_types[i], everything);
            assert_memory_equal(all.y.f, few.y.f, few.y.n * sizeof(float));
            layer_free(&few);
        }
        layer_free(&all);
        engine_close(&engine);
    }
}

// A batch without class 1 leaves its gradient as it was, bit for bit, and NaN in its weights harms nothing.
static void test_absent_class_is_untouched(void **state) {
    (void)state;
    Case c = {{20, 24, 30, 11, 2, false}, 4, 3, {0, 2, -1, 0}};
    KinditContext ctx;
    Engine *engine = engine_with_threads(&ctx, 2, engine_gated_scratch(&c.shape, c.n_samples, c.n_slots));
    Layer l, before;
    layer_random(&l, &c);
    layer_random(&before, &c);
    for (size_t i = 0; i < l.tailor[1].n; i++) l.tailor[1].f[i] = NAN;
    run_engine(engine, &c, &l, everything);
    assert_same(&l.dtailor[1], &before.dtailor[1]);
    assert_true(memcmp(l.dtailor[0].f, before.dtailor[0].f, l.dtailor[0].n * sizeof(float)) != 0);
    assert_true(engine_all_finite(engine, l.y.f, l.y.n));
    assert_true(engine_all_finite(engine, l.dx.f, l.dx.n));
    assert_true(engine_all_finite(engine, l.dU.f, l.dU.n));
    layer_free(&l);
    layer_free(&before);
    engine_close(&engine);
}

// Sigma's gradient without those of U and V, and theirs without sigma's.
static void test_sigma_apart(void **state) {
    (void)state;
    Case c = {{70, 24, 30, 11, 0, false}, 4, 0, {-1, -1, -1, -1}};
    KinditContext ctx;
    Engine *engine = engine_with_threads(&ctx, 2, engine_gated_scratch(&c.shape, c.n_samples, c.n_slots));
    Layer all, part;
    layer_random(&all, &c);
    layer_random(&part, &c);
    run_engine(engine, &c, &all, everything);
    const Gate gate = {c.n_samples, 0, c.slot, NULL, NULL};
    const GatedWeights w = {.U = part.U.f, .s = part.s.f, .V = part.V.f};
    const Activation x = activation_f32(part.x.f), a = activation_f32(all.a.f), dy = activation_f32(part.dy.f);
    engine_gated_backward(engine, &c.shape, &gate, &w, x, a, dy, (Activation){0}, false,
                          &(GatedGradients){.s = part.ds.f});
    assert_same(&all.ds, &part.ds);
    engine_gated_backward(engine, &c.shape, &gate, &w, x, a, dy, (Activation){0}, false,
                          &(GatedGradients){.U = part.dU.f, .V = part.dV.f});
    assert_same(&all.dU, &part.dU);
    assert_same(&all.dV, &part.dV);
    layer_free(&all);
    layer_free(&part);
    engine_close(&engine);
}

static void test_null_label_keeps_zero_tail(void **state) {
    (void)state;
    Case c = {{6, 24, 30, 11, 2, false}, 2, 1, {-1, 0}};
    KinditContext ctx;
    Engine *engine = engine_with_threads(&ctx, 1, engine_gated_scratch(&c.shape, c.n_samples, c.n_slots));
    Layer l;
    layer_random(&l, &c);
    run_engine(engine, &c, &l, everything);
    for (int row = 0; row < 12; row++) {
        for (int i = 11; i < 13; i++) assert_int_equal(l.a.f[row * 13 + i] == 0, row < 6);
    }
    layer_free(&l);
    engine_close(&engine);
}

// The scratch that engine_gated_scratch asks for is enough: what lies behind it survives.
static void test_scratch_is_an_upper_bound(void **state) {
    (void)state;
    enum { GUARD = 1000 };
    KinditContext ctx;
    for (int i = 0; i < N_CASES; i++) {
        const Case *c = &cases[i];
        size_t size = engine_gated_scratch(&c->shape, c->n_samples, c->n_slots);
        Engine *engine = engine_with_threads(&ctx, 2, size + GUARD);
        for (size_t j = size; j < size + GUARD; j++) engine->scratch[j] = 42;
        for (size_t k = 0; k < N_WANTED; k++) {
            Layer l;
            layer_random(&l, c);
            run_engine(engine, c, &l, wanted[k]);
            for (size_t j = size; j < size + GUARD; j++) assert_true(engine->scratch[j] == 42);
            layer_free(&l);
        }
        engine_close(&engine);
    }
}

static double loss(const Case *c, Layer *l) {
    PlainFactors_f64 w = plain_weights(l, true);
    double sum = 0;
    plain_gated_forward_f64(&c->shape, c->n_samples, c->slot, &w, l->x.d, l->a.d, l->y.d);
    for (size_t i = 0; i < l->y.n; i++) sum += l->y.d[i] * l->dy.d[i];
    return sum;
}

// The loss sum(y * dy) is linear in each single number: the central difference is exact up to rounding.
static void assert_slopes(const Case *c, Layer *l, Numbers *parameter, const Numbers *gradient) {
    for (size_t i = 0; i < parameter->n; i++) {
        double *value = &parameter->d[i], kept = *value, step = 1e-3;
        *value = kept + step;
        double high = loss(c, l);
        *value = kept - step;
        double slope = (high - loss(c, l)) / (2 * step);
        *value = kept;
        assert_true(fabs(slope - gradient->d[i]) < 1e-9);
    }
}

static void test_twin_against_differences(void **state) {
    (void)state;
    Case c = {{2, 4, 3, 3, 2, false}, 4, 2, {0, -1, 1, 0}};
    Layer l;
    layer_random(&l, &c);
    Numbers *gradients[] = {&l.dU, &l.ds, &l.dV, &l.dbias, &l.dtailor[0], &l.dtailor[1]};
    for (size_t i = 0; i < sizeof gradients / sizeof *gradients; i++) {
        memset(gradients[i]->d, 0, gradients[i]->n * sizeof(double));
    }
    Wanted want = everything;
    want.accumulate = false;
    run_twin(&c, &l, want);
    Numbers *parameters[] = {&l.U, &l.s, &l.V, &l.bias, &l.tailor[0], &l.tailor[1]};
    for (size_t i = 0; i < sizeof parameters / sizeof *parameters; i++)
        assert_slopes(&c, &l, parameters[i], gradients[i]);
    assert_slopes(&c, &l, &l.x, &l.dx);
    layer_free(&l);
}

static void test_float_twin(void **state) {
    (void)state;
    const Case *c = &cases[1];
    Layer l;
    layer_random(&l, c);
    float *tailor[MOST_SLOTS];
    for (int i = 0; i < MOST_SLOTS; i++) tailor[i] = l.tailor[i].f;
    PlainFactors_f32 w = {l.U.f, l.s.f, l.V.f, l.bias.f, tailor, l.tailor_U, l.tailor_s, l.tailor_V};
    PlainFactors_f32 dw = {l.dU.f, l.ds.f, l.dV.f, l.dbias.f, l.dtailor_f, l.tailor_U, l.tailor_s, l.tailor_V};
    plain_gated_forward_f32(&c->shape, c->n_samples, c->slot, &w, l.x.f, l.a.f, l.y.f);
    plain_gated_backward_f32(&c->shape, c->n_samples, c->slot, &w, l.x.f, l.a.f, l.dy.f, l.dx.f, true, &dw);
    run_twin(c, &l, everything);
    assert_layer(c, &l);
    layer_free(&l);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_against_twin),
        cmocka_unit_test(test_inference),
        cmocka_unit_test(test_threads_change_no_bit),
        cmocka_unit_test(test_samples_are_independent),
        cmocka_unit_test(test_absent_class_is_untouched),
        cmocka_unit_test(test_sigma_apart),
        cmocka_unit_test(test_null_label_keeps_zero_tail),
        cmocka_unit_test(test_scratch_is_an_upper_bound),
        cmocka_unit_test(test_twin_against_differences),
        cmocka_unit_test(test_float_twin),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
