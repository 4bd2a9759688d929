// AdamW and EMA by role, against plain scalar code in double that does every step of every tailor the long way.
#include <math.h>

#include "model/dit.h"
#include "scratch.h"
#include "train/optimizer.h"

enum { CLASSES = 4, STEPS = 45, N_SHARED = 48, N_FROZEN = 16, N_TAILOR = 32, VECTORS = CLASSES + 1 };

static const AdamSettings settings = {.lr = 0.01f,
                                      .beta1 = 0.9f,
                                      .beta2 = 0.99f,
                                      .eps = 1e-8f,
                                      .weight_decay = 0.1f,
                                      .ema_decay = 0.95f,
                                      .gradient_scale = 1};
// An optimiser needs of a layout only how long its vectors are. N_SHARED of them train.
static const ParamLayout layout = {.n_shared = N_FROZEN + N_SHARED, .n_frozen = N_FROZEN, .n_tailor = N_TAILOR};

// One vector, the long way.
typedef struct Plain {
    double w[N_SHARED], m[N_SHARED], v[N_SHARED], ema[N_SHARED];
    int64_t steps;
} Plain;

typedef struct Bench {
    KinditContext *ctx;
    Engine *engine;
    ParamSet params;
    ClassGate gate;
    Optimizer optimizer;
    float *dshared;
    Plain plain[VECTORS]; // 0: shared; 1 + c: tailor c
} Bench;

static size_t vector_size(int vector) {
    return vector == 0 ? N_SHARED : N_TAILOR;
}
static float *vector_of(const ParamSet *set, int vector) {
    return vector == 0 ? set->shared + (layout.n_frozen - set->first) : set->tailor[vector - 1];
}

static Bench bench_open(Scratch *scratch) {
    Bench b = {.ctx = scratch->ctx};
    assert_ok(b.ctx, engine_create(&b.engine, b.ctx));
    assert_ok(b.ctx, params_alloc(&b.params, b.engine, b.ctx, &layout, CLASSES));
    assert_ok(b.ctx, gate_create(&b.gate, b.engine, b.ctx, CLASSES, CLASSES, CLASSES, N_TAILOR, true));
    assert_ok(b.ctx, engine_alloc(b.engine, N_SHARED, &b.dshared));
    for (int i = 0; i < VECTORS; i++) {
        float values[N_SHARED];
        rng_fill_normal((RngKey){.sample = (uint64_t)i, .purpose = RNG_TEST}, values, vector_size(i));
        engine_upload(b.engine, vector_of(&b.params, i), values, vector_size(i));
        for (size_t j = 0; j < vector_size(i); j++) b.plain[i].w[j] = b.plain[i].ema[j] = values[j];
    }
    assert_ok(b.ctx, optimizer_create(&b.optimizer, b.ctx, b.engine, &layout, &b.params, &settings));
    return b;
}

static void bench_close(Bench *b) {
    optimizer_close(&b->optimizer);
    engine_free(b->engine, &b->dshared);
    gate_close(&b->gate);
    params_close(&b->params);
    assert_int_equal(engine_allocated(b->engine), 0);
    engine_close(&b->engine);
}

static void plain_step(Plain *p, size_t n, const float *g) {
    p->steps++;
    for (size_t i = 0; i < n; i++) {
        p->w[i] *= 1 - 0.01 * 0.1;
        p->m[i] = 0.9 * p->m[i] + 0.1 * g[i];
        p->v[i] = 0.99 * p->v[i] + 0.01 * g[i] * g[i];
        double m = p->m[i] / (1 - pow(0.9, (double)p->steps)), v = p->v[i] / (1 - pow(0.99, (double)p->steps));
        p->w[i] -= 0.01 * m / (sqrt(v) + 1e-8);
    }
}

static void plain_average(Plain *p, size_t n) {
    for (size_t i = 0; i < n; i++) p->ema[i] = 0.95 * p->ema[i] + 0.05 * p->w[i];
}

// Class 3 never comes; class 2 comes rarely; the others now and then.
static bool comes(int c, int step) {
    if (c == 3) return false;
    if (c == 2) return step % 17 == 5;
    return rng_uniform((RngKey){.seed = 8, .sample = (uint64_t)c, .purpose = RNG_TEST}, (uint32_t)step) < 0.5f;
}

// One step of both.
static void bench_step(Bench *b, int step) {
    float g[N_SHARED];
    int labels[CLASSES], n = 0;
    for (int c = CLASSES - 1; c >= 0; c--) // slots in another order than classes
        if (comes(c, step)) labels[n++] = c;
    gate_reset(&b->gate);
    gate_open(&b->gate, &b->params, labels, n);
    for (int i = 0; i < VECTORS; i++) {
        if (i > 0 && !comes(i - 1, step)) continue;
        RngKey key = {.seed = 7, .sample = (uint64_t)i, .step = (uint32_t)step, .purpose = RNG_TEST};
        rng_fill_normal(key, g, vector_size(i));
        engine_upload(b->engine, i == 0 ? b->dshared : b->gate.dtailor[b->gate.class_slot[i - 1]], g, vector_size(i));
        plain_step(&b->plain[i], vector_size(i), g);
    }
    for (int i = 0; i < VECTORS; i++) plain_average(&b->plain[i], vector_size(i));
    optimizer_step(&b->optimizer, &b->params, b->dshared, &b->gate);
}

static void check_vector(Bench *b, const char *what, const ParamSet *set, int vector, const double *expected) {
    float found[N_SHARED];
    engine_download(b->engine, found, vector_of(set, vector), vector_size(vector));
    for (size_t j = 0; j < vector_size(vector); j++)
        if (!(fabs(found[j] - expected[j]) <= 2e-6 * (1 + fabs(expected[j]))))
            fail_msg("%s of vector %d [%zu]: expected %.9g, found %.9g", what, vector, j, expected[j], found[j]);
}

static void test_against_plain(void **state) {
    Bench b = bench_open(*state);
    ParamSet ema;
    assert_ok(b.ctx, params_alloc(&ema, b.engine, b.ctx, &layout, CLASSES));
    for (int step = 0; step < STEPS; step++) {
        bench_step(&b, step);
        optimizer_read_ema(&b.optimizer, &b.params, &ema);
        for (int i = 0; i < VECTORS; i++) {
            check_vector(&b, "w", &b.params, i, b.plain[i].w);
            check_vector(&b, "m", &b.optimizer.m, i, b.plain[i].m);
            check_vector(&b, "v", &b.optimizer.v, i, b.plain[i].v);
            check_vector(&b, "ema", &ema, i, b.plain[i].ema);
            if (i > 0) assert_int_equal(b.optimizer.tailor_steps[i - 1], b.plain[i].steps);
        }
        assert_int_equal(b.optimizer.step, step + 1);
    }
    params_close(&ema);
    bench_close(&b);
}

// Frozen weights stay to the bit, and the average has them.
static void test_frozen_weights_stand_still(void **state) {
    Bench b = bench_open(*state);
    float before[N_FROZEN], after[N_FROZEN];
    ParamSet ema;
    rng_fill_normal((RngKey){.seed = 3, .purpose = RNG_TEST}, before, N_FROZEN);
    engine_upload(b.engine, b.params.shared, before, N_FROZEN);
    assert_ok(b.ctx, params_alloc(&ema, b.engine, b.ctx, &layout, CLASSES));
    for (int step = 0; step < 3; step++) bench_step(&b, step);
    optimizer_read_ema(&b.optimizer, &b.params, &ema);
    engine_download(b.engine, after, b.params.shared, N_FROZEN);
    assert_memory_equal(before, after, sizeof before);
    engine_download(b.engine, after, ema.shared, N_FROZEN);
    assert_memory_equal(before, after, sizeof before);
    params_close(&ema);
    bench_close(&b);
}

// Bit for bit: an absent tailor keeps weights and moments, and reading the average changes nothing.
static void test_absent_tailors_stand_still(void **state) {
    Bench b = bench_open(*state);
    static float before[3][N_TAILOR], after[3][N_TAILOR];
    ParamSet ema;
    assert_ok(b.ctx, params_alloc(&ema, b.engine, b.ctx, &layout, CLASSES));
    for (int step = 0; step < STEPS; step++) {
        const ParamSet *sets[3] = {&b.params, &b.optimizer.m, &b.optimizer.v};
        for (int s = 0; s < 3; s++) engine_download(b.engine, before[s], sets[s]->tailor[2], N_TAILOR);
        bench_step(&b, step);
        for (int s = 0; s < 3; s++) engine_download(b.engine, after[s], sets[s]->tailor[2], N_TAILOR);
        if (comes(2, step))
            assert_memory_not_equal(before, after, sizeof before);
        else
            assert_memory_equal(before, after, sizeof before);
    }
    engine_download(b.engine, before[0], b.optimizer.ema.tailor[2], N_TAILOR);
    optimizer_read_ema(&b.optimizer, &b.params, &ema);
    engine_download(b.engine, after[0], b.optimizer.ema.tailor[2], N_TAILOR);
    assert_memory_equal(before[0], after[0], sizeof before[0]);
    engine_download(b.engine, after[0], ema.tailor[2], N_TAILOR);
    assert_memory_not_equal(before[0], after[0], sizeof before[0]); // it was behind
    params_close(&ema);
    bench_close(&b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        scratch_test(test_against_plain),
        scratch_test(test_absent_tailors_stand_still),
        scratch_test(test_frozen_weights_stand_still),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
