#include "diffusion/schedule.h"

#include <math.h>

#include "base/memory.h"

enum { N_ARRAYS = 7, MAX_STEPS = 1 << 20 };
// Within these all coefficients are finite in float: 1 - beta is not 1, 1 / alpha_bar has a square root to work with.
static const double BETA_MIN = 1e-8, ALPHA_BAR_MIN = 1e-30;

KinditStatus schedule_read_config(KinditContext *ctx, const cJSON *config, int *n_steps, double *beta_first,
                                  double *beta_last) {
    static const char name[] = "the model's config: training";
    const cJSON *training = cJSON_GetObjectItemCaseSensitive(config, "training");
    int64_t n = 1000;
    *beta_first = 1e-4, *beta_last = 0.02;
    if (cJSON_HasObjectItem(training, "diffusion_steps"))
        TRY(json_get_int(training, ctx, name, "diffusion_steps", 1, MAX_STEPS, &n));
    if (cJSON_HasObjectItem(training, "beta_first"))
        TRY(json_get_double(training, ctx, name, "beta_first", beta_first));
    if (cJSON_HasObjectItem(training, "beta_last")) TRY(json_get_double(training, ctx, name, "beta_last", beta_last));
    *n_steps = (int)n;
    return KINDIT_OK;
}

// One allocation: the double arrays, then the timesteps.
static KinditStatus schedule_alloc(Schedule *out, KinditContext *ctx, int n) {
    *out = (Schedule){.n = n};
    if (n < 1 || n > MAX_STEPS)
        return context_fail(ctx, KINDIT_ERROR_ARGUMENT, "diffusion steps: expected 1 to %d, found %d", MAX_STEPS, n);
    TRY(memory_alloc(ctx, (size_t)n, N_ARRAYS * sizeof(double) + sizeof(int), &out->block));
    double **arrays[N_ARRAYS] = {
        &out->beta,    &out->alpha_bar, &out->alpha_bar_prev, &out->posterior_variance, &out->posterior_log_variance,
        &out->mean_x0, &out->mean_xt};
    double *next = out->block;
    for (int i = 0; i < N_ARRAYS; i++, next += n) *arrays[i] = next;
    out->timestep = (int *)next;
    return KINDIT_OK;
}

// All that follows from the betas.
static void schedule_derive(Schedule *s) {
    double product = 1.0;
    for (int i = 0; i < s->n; i++) {
        double alpha = 1.0 - s->beta[i], previous = product;
        product *= alpha;
        s->alpha_bar[i] = product;
        s->alpha_bar_prev[i] = previous;
        s->posterior_variance[i] = s->beta[i] * (1.0 - previous) / (1.0 - product);
        s->mean_x0[i] = s->beta[i] * sqrt(previous) / (1.0 - product);
        s->mean_xt[i] = (1.0 - previous) * sqrt(alpha) / (1.0 - product);
    }
    // The first step's variance is 0, and its logarithm must still be a number. A chain of one step has no second entry
    // to borrow from; its only step adds no noise, so beta serves.
    for (int i = 1; i < s->n; i++) s->posterior_log_variance[i] = log(s->posterior_variance[i]);
    s->posterior_log_variance[0] = s->n > 1 ? s->posterior_log_variance[1] : log(s->beta[0]);
}

KinditStatus schedule_create(Schedule *out, KinditContext *ctx, int n_steps, double beta_first, double beta_last) {
    *out = (Schedule){0};
    if (!(beta_first >= BETA_MIN && beta_first < 1 && beta_last >= BETA_MIN && beta_last < 1))
        return context_fail(ctx, KINDIT_ERROR_ARGUMENT, "betas: expected between %g and 1, found %g to %g", BETA_MIN,
                            beta_first, beta_last);
    TRY(schedule_alloc(out, ctx, n_steps));
    double stride = n_steps > 1 ? (beta_last - beta_first) / (n_steps - 1) : 0.0;
    for (int i = 0; i < n_steps; i++) {
        out->beta[i] = beta_first + stride * i;
        out->timestep[i] = i;
    }
    schedule_derive(out);
    double left = out->alpha_bar[n_steps - 1];
    if (left >= ALPHA_BAR_MIN) return KINDIT_OK;
    schedule_close(out);
    return context_fail(ctx, KINDIT_ERROR_ARGUMENT,
                        "noise schedule: %d steps of beta %g to %g leave %g of the signal's variance, at least %g is "
                        "needed; use smaller betas or fewer steps",
                        n_steps, beta_first, beta_last, left, ALPHA_BAR_MIN);
}

// Indices kept, in guided-diffusion's arithmetic: a running sum, rounded half to even as Python's round does.
static void space_evenly(int n_full, int n_steps, int *kept) {
    double stride = n_steps > 1 ? (double)(n_full - 1) / (n_steps - 1) : 1.0, position = 0.0;
    for (int i = 0; i < n_steps; i++, position += stride) kept[i] = (int)nearbyint(position);
}

static KinditStatus space_by_stride(KinditContext *ctx, int n_full, int n_steps, int *kept) {
    for (int stride = 1; stride < n_full; stride++) {
        if ((n_full + stride - 1) / stride != n_steps) continue;
        for (int i = 0; i < n_steps; i++) kept[i] = i * stride;
        return KINDIT_OK;
    }
    return context_fail(ctx, KINDIT_ERROR_ARGUMENT,
                        "sampling steps: no whole stride through %d timesteps gives exactly %d; use even spacing",
                        n_full, n_steps);
}

KinditStatus schedule_respace(Schedule *out, KinditContext *ctx, const Schedule *full, int n_steps, bool ddim_stride) {
    *out = (Schedule){0};
    if (n_steps < 1 || n_steps > full->n)
        return context_fail(ctx, KINDIT_ERROR_ARGUMENT, "sampling steps: expected 1 to %d, found %d", full->n, n_steps);
    TRY(schedule_alloc(out, ctx, n_steps));
    int *kept = out->timestep;
    if (ddim_stride) {
        KinditStatus status = space_by_stride(ctx, full->n, n_steps, kept);
        if (status != KINDIT_OK) {
            schedule_close(out);
            return status;
        }
    } else {
        space_evenly(full->n, n_steps, kept);
    }
    double last = 1.0;
    for (int i = 0; i < n_steps; i++) {
        double alpha_bar = full->alpha_bar[kept[i]];
        out->beta[i] = 1.0 - alpha_bar / last;
        last = alpha_bar;
        kept[i] = full->timestep[kept[i]];
    }
    schedule_derive(out);
    return KINDIT_OK;
}

void schedule_close(Schedule *schedule) {
    memory_free(&schedule->block);
    *schedule = (Schedule){0};
}
