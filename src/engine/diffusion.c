// Diffusion's own arithmetic: noise, the training loss with its gradient, the sampler step and guidance.
#include <math.h>

#include "engine/fastmath.h"
#include "engine/internal.h"

// ---- noise and pixels ----------------------------------------------------------------------------------------------

void engine_fill_normal(Engine *engine, int n_samples, size_t size, const RngKey *keys, float *out) {
    engine_profile_begin(engine);
#pragma omp parallel for num_threads(engine->threads) schedule(static)
    for (int i = 0; i < n_samples; i++) rng_fill_normal(keys[i], out + (size_t)i * size, size);
    engine_profile_end(engine, KERNEL_DIFFUSION, 0, 4.0 * n_samples * (double)size);
}

ENGINE_CLONES static void combine(size_t n, float a, const float *x, float b, const float *y, float *out) {
#pragma omp simd
    for (size_t i = 0; i < n; i++) out[i] = a * x[i] + b * y[i];
}

void engine_noise(Engine *engine, int batch, size_t size, const float *a, const float *b, const float *x0,
                  const float *eps, float *xt) {
    engine_profile_begin(engine);
#pragma omp parallel for num_threads(engine->threads) schedule(static)
    for (int i = 0; i < batch; i++) {
        size_t at = (size_t)i * size;
        combine(size, a[i], x0 + at, b[i], eps + at, xt + at);
    }
    engine_profile_end(engine, KERNEL_DIFFUSION, 3.0 * batch * (double)size, 12.0 * batch * (double)size);
}

void engine_pixels(Engine *engine, size_t n, const uint8_t *pixels, float *out) {
    engine_profile_begin(engine);
#pragma omp parallel for num_threads(engine->threads) schedule(static)
    for (size_t i = 0; i < n; i++) out[i] = (float)pixels[i] / 127.5f - 1.0f;
    engine_profile_end(engine, KERNEL_DIFFUSION, 2 * (double)n, 5 * (double)n);
}

// ---- loss ----------------------------------------------------------------------------------------------------------

// A sample is summed tile by tile: in float inside one, in double over them.
enum { LOSS_TILE = 128 };

// gradient = scale * (predicted - eps); returns the sum of (predicted - eps)^2.
ENGINE_CLONES static float mse_tile(size_t n, const float *predicted, const float *eps, float scale, float *gradient) {
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (size_t i = 0; i < n; i++) {
        float error = predicted[i] - eps[i];
        sum += error * error;
        gradient[i] = scale * error;
    }
    return sum;
}

// KL(N(mean, e^low) || N(mean + gap, e^(low + excess))) = (excess + (e^-excess - 1) + gap^2 e^(-low - excess)) / 2
// nats, where the bracket's last term is squared_gap * (predicted - eps)^2 e^-excess, and excess runs over
// [0, range] as the variance channel does over [-1, 1]. Neither the difference nor the sum cancels: with -excess = n
// ln 2 + r, e^r is 1 + r + s, s of second order (minimax, relative error 1.3e-7). Returns the sum of twice the KL;
// gradient = scale * its derivative with respect to excess.
ENGINE_CLONES static float kl_tile(size_t n, float squared_gap, float range, const float *predicted, const float *eps,
                                   const float *variance, float scale, float *gradient) {
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (size_t i = 0; i < n; i++) {
        float error = predicted[i] - eps[i], excess = (0.5f * range) * (variance[i] + 1.0f);
        float power, r = fast_exp_reduce(-excess, &power), square = r * r;
        float q = (0.00138145986f * r + 0.00836871688f) * square + (0.041668388f * r + 0.166665206f);
        float s = (q * r + 0.499999934f) * square;
        float gap = squared_gap * (error * error) * (power * (1.0f + r + s));
        sum += (power - 1.0f) + (power * r + excess) + power * s + gap;
        gradient[i] = scale * ((1.0f - power) - power * (r + s) - gap);
    }
    return sum;
}

// A value and its derivative with respect to the model's log variance.
typedef struct Term {
    double value, slope;
} Term;

// The normal distribution function as improved-diffusion approximates it, 0.5 (1 + tanh u), and its slope.
static Term approximate_cdf(double z) {
    const double c = 0.7978845608028654 /* sqrt(2 / pi) */, d = 0.044715;
    double h = tanh(c * (z + d * z * z * z));
    return (Term){0.5 * (1.0 + h), 0.5 * (1.0 - h * h) * c * (1.0 + 3.0 * d * z * z)};
}

// -log of the probability that a normal around `mean` gives to the pixel of 256 whose centre is x (Ho et al. 2020, Eq.
// 13), in nats. A probability below 1e-12 counts as 1e-12, where the slope is zero.
static Term decoder_nll(double x, double mean, double log_variance) {
    const double half_bin = 1.0 / 255.0, floor = 1e-12;
    double inverse_std = exp(-0.5 * log_variance);
    double upper = (x - mean + half_bin) * inverse_std, lower = (x - mean - half_bin) * inverse_std;
    Term to_upper = approximate_cdf(upper), to_lower = approximate_cdf(lower);
    // d upper / d log_variance = -upper / 2
    Term bin = {to_upper.value - to_lower.value, -0.5 * (to_upper.slope * upper - to_lower.slope * lower)};
    if (x < -0.999) bin = (Term){to_upper.value, -0.5 * to_upper.slope * upper};
    if (x > 0.999) bin = (Term){1.0 - to_lower.value, 0.5 * to_lower.slope * lower};
    if (bin.value < floor) return (Term){-log(floor), 0.0};
    return (Term){-log(bin.value), -bin.slope / bin.value};
}

// Sum of the decoder's nats; gradient = scale * the derivative with respect to excess. For the last step alone, one
// sample in as many as there are steps: no need for speed.
static double decoder_sum(size_t n, const LossTerms *terms, int b, const float *predicted, const float *variance,
                          const float *x0, const float *xt, double scale, float *gradient) {
    double low = terms->log_variance_low[b], range = terms->log_variance_range[b], sum = 0;
    for (size_t i = 0; i < n; i++) {
        double model_x0 = (double)terms->sqrt_recip[b] * xt[i] - (double)terms->sqrt_recipm1[b] * predicted[i];
        double model_mean = terms->mean_x0[b] * model_x0 + (double)terms->mean_xt[b] * xt[i];
        Term term = decoder_nll(x0[i], model_mean, low + 0.5 * (variance[i] + 1.0) * range);
        sum += term.value;
        gradient[i] = (float)(scale * term.slope);
    }
    return sum;
}

// Returns the squared error's mean; gradient = scale * its derivative.
static double sample_mse(size_t n, const float *predicted, const float *eps, double scale, float *gradient) {
    double sum = 0;
    float slope = (float)(scale * 2.0 / (double)n);
    for (size_t i = 0; i < n; i += LOSS_TILE)
        sum += mse_tile(n - i < LOSS_TILE ? n - i : LOSS_TILE, predicted + i, eps + i, slope, gradient + i);
    return sum / (double)n;
}

// Returns the variational bound's mean in bits; gradient = scale * its derivative with respect to the variance
// channels.
static double sample_vlb(size_t n, const LossTerms *terms, int b, const float *predicted, const float *variance,
                         const float *x0, const float *xt, const float *eps, double scale, float *gradient) {
    const double bits = 1.0 / (0.69314718055994530942 * (double)n);
    double range = terms->log_variance_range[b], slope = scale * bits * 0.5 * range, sum = 0;
    if (terms->is_first[b]) return bits * decoder_sum(n, terms, b, predicted, variance, x0, xt, slope, gradient);
    // Both means hold the same multiple of x_t, which was made of x_0 and eps: what is left of their difference is
    // this multiple of predicted - eps.
    double factor = (double)terms->mean_x0[b] * terms->sqrt_recipm1[b];
    float squared_gap = (float)(factor * factor * exp(-(double)terms->log_variance_low[b]));
    for (size_t i = 0; i < n; i += LOSS_TILE)
        sum += kl_tile(n - i < LOSS_TILE ? n - i : LOSS_TILE, squared_gap, (float)range, predicted + i, eps + i,
                       variance + i, (float)(0.5 * slope), gradient + i);
    return 0.5 * bits * sum;
}

void engine_loss(Engine *engine, int batch, int channels, size_t plane, const float *output, const float *x0,
                 const float *xt, const float *eps, const LossTerms *terms, float weight, float *mse, float *vlb,
                 float *doutput) {
    engine_profile_begin(engine);
    size_t n = (size_t)channels * plane, n_out = terms ? 2 * n : n;
    double scale = (double)weight / batch;
#pragma omp parallel for num_threads(engine->threads) schedule(static)
    for (int b = 0; b < batch; b++) {
        size_t at = (size_t)b * n, at_out = (size_t)b * n_out;
        mse[b] = (float)sample_mse(n, output + at_out, eps + at, scale, doutput + at_out);
        if (!terms) continue;
        vlb[b] = (float)sample_vlb(n, terms, b, output + at_out, output + at_out + n, x0 + at, xt + at, eps + at, scale,
                                   doutput + at_out + n);
    }
    double elements = (double)batch * (double)n;
    engine_profile_end(engine, KERNEL_DIFFUSION, (terms ? 44 : 4) * elements, (terms ? 20 : 12) * elements);
}

// ---- features ------------------------------------------------------------------------------------------------------

// *distance += the sum of (x - target)^2, *length += that of target^2.
ENGINE_CLONES static void measure_tile(size_t n, const float *x, const float *target, double *distance,
                                       double *length) {
    float squares = 0, lengths = 0;
#pragma omp simd reduction(+ : squares, lengths)
    for (size_t i = 0; i < n; i++) {
        float error = x[i] - target[i];
        squares += error * error;
        lengths += target[i] * target[i];
    }
    *distance += squares;
    *length += lengths;
}

ENGINE_CLONES static void pull(size_t n, const float *x, const float *target, float scale, float *dx) {
#pragma omp simd
    for (size_t i = 0; i < n; i++) dx[i] += scale * (x[i] - target[i]);
}

void engine_relative_error(Engine *engine, int batch, size_t size, const float *x, const float *target, float weight,
                           float *error, float *dx) {
    engine_profile_begin(engine);
#pragma omp parallel for num_threads(engine->threads) schedule(static)
    for (int b = 0; b < batch; b++) {
        const size_t at = (size_t)b * size;
        double distance = 0, length = 0;
        for (size_t i = 0; i < size; i += LOSS_TILE) {
            size_t n = size - i < LOSS_TILE ? size - i : LOSS_TILE;
            measure_tile(n, x + at + i, target + at + i, &distance, &length);
        }
        if (length == 0) continue;
        error[b] += (float)(distance / length);
        pull(size, x + at, target + at, (float)(2 * (double)weight / length), dx + at);
    }
    engine_profile_end(engine, KERNEL_DIFFUSION, 8.0 * batch * (double)size, 24.0 * batch * (double)size);
}

// ---- sampling ------------------------------------------------------------------------------------------------------

ENGINE_CLONES static void sampler_mean(size_t n, const SamplerStep *step, const float *predicted, float *x) {
    const SamplerStep s = *step;
#pragma omp simd
    for (size_t i = 0; i < n; i++) {
        float eps = predicted[i], x0 = s.x0_xt * x[i] - s.x0_eps * eps;
        if (s.clip) {
            float size = fabsf(x0); // one limit for both signs: as in fast_exp_reduce, a branch would not be vectorised
            x0 = copysignf(size > 1.0f ? 1.0f : size, x0);
            eps = (s.x0_xt * x[i] - x0) / s.x0_eps;
        }
        x[i] = s.mean_x0 * x0 + s.mean_xt * x[i] + s.mean_eps * eps;
    }
}

// x += sigma z, with sigma from the variance channel where there is one.
ENGINE_CLONES static void sampler_noise(size_t n, const SamplerStep *step, const float *variance, const float *noise,
                                        float *x) {
    const SamplerStep s = *step;
    if (variance) {
#pragma omp simd
        for (size_t i = 0; i < n; i++) {
            float fraction = 0.5f * (variance[i] + 1.0f);
            x[i] += fast_exp(0.5f * (fraction * s.log_high + (1.0f - fraction) * s.log_low)) * noise[i];
        }
    } else {
#pragma omp simd
        for (size_t i = 0; i < n; i++) x[i] += s.sigma * noise[i];
    }
}

void engine_sampler_step(Engine *engine, int batch, int channels, int out_channels, size_t plane,
                         const SamplerStep *step, const float *output, const float *noise, float *x) {
    engine_profile_begin(engine);
    int planes = batch * channels;
#pragma omp parallel for num_threads(engine->threads) schedule(static)
    for (int i = 0; i < planes; i++) {
        int b = i / channels, c = i % channels;
        const float *predicted = output + ((size_t)b * (size_t)out_channels + (size_t)c) * plane;
        const float *variance = step->learned_variance ? predicted + (size_t)channels * plane : NULL;
        size_t at = (size_t)i * plane;
        sampler_mean(plane, step, predicted, x + at);
        if (step->add_noise && noise) sampler_noise(plane, step, variance, noise + at, x + at);
    }
    double elements = (double)planes * (double)plane, flops = 12, bytes = 12;
    if (step->add_noise && noise) {
        flops += step->learned_variance ? 27 : 2;
        bytes += step->learned_variance ? 8 : 4;
    }
    engine_profile_end(engine, KERNEL_DIFFUSION, flops * elements, bytes * elements);
}

ENGINE_CLONES static void guide_planes(size_t n, float w, const float *uncond, float *cond) {
#pragma omp simd
    for (size_t i = 0; i < n; i++) cond[i] = uncond[i] + w * (cond[i] - uncond[i]);
}

void engine_guide(Engine *engine, int batch, int out_channels, int guided, size_t plane, float w, const float *uncond,
                  float *cond) {
    engine_profile_begin(engine);
    size_t sample = (size_t)out_channels * plane, n = (size_t)guided * plane;
#pragma omp parallel for num_threads(engine->threads) schedule(static)
    for (int b = 0; b < batch; b++) {
        size_t at = (size_t)b * sample;
        guide_planes(n, w, uncond + at, cond + at);
    }
    engine_profile_end(engine, KERNEL_DIFFUSION, 3.0 * batch * (double)n, 12.0 * batch * (double)n);
}
