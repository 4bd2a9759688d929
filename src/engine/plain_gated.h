// Plain-C twin of the class-gated low-rank product, in float and in double: reads like Eq. 5 and 8, is what gated.c is
// held to.
#ifndef ENGINE_PLAIN_GATED_H
#define ENGINE_PLAIN_GATED_H

#include "engine/engine.h"

// Factors, or their gradients: the learngene's, and one vector for each slot with its factors at the given offsets.
typedef struct PlainFactors_f32 {
    float *U, *s, *V, *bias; // gradients: all of U, s, V may be NULL (frozen); bias may be NULL
    float *const *tailor;    // gradients: may be NULL (not wanted)
    size_t tailor_U, tailor_s, tailor_V;
} PlainFactors_f32;

typedef struct PlainFactors_f64 {
    double *U, *s, *V, *bias;
    double *const *tailor;
    size_t tailor_U, tailor_s, tailor_V;
} PlainFactors_f64;

// Shapes and conventions as engine_gated_forward and engine_gated_backward; slot[sample] as in Gate.
void plain_gated_forward_f32(const GatedShape *shape, int n_samples, const int *slot, const PlainFactors_f32 *w,
                             const float *x, float *a, float *y);
void plain_gated_forward_f64(const GatedShape *shape, int n_samples, const int *slot, const PlainFactors_f64 *w,
                             const double *x, double *a, double *y);

void plain_gated_backward_f32(const GatedShape *shape, int n_samples, const int *slot, const PlainFactors_f32 *w,
                              const float *x, const float *a, const float *dy, float *dx, bool accumulate,
                              const PlainFactors_f32 *dw);
void plain_gated_backward_f64(const GatedShape *shape, int n_samples, const int *slot, const PlainFactors_f64 *w,
                              const double *x, const double *a, const double *dy, double *dx, bool accumulate,
                              const PlainFactors_f64 *dw);

#endif
