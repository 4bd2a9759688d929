// What a classifier has of its own: the mean over a sample's tokens, and softmax cross-entropy.
#include <math.h>
#include <string.h>

#include "engine/rows.h"
#include "engine/simd.h"

ENGINE_CLONES static void scale_row(int width, float factor, const float *from, float *to) {
#pragma omp simd
    for (int i = 0; i < width; i++) to[i] = factor * from[i];
}

void engine_mean_forward(Engine *engine, int batch, int tokens, int width, Activation x, float *y) {
    engine_profile_begin(engine);
    const size_t D = (size_t)width, T = (size_t)tokens;
#pragma omp parallel for num_threads(engine->threads) schedule(static)
    for (int b = 0; b < batch; b++) {
        float *row = y + (size_t)b * D;
        memset(row, 0, D * sizeof *row);
        rows_sum(tokens, width, activation_at(x, (size_t)b * T * D), width, row);
        scale_row(width, 1.0f / (float)tokens, row, row);
    }
    const double elements = (double)batch * tokens * width;
    engine_profile_end(engine, KERNEL_EDGE, elements, elements * (double)engine_type_size(x.type));
}

void engine_mean_backward(Engine *engine, int batch, int tokens, int width, const float *dy, float *dx) {
    engine_profile_begin(engine);
    const size_t D = (size_t)width, T = (size_t)tokens;
#pragma omp parallel for num_threads(engine->threads) schedule(static)
    for (int b = 0; b < batch; b++)
        for (size_t t = 0; t < T; t++)
            scale_row(width, 1.0f / (float)tokens, dy + (size_t)b * D, dx + ((size_t)b * T + t) * D);
    const double elements = (double)batch * tokens * width;
    engine_profile_end(engine, KERNEL_EDGE, elements, 4 * elements);
}

// In double: a few dozen numbers a sample, and the loss of a sample that is sure of itself is a small difference.
static float cross_entropy_row(int classes, const float *logits, int label, double scale, float *gradient) {
    double highest = -INFINITY, sum = 0;
    for (int k = 0; k < classes; k++)
        if (logits[k] > highest || isnan(logits[k])) highest = logits[k];
    for (int k = 0; k < classes; k++) sum += exp(logits[k] - highest);
    for (int k = 0; k < classes; k++)
        gradient[k] = (float)(scale * (exp(logits[k] - highest) / sum - (k == label ? 1 : 0)));
    return (float)(log(sum) + highest - logits[label]);
}

void engine_cross_entropy(Engine *engine, int batch, int classes, const float *logits, const int *labels, float weight,
                          float *loss, float *dlogits) {
    engine_profile_begin(engine);
    const double scale = (double)weight / batch;
#pragma omp parallel for num_threads(engine->threads) schedule(static)
    for (int b = 0; b < batch; b++) {
        const size_t at = (size_t)b * (size_t)classes;
        loss[b] = cross_entropy_row(classes, logits + at, labels[b], scale, dlogits + at);
    }
    const double elements = (double)batch * classes;
    engine_profile_end(engine, KERNEL_EDGE, 4 * elements, 8 * elements);
}

void engine_best_class(Engine *engine, int batch, int classes, const float *logits, int *best) {
    engine_profile_begin(engine);
    for (int b = 0; b < batch; b++) {
        const float *row = logits + (size_t)b * (size_t)classes;
        best[b] = 0;
        for (int k = 1; k < classes; k++)
            if (row[k] > row[best[b]]) best[b] = k;
    }
    engine_profile_end(engine, KERNEL_EDGE, (double)batch * classes, 4.0 * batch * classes);
}
