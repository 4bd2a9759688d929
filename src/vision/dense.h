// A dense layer of a frozen network over the rows of images, y = x W^T + b and, where it is wanted, GELU's exact form
// of that: by oneDNN, an image a thread, or by the engine where the build is without. An image's results depend neither
// on the batch that it came in nor on the number of threads.
//
// Layers of the same sizes share one: weights, in the order that the products want, are the caller's.
#ifndef VISION_DENSE_H
#define VISION_DENSE_H

#include "engine/engine.h"

typedef struct Dense Dense;

// For images of `rows` rows; W is (m2, m1). The engine must outlive it.
KinditStatus dense_open(Dense **out, KinditContext *ctx, Engine *engine, int rows, int m1, int m2, bool gelu);
void dense_close(Dense **dense);
size_t dense_packed_size(const Dense *dense); // floats of W in that order
KinditStatus dense_pack(Dense *dense, const float *W, float *packed);
// x (n * rows, m1), bias (m2), y (n * rows, m2); all of it is engine memory.
KinditStatus dense_run(Dense *dense, int n, const float *x, const float *packed, const float *bias, float *y);

#endif
