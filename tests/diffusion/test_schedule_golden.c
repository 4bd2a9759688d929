// The noise schedule and its respacings against an independent implementation in float64 (golden/model).
#include "diffusion/schedule.h"
#include "golden/golden.h"

static double golden_double(const Tensor *tensor, int i) {
    double value;
    memcpy(&value, (const char *)tensor->data + (size_t)i * sizeof value, sizeof value);
    return value;
}

// 1e-10: both sides compute in double; 1 - alpha_bar / last loses a few digits where betas are small.
static void check_field(Golden *g, const char *spacing, const char *field, int n, const double *found) {
    char name[64];
    snprintf(name, sizeof name, "%s.%s", spacing, field);
    const Tensor *expected = golden_find(g, name);
    assert_int_equal(expected->dtype, DTYPE_F64);
    assert_int_equal(expected->n_elements, n);
    for (int i = 0; i < n; i++) {
        double value = golden_double(expected, i);
        if (!(fabs(found[i] - value) <= 1e-10 * fabs(value)))
            fail_msg("%s[%d]: found %.17g, expected %.17g", name, i, found[i], value);
    }
}

static void check_schedule(Golden *g, const char *spacing, const Schedule *s) {
    char name[64];
    snprintf(name, sizeof name, "%s.timestep", spacing);
    const int *timestep = golden_ints(g, name);
    assert_int_equal(golden_find(g, name)->n_elements, s->n);
    assert_memory_equal(s->timestep, timestep, (size_t)s->n * sizeof *timestep);
    check_field(g, spacing, "beta", s->n, s->beta);
    check_field(g, spacing, "alpha_bar", s->n, s->alpha_bar);
    check_field(g, spacing, "alpha_bar_prev", s->n, s->alpha_bar_prev);
    check_field(g, spacing, "posterior_variance", s->n, s->posterior_variance);
    check_field(g, spacing, "posterior_log_variance", s->n, s->posterior_log_variance);
    check_field(g, spacing, "mean_x0", s->n, s->mean_x0);
    check_field(g, spacing, "mean_xt", s->n, s->mean_xt);
}

static void test_schedules(void **state) {
    (void)state;
    static const struct {
        const char *name;
        int steps;
        bool ddim;
    } spacings[] = {{"even64", 64, false}, {"even10", 10, false}, {"even7", 7, false}, {"ddim50", 50, true}};
    Golden g;
    Schedule full, respaced;
    golden_open(&g, "schedule", NULL, 1);
    golden_require(&g, schedule_create(&full, g.ctx, 1000, 1e-4, 0.02));
    check_schedule(&g, "full", &full);
    for (size_t i = 0; i < sizeof spacings / sizeof *spacings; i++) {
        golden_require(&g, schedule_respace(&respaced, g.ctx, &full, spacings[i].steps, spacings[i].ddim));
        check_schedule(&g, spacings[i].name, &respaced);
        schedule_close(&respaced);
    }
    schedule_close(&full);
    golden_close(&g);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_schedules)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
