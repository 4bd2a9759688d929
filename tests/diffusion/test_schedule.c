// The schedule's own laws, and which timesteps a respacing keeps (the numbers of guided-diffusion's space_timesteps).
#include <math.h>

#include "diffusion/schedule.h"
#include "scratch.h"

static Schedule full_schedule(KinditContext *ctx) {
    Schedule full;
    assert_ok(ctx, schedule_create(&full, ctx, 1000, 1e-4, 0.02));
    return full;
}

static void assert_near(double found, double expected, double tolerance) {
    if (!(fabs(found - expected) <= tolerance * fabs(expected)))
        fail_msg("found %.17g, expected %.17g", found, expected);
}

static void test_values(void **state) {
    Scratch *scratch = *state;
    Schedule full = full_schedule(scratch->ctx);
    assert_near(full.beta[0], 1e-4, 1e-14);
    assert_near(full.beta[999], 0.02, 1e-14);
    assert_near(full.alpha_bar[500], 0.07779665836502389, 1e-11);
    assert_near(full.alpha_bar[999], 4.035829765375676e-05, 1e-11);
    assert_true(full.posterior_variance[0] == 0);
    assert_true(full.posterior_log_variance[0] == full.posterior_log_variance[1]);
    schedule_close(&full);
}

// q(x_{t-1} | x_t, x_0) averaged over x_t must be q(x_{t-1} | x_0): the same mean, the same variance.
static void check_posterior(const Schedule *s) {
    for (int i = 0; i < s->n; i++) {
        assert_near(s->mean_x0[i] + s->mean_xt[i] * sqrt(s->alpha_bar[i]), sqrt(s->alpha_bar_prev[i]), 1e-12);
        double variance = s->mean_xt[i] * s->mean_xt[i] * (1 - s->alpha_bar[i]) + s->posterior_variance[i];
        assert_true(fabs(variance - (1 - s->alpha_bar_prev[i])) < 1e-12);
        assert_true(isfinite(s->posterior_log_variance[i]) && s->posterior_log_variance[i] <= log(s->beta[i]));
    }
}

static void test_every_respacing(void **state) {
    Scratch *scratch = *state;
    Schedule full = full_schedule(scratch->ctx), spaced;
    check_posterior(&full);
    for (int n = 1; n <= 1000; n++) {
        assert_ok(scratch->ctx, schedule_respace(&spaced, scratch->ctx, &full, n, false));
        assert_int_equal(spaced.timestep[0], 0);
        if (n > 1) assert_int_equal(spaced.timestep[n - 1], 999);
        for (int i = 0; i < n; i++) {
            assert_true(i == 0 || spaced.timestep[i] > spaced.timestep[i - 1]);
            assert_near(spaced.alpha_bar[i], full.alpha_bar[spaced.timestep[i]], 1e-10);
        }
        check_posterior(&spaced);
        schedule_close(&spaced);
    }
    schedule_close(&full);
}

static void test_kept_timesteps(void **state) {
    Scratch *scratch = *state;
    static const struct {
        int n;
        long sum, weighted; // of timestep[i], of i * timestep[i]
    } expected[] = {{7, 3496, 15150},         {25, 12487, 203952},      {50, 24975, 824189},
                    {100, 49950, 3313395},    {250, 124875, 20771736},  {333, 166334, 36872243},
                    {999, 499000, 332209250}, {1000, 499500, 332833500}};
    Schedule full = full_schedule(scratch->ctx), spaced;
    for (size_t e = 0; e < sizeof expected / sizeof *expected; e++) {
        long sum = 0, weighted = 0;
        assert_ok(scratch->ctx, schedule_respace(&spaced, scratch->ctx, &full, expected[e].n, false));
        for (int i = 0; i < spaced.n; i++) {
            sum += spaced.timestep[i];
            weighted += (long)i * spaced.timestep[i];
        }
        assert_int_equal(sum, expected[e].sum);
        assert_int_equal(weighted, expected[e].weighted);
        schedule_close(&spaced);
    }
    assert_ok(scratch->ctx, schedule_respace(&spaced, scratch->ctx, &full, 50, true));
    for (int i = 0; i < 50; i++) assert_int_equal(spaced.timestep[i], 20 * i);
    schedule_close(&spaced);
    schedule_close(&full);
}

// A respaced schedule respaced again still names the timesteps of the first.
static void test_respaced_twice(void **state) {
    Scratch *scratch = *state;
    Schedule full = full_schedule(scratch->ctx), once, twice;
    assert_ok(scratch->ctx, schedule_respace(&once, scratch->ctx, &full, 100, true));
    assert_ok(scratch->ctx, schedule_respace(&twice, scratch->ctx, &once, 10, true));
    for (int i = 0; i < 10; i++) assert_int_equal(twice.timestep[i], 100 * i);
    schedule_close(&twice);
    schedule_close(&once);
    schedule_close(&full);
}

static void test_refusals(void **state) {
    Scratch *scratch = *state;
    KinditContext *ctx = scratch->ctx;
    Schedule full = full_schedule(ctx), other;
    assert_fails(ctx, schedule_respace(&other, ctx, &full, 0, false), KINDIT_ERROR_ARGUMENT, "1 to 1000, found 0");
    assert_fails(ctx, schedule_respace(&other, ctx, &full, 1001, false), KINDIT_ERROR_ARGUMENT, "found 1001");
    assert_fails(ctx, schedule_respace(&other, ctx, &full, 999, true), KINDIT_ERROR_ARGUMENT, "exactly 999");
    assert_fails(ctx, schedule_create(&other, ctx, 0, 1e-4, 0.02), KINDIT_ERROR_ARGUMENT, "found 0");
    assert_fails(ctx, schedule_create(&other, ctx, 10, NAN, 0.02), KINDIT_ERROR_ARGUMENT, "betas");
    assert_fails(ctx, schedule_create(&other, ctx, 1000, 0.5, 0.5), KINDIT_ERROR_ARGUMENT, "smaller betas");
    assert_null(other.block);
    schedule_close(&full);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        scratch_test(test_values),         scratch_test(test_every_respacing), scratch_test(test_kept_timesteps),
        scratch_test(test_respaced_twice), scratch_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
