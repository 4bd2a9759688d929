// The loss against its twin and finite differences of it, noise, the sampler step, guidance; threads.
#include "engine/numbers.h"

enum { BATCH = 4, CHANNELS = 3, PLANE = 35, SIZE = CHANNELS * PLANE };

// Coefficients of the linear schedule at four timesteps; the first is t = 0.
static const float sqrt_recip[BATCH] = {1.00005f, 1.0207f, 3.57f, 157.4f};
static const float sqrt_recipm1[BATCH] = {0.01f, 0.2046f, 3.427f, 157.4f};
static const float mean_x0[BATCH] = {1.0f, 0.0472f, 0.00292f, 0.000127f};
static const float mean_xt[BATCH] = {0.0f, 0.9517f, 0.9942f, 0.98996f};
static const float log_low[BATCH] = {-10.0f, -6.42f, -4.62f, -3.912f};
static const float log_range[BATCH] = {0.79f, 0.03f, 0.02f, 1e-4f};
static const int is_first[BATCH] = {1, 0, 0, 0};
static const LossTerms terms = {sqrt_recip, sqrt_recipm1, mean_x0, mean_xt, log_low, log_range, is_first};

typedef struct Loss {
    Numbers *output, *x0, *xt, *eps, *mse, *vlb, *doutput;
} Loss;

// Pixels, some of them black and white (the open bins), noised; an output near the truth, as late in training.
static Loss loss_case(bool learned) {
    size_t n = BATCH * SIZE, n_out = learned ? 2 * n : n;
    Loss l = {numbers_random(n_out, 0.5f), numbers_random(n, 1.0f), numbers_empty(n),    numbers_random(n, 1.0f),
              numbers_empty(BATCH),        numbers_empty(BATCH),    numbers_empty(n_out)};
    for (size_t i = 0; i < n; i++) {
        size_t b = i / SIZE, at = b * n_out / BATCH + i % SIZE;
        float clamped = fminf(fmaxf(l.x0->f[i], -1.0f), 1.0f);
        l.x0->d[i] = l.x0->f[i] = roundf((clamped + 1.0f) * 127.5f) / 127.5f - 1.0f;
        l.xt->f[i] = (l.x0->f[i] + sqrt_recipm1[b] * l.eps->f[i]) / sqrt_recip[b];
        l.xt->d[i] = l.xt->f[i];
        l.output->d[at] = l.output->f[at] = l.eps->f[i] + 0.2f * l.output->f[at];
    }
    return l;
}

static void run_loss(Engine *engine, const Loss *l, const LossTerms *with, float weight) {
    engine_loss(engine, BATCH, CHANNELS, PLANE, l->output->f, l->x0->f, l->xt->f, l->eps->f, with, weight, l->mse->f,
                with ? l->vlb->f : NULL, l->doutput->f);
}

// Objectives of one sample; epsilon is detached from the bound in that only the other half of the output moves.
typedef struct SampleLoss {
    const Loss *loss;
    size_t b;
} SampleLoss;

static double mse_objective(void *of) {
    const SampleLoss *s = of;
    size_t n_out = s->loss->output->n / BATCH;
    return plain_mse_f64(SIZE, s->loss->output->d + s->b * n_out, s->loss->eps->d + s->b * SIZE);
}

static double vlb_objective(void *of) {
    const SampleLoss *s = of;
    const double *predicted = s->loss->output->d + s->b * 2 * SIZE;
    return plain_vlb_f64(SIZE, &terms, (int)s->b, predicted, predicted + SIZE, s->loss->x0->d + s->b * SIZE,
                         s->loss->xt->d + s->b * SIZE);
}

static void expect_half_slopes(const Loss *l, double (*objective)(void *), size_t begin, double scale) {
    SampleLoss sample = {l, begin / (l->output->n / BATCH)};
    const double h = 1e-5;
    for (size_t i = begin; i < begin + SIZE; i++) {
        double kept_value = l->output->d[i];
        l->output->d[i] = kept_value + h;
        double above = objective(&sample);
        l->output->d[i] = kept_value - h;
        l->doutput->d[i] = scale * (above - objective(&sample)) / (2 * h);
        l->output->d[i] = kept_value;
    }
}

static void check_loss(bool learned, float weight) {
    Loss l = loss_case(learned);
    size_t n_out = l.output->n / BATCH;
    for (size_t b = 0; b < BATCH; b++) {
        SampleLoss sample = {&l, b};
        l.mse->d[b] = mse_objective(&sample);
        expect_half_slopes(&l, mse_objective, b * n_out, weight / BATCH);
        if (!learned) continue;
        l.vlb->d[b] = vlb_objective(&sample);
        expect_half_slopes(&l, vlb_objective, b * n_out + SIZE, weight / BATCH);
    }
    for (size_t i = 0; i < l.doutput->n; i++)
        l.doutput->d[i] *= SIZE; // of the order of 1, so that the bound means something
    for (int threads = 1; threads <= MAX_THREADS; threads++) {
        run_loss(engines[threads], &l, learned ? &terms : NULL, weight);
        for (size_t i = 0; i < l.doutput->n; i++) l.doutput->f[i] *= SIZE;
        numbers_check(l.mse, threads, 1e-7);
        numbers_check(l.vlb, threads, 2e-7);
        numbers_check(l.doutput, threads, 1e-6);
    }
    numbers_free_all();
}

static void test_loss_matches_twin_and_differences(void **state) {
    (void)state;
    check_loss(true, 1.0f);
    check_loss(true, 0.25f);
    check_loss(false, 1.0f);
}

// With the true epsilon and the lower variance, model and posterior agree: no bits.
static void test_bound_is_zero_at_the_truth(void **state) {
    (void)state;
    Loss l = loss_case(true);
    for (size_t i = 0; i < BATCH * SIZE; i++) {
        size_t at = i / SIZE * 2 * SIZE + i % SIZE;
        l.output->f[at] = l.eps->f[i];
        l.output->f[at + SIZE] = -1.0f;
    }
    run_loss(engines[1], &l, &terms, 1.0f);
    for (int b = 0; b < BATCH; b++) assert_true(l.mse->f[b] == 0.0f);
    for (int b = 1; b < BATCH; b++) assert_true(fabsf(l.vlb->f[b]) < 1e-6f);
    assert_true(l.vlb->f[0] > 0.0f);
    numbers_free_all();
}

// The bound alone (the true epsilon) as the variance channel runs far beyond [-1, 1] both ways, and just above -1,
// where the bound is of second order: relative errors of value and slope.
static void test_bound_of_variance(void **state) {
    (void)state;
    enum { POINTS = 4001 };
    const LossTerms one = {sqrt_recip + 1, sqrt_recipm1 + 1, mean_x0 + 1, mean_xt + 1,
                           log_low + 1,    log_range,        is_first + 1};
    for (int i = 0; i < POINTS; i++) {
        float mse, vlb, distance = powf(10.0f, -6.0f + (float)i * (8.5f / POINTS)) * (i % 2 ? 1.0f : -1.0f);
        float output[2] = {0.25f, distance - 1.0f}, gradient[2];
        engine_loss(engines[1], 1, 1, 1, output, output, output, output, &one, 1.0f, &mse, &vlb, gradient);
        double half_range = 0.5 * log_range[0], excess = half_range * ((double)output[1] + 1.0);
        double value = 0.5 * (excess + expm1(-excess)) / log(2), slope = -0.5 * expm1(-excess) * half_range / log(2);
        double bound = 1e-6 + 1.2e-7 * fabs(excess); // the rounding of excess, which the exponential magnifies
        if (fabs(excess) > 80) continue;
        if (!(fabs(vlb - value) <= bound * fabs(value)) || !(fabs(gradient[1] - slope) <= bound * fabs(slope)))
            fail_msg("excess %g: %.9g and %.9g, expected %.9g and %.9g", excess, vlb, gradient[1], value, slope);
    }
}

// NaN in either half of the output shows in the loss.
static void test_nan_shows(void **state) {
    (void)state;
    for (size_t half = 0; half < 2; half++) {
        Loss l = loss_case(true);
        l.output->f[2 * SIZE + half * SIZE + 3] = NAN;
        run_loss(engines[1], &l, &terms, 1.0f);
        assert_true(isnan(l.vlb->f[1]) && isnan(l.doutput->f[3 * SIZE + 3]));
        assert_true(isfinite(l.vlb->f[0]) && isfinite(l.vlb->f[2]));
        numbers_free_all();
    }
}

// A mean far from the pixel: the bin's probability is below 1e-12, the bound is its logarithm and has no slope.
static void test_decoder_floor(void **state) {
    (void)state;
    Loss l = loss_case(true);
    for (size_t i = 0; i < SIZE; i++) l.output->f[i] = 1000.0f, l.x0->f[i] = 0.0f;
    run_loss(engines[1], &l, &terms, 1.0f);
    assert_true(fabs(l.vlb->f[0] + log2(1e-12)) < 1e-4);
    for (size_t i = SIZE; i < 2 * SIZE; i++) assert_true(l.doutput->f[i] == 0.0f);
    numbers_free_all();
}

static void check_sampler(SamplerStep step, bool with_noise) {
    size_t n = BATCH * SIZE, out_channels = step.learned_variance ? 2 * CHANNELS : CHANNELS;
    Numbers *output = numbers_random(BATCH * out_channels * PLANE, 1.0f), *noise = numbers_random(n, 1.0f);
    Numbers *start = numbers_random(n, 1.0f), *x = numbers_empty(n);
    numbers_set(x, start->f);
    step.add_noise = with_noise;
    plain_sampler_step_f64(BATCH, CHANNELS, (int)out_channels, PLANE, &step, output->d, noise->d, x->d);
    for (int threads = 1; threads <= MAX_THREADS; threads++) {
        memcpy(x->f, start->f, n * sizeof(float));
        engine_sampler_step(engines[threads], BATCH, CHANNELS, (int)out_channels, PLANE, &step, output->f,
                            with_noise ? noise->f : NULL, x->f);
        numbers_check(x, threads, 1e-6);
    }
    numbers_free_all();
}

static void test_sampler_step(void **state) {
    (void)state;
    SamplerStep ddpm = {.x0_xt = 3.57f,
                        .x0_eps = 3.427f,
                        .mean_x0 = 0.3f,
                        .mean_xt = 0.7f,
                        .learned_variance = true,
                        .log_low = -4.62f,
                        .log_high = -4.1f};
    SamplerStep ddim = {.x0_xt = 1.5f, .x0_eps = 1.1f, .clip = true, .mean_x0 = 0.8f, .mean_eps = 0.6f, .sigma = 0.3f};
    for (int i = 0; i < 4; i++) {
        ddpm.clip = i / 2;
        check_sampler(ddpm, i % 2);
        ddim.clip = i / 2;
        check_sampler(ddim, i % 2);
    }
}

static void test_guidance(void **state) {
    (void)state;
    const int guided = 2;
    Numbers *uncond = numbers_random(BATCH * SIZE, 1.0f), *cond = numbers_random(BATCH * SIZE, 1.0f);
    Numbers *start = numbers_empty(BATCH * SIZE);
    numbers_set(start, cond->f);
    for (size_t i = 0; i < cond->n; i++)
        if (i % SIZE < (size_t)guided * PLANE) cond->d[i] = uncond->d[i] + 4 * (cond->d[i] - uncond->d[i]);
    for (int threads = 1; threads <= MAX_THREADS; threads++) {
        memcpy(cond->f, start->f, cond->n * sizeof(float));
        engine_guide(engines[threads], BATCH, CHANNELS, guided, PLANE, 4.0f, uncond->f, cond->f);
        numbers_check(cond, threads, 1e-6);
    }
    numbers_free_all();
}

static void test_noise_and_pixels(void **state) {
    (void)state;
    const float a[BATCH] = {1, 0.9f, 0.5f, 0.1f}, b[BATCH] = {0, 0.4f, 0.8f, 0.99f};
    const uint8_t pixels[] = {0, 51, 255};
    float values[3];
    RngKey keys[BATCH];
    Numbers *eps = numbers_empty(BATCH * SIZE), *x0 = numbers_random(BATCH * SIZE, 1.0f);
    Numbers *xt = numbers_empty(BATCH * SIZE);
    for (int i = 0; i < BATCH; i++) keys[i] = (RngKey){.seed = 3, .sample = (uint64_t)(40 - i), .purpose = RNG_TEST};
    for (int threads = 1; threads <= MAX_THREADS; threads++) {
        float alone[SIZE];
        rng_fill_normal(keys[2], alone, SIZE);
        engine_fill_normal(engines[threads], BATCH, SIZE, keys, eps->f);
        assert_memory_equal(alone, eps->f + 2 * SIZE, sizeof alone); // a sample's numbers are its key's
        for (size_t i = 0; i < eps->n; i++) {
            eps->d[i] = eps->f[i];
            xt->d[i] = (double)a[i / SIZE] * x0->d[i] + (double)b[i / SIZE] * eps->d[i];
        }
        numbers_check(eps, threads, 0);
        engine_noise(engines[threads], BATCH, SIZE, a, b, x0->f, eps->f, xt->f);
        numbers_check(xt, threads, 2e-7);
        engine_pixels(engines[threads], 3, pixels, values);
        assert_true(values[0] == -1.0f && fabsf(values[1] + 0.6f) < 1e-7f && values[2] == 1.0f);
    }
    numbers_free_all();
}

// The error of each sample against its twin, the slope against differences of it; a target of zeros counts for nothing.
static void test_relative_error(void **state) {
    (void)state;
    enum { FEATURES = 300 }; // two tiles and a piece of one
    const float weight = 0.3f;
    const double h = 1e-5;
    Numbers *x = numbers_random(BATCH * FEATURES, 1.0f), *target = numbers_random(BATCH * FEATURES, 2.0f),
            *before = numbers_random(BATCH * FEATURES, 0.01f), *error = numbers_empty(BATCH),
            *dx = numbers_empty(BATCH * FEATURES);
    for (size_t i = FEATURES; i < 2 * FEATURES; i++) target->d[i] = target->f[i] = 0;
    for (size_t b = 0; b < BATCH; b++) {
        double *own = x->d + b * FEATURES, *goal = target->d + b * FEATURES;
        error->d[b] = 0.5 + (b == 1 ? 0 : plain_relative_error_f64(FEATURES, own, goal));
        for (size_t i = 0; i < FEATURES; i++) {
            double kept_value = own[i], slope = 0;
            own[i] = kept_value + h;
            if (b != 1) slope = plain_relative_error_f64(FEATURES, own, goal);
            own[i] = kept_value - h;
            if (b != 1) slope -= plain_relative_error_f64(FEATURES, own, goal);
            own[i] = kept_value;
            dx->d[b * FEATURES + i] = before->d[b * FEATURES + i] + (double)weight * slope / (2 * h);
        }
    }
    for (int threads = 1; threads <= MAX_THREADS; threads++) {
        memcpy(dx->f, before->f, dx->n * sizeof(float));
        for (size_t b = 0; b < BATCH; b++) error->f[b] = 0.5f;
        engine_relative_error(engines[threads], BATCH, FEATURES, x->f, target->f, weight, error->f, dx->f);
        numbers_check(error, threads, 2e-7);
        numbers_check(dx, threads, 1e-8); // slopes are of the order of 1e-3
    }
    numbers_free_all();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_loss_matches_twin_and_differences),
        cmocka_unit_test(test_bound_is_zero_at_the_truth),
        cmocka_unit_test(test_bound_of_variance),
        cmocka_unit_test(test_nan_shows),
        cmocka_unit_test(test_decoder_floor),
        cmocka_unit_test(test_relative_error),
        cmocka_unit_test(test_sampler_step),
        cmocka_unit_test(test_guidance),
        cmocka_unit_test(test_noise_and_pixels),
    };
    return cmocka_run_group_tests_name("loss", tests, engines_open, engines_close);
}
