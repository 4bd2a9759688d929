// Plain-C twin of the dense product, in float and in double: reads like the equations, is what linear.c is held to.
// Shapes and conventions as engine_linear_forward and engine_linear_backward.
#ifndef ENGINE_PLAIN_LINEAR_H
#define ENGINE_PLAIN_LINEAR_H

#include <stdbool.h>

void plain_linear_forward_f32(int n, int m1, int m2, const float *x, const float *W, const float *bias, float *y);
void plain_linear_forward_f64(int n, int m1, int m2, const double *x, const double *W, const double *bias, double *y);

void plain_linear_backward_f32(int n, int m1, int m2, const float *x, const float *W, const float *dy, float *dx,
                               bool accumulate, float *dW, float *dbias);
void plain_linear_backward_f64(int n, int m1, int m2, const double *x, const double *W, const double *dy, double *dx,
                               bool accumulate, double *dW, double *dbias);

#endif
