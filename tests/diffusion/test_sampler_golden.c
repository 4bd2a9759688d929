// Whole sampling trajectories against an independent implementation in float64 (golden/model): ten of a thousand steps,
// every intermediate x, from a given x_T and given noise.
#include "diffusion/sampler.h"
#include "golden/golden.h"

enum { STEPS = 10 };

typedef struct Case {
    const char *name;
    SamplerMethod method;
    double eta, guidance;
    GuidanceChannels guided;
    bool clip;
} Case;

static const Case cases[] = {
    {"ddpm_first3", SAMPLER_DDPM, 0, 1.5, GUIDANCE_FIRST_3, true},
    {"ddpm_all", SAMPLER_DDPM, 0, 1.5, GUIDANCE_ALL, false},
    {"ddim", SAMPLER_DDIM, 0, 1.5, GUIDANCE_ALL, true},
    {"ddim_eta", SAMPLER_DDIM, 0.5, 1, GUIDANCE_ALL, true},
};

static void check_case(Golden *g, const Case *c, int batch) {
    const Tensor *start = golden_find(g, "start");
    const int n = (int)start->shape[0];
    SamplerSettings settings = sampler_settings_default();
    settings.method = c->method;
    settings.steps = STEPS;
    settings.eta = c->eta;
    settings.guidance = c->guidance;
    settings.guided = c->guided;
    settings.clip = c->clip;
    settings.batch = batch;
    float *trajectory = golden_empty(g, STEPS * start->n_elements), *out = golden_empty(g, start->n_elements);
    golden_require(g, sampler_run_from(g->model, &settings, n, golden_ints(g, "y"), golden_floats(g, "start"),
                                       golden_floats(g, "noise"), trajectory, out));
    char name[64];
    snprintf(name, sizeof name, "trajectory.%s", c->name);
    const float *expected = golden_floats(g, name);
    for (int step = 0; step < STEPS; step++) {
        char what[96];
        size_t at = (size_t)step * start->n_elements;
        snprintf(what, sizeof what, "%s, step %d", name, step);
        // 5e-6: rounding leaves 3e-7 here, although the first x0 is 1 / sqrt(alpha_bar) = 157 times a difference.
        golden_assert_close("sampler", what, start->n_elements, trajectory + at, expected + at, 5e-6);
    }
    assert_memory_equal(out, trajectory + (STEPS - 1) * start->n_elements, start->n_bytes);
}

static void test_trajectories(void **state) {
    (void)state;
    Golden g;
    golden_open(&g, "sampler", "kind_p2", 2);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (int batch = 1; batch <= 2; batch++) check_case(&g, &cases[i], batch);
    golden_close(&g);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_trajectories)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
