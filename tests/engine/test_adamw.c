// AdamW with its moving average against the twin over several updates; bias correction, missed averages, threads.
#include "engine/numbers.h"

typedef struct State {
    Numbers *w, *m, *v, *ema;
} State;

static State state_start(size_t n) {
    State s = {numbers_random(n, 1.0f), numbers_empty(n), numbers_empty(n), numbers_empty(n)};
    for (size_t i = 0; i < n; i++) s.m->d[i] = s.v->d[i] = s.m->f[i] = s.v->f[i] = 0.0f;
    numbers_set(s.ema, s.w->f);
    return s;
}

static const AdamSettings settings = {.lr = 1e-2f,
                                      .beta1 = 0.9f,
                                      .beta2 = 0.999f,
                                      .eps = 1e-8f,
                                      .weight_decay = 0.1f,
                                      .ema_decay = 0.99f,
                                      .gradient_scale = 0.5f};

static void check_updates(size_t n) {
    enum { UPDATES = 5 };
    const int64_t gap[UPDATES] = {0, 3, 0, 100, 1};
    State s = state_start(n), start = s;
    Numbers *w0 = numbers_empty(n), *gradient[UPDATES];
    numbers_set(w0, s.w->f);
    for (int u = 0; u < UPDATES; u++) {
        gradient[u] = numbers_random(n, 0.1f);
        plain_adamw_f64(n, &settings, u + 1, gap[u], gradient[u]->d, s.w->d, s.m->d, s.v->d, s.ema->d);
    }
    for (int threads = 1; threads <= MAX_THREADS; threads++) {
        memcpy(start.w->f, w0->f, n * sizeof(float)), memcpy(start.ema->f, w0->f, n * sizeof(float));
        memset(s.m->f, 0, n * sizeof(float)), memset(s.v->f, 0, n * sizeof(float));
        for (int u = 0; u < UPDATES; u++)
            engine_adamw(engines[threads], n, &settings, u + 1, gap[u], gradient[u]->f, s.w->f, s.m->f, s.v->f,
                         s.ema->f);
        numbers_check(s.w, threads, 5e-7);
        numbers_check(s.m, threads, 1e-7);
        numbers_check(s.v, threads, 1e-8);
        numbers_check(s.ema, threads, 5e-7);
    }
    numbers_free_all();
}

static void test_matches_twin(void **state) {
    (void)state;
    const size_t sizes[] = {1, 17, 1024, 5000};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) check_updates(sizes[i]);
}

// The first update moves each weight by lr against the sign of its gradient, whatever the gradient's size.
static void test_first_step_is_sign(void **state) {
    (void)state;
    float g[] = {1e-3f, -5.0f, 200.0f}, w[] = {1.0f, 1.0f, 1.0f}, m[3] = {0}, v[3] = {0};
    AdamSettings plain = settings;
    plain.weight_decay = 0, plain.eps = 0, plain.gradient_scale = 1;
    engine_adamw(engines[1], 3, &plain, 1, 0, g, w, m, v, NULL); // no average wanted
    for (int i = 0; i < 3; i++) assert_true(fabsf(w[i] - (g[i] > 0 ? 0.99f : 1.01f)) < 1e-6f);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_matches_twin), cmocka_unit_test(test_first_step_is_sign)};
    return cmocka_run_group_tests_name("adamw", tests, engines_open, engines_close);
}
