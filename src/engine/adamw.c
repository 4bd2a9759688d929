// AdamW and the moving average of the weights in one pass over memory.
#include <math.h>

#include "engine/internal.h"
#include "engine/simd.h"

enum { TILE = 1024 }; // five arrays of it stay in the first cache between the loops below

// What one update multiplies by, worked out once in double.
typedef struct AdamFactors {
    float gradient_scale, decay; // w *= decay = 1 - lr * weight_decay
    float one_minus_beta1, beta2, one_minus_beta2;
    float step_size, root_correction, eps; // lr / (1 - beta1^t), 1 / sqrt(1 - beta2^t)
    float ema_catch_up, ema_move;          // 1 - ema_decay^gap, 1 - ema_decay: how far the average goes to the weights
} AdamFactors;

static AdamFactors adam_factors(const AdamSettings *s, int64_t step, int64_t ema_gap) {
    double correction1 = 1.0 - pow(s->beta1, (double)step), correction2 = 1.0 - pow(s->beta2, (double)step);
    return (AdamFactors){
        .gradient_scale = s->gradient_scale,
        .decay = (float)(1.0 - (double)s->lr * s->weight_decay),
        .one_minus_beta1 = (float)(1.0 - (double)s->beta1),
        .beta2 = s->beta2,
        .one_minus_beta2 = (float)(1.0 - (double)s->beta2),
        .step_size = (float)(s->lr / correction1),
        .root_correction = (float)(1.0 / sqrt(correction2)),
        .eps = s->eps,
        .ema_catch_up = (float)(1.0 - pow(s->ema_decay, (double)ema_gap)),
        .ema_move = (float)(1.0 - (double)s->ema_decay),
    };
}

// PyTorch's order: decay, moments, then the step with eps added after the bias correction of sqrt(v).
ENGINE_CLONES static void adamw_tile(size_t n, const AdamFactors *factors, const float *restrict g, float *restrict w,
                                     float *restrict m, float *restrict v) {
    const AdamFactors f = *factors;
    for (size_t i = 0; i < n; i++) {
        float gradient = g[i] * f.gradient_scale;
        m[i] += f.one_minus_beta1 * (gradient - m[i]);
        v[i] = f.beta2 * v[i] + f.one_minus_beta2 * gradient * gradient;
        w[i] = w[i] * f.decay - f.step_size * m[i] / (sqrtf(v[i]) * f.root_correction + f.eps);
    }
}

ENGINE_CLONES static void average_tile(size_t n, float fraction, const float *to, float *average) {
#pragma omp simd
    for (size_t i = 0; i < n; i++) average[i] += fraction * (to[i] - average[i]);
}

void engine_adamw(Engine *engine, size_t n, const AdamSettings *settings, int64_t step, int64_t ema_gap, const float *g,
                  float *w, float *m, float *v, float *ema) {
    engine_profile_begin(engine);
    AdamFactors factors = adam_factors(settings, step, ema_gap);
#pragma omp parallel for num_threads(engine->threads) schedule(static) if (n > TILE)
    for (size_t i = 0; i < n; i += TILE) {
        size_t length = n - i < TILE ? n - i : TILE;
        if (ema && ema_gap > 0) average_tile(length, factors.ema_catch_up, w + i, ema + i);
        adamw_tile(length, &factors, g + i, w + i, m + i, v + i);
        if (ema) average_tile(length, factors.ema_move, w + i, ema + i);
    }
    engine_profile_end(engine, KERNEL_ADAMW, (ema ? 17 : 14) * (double)n, (ema ? 36 : 28) * (double)n);
}

void engine_ema_catch_up(Engine *engine, size_t n, float ema_decay, int64_t ema_gap, const float *w, float *ema) {
    engine_profile_begin(engine);
    const float fraction = (float)(1.0 - pow(ema_decay, (double)ema_gap));
#pragma omp parallel for num_threads(engine->threads) schedule(static) if (n > TILE)
    for (size_t i = 0; i < n; i += TILE) average_tile(n - i < TILE ? n - i : TILE, fraction, w + i, ema + i);
    engine_profile_end(engine, KERNEL_ADAMW, 3 * (double)n, 12 * (double)n);
}
