// How alike two models' features are.
#ifndef ADAPT_SIMILARITY_H
#define ADAPT_SIMILARITY_H

#include "engine/engine.h"

// Linear centred kernel alignment (Kornblith et al. 2019) of x and y (rows, width), engine memory, each row an example:
//     || Y^T X ||_F^2 / (|| X^T X ||_F || Y^T Y ||_F),  columns centred: 0 to 1, whatever the scale, the shift or the
// rotation of either. Features that are the same in every row are like nothing: 0.
KinditStatus similarity_cka(double *out, KinditContext *ctx, Engine *engine, int rows, int width, const float *x,
                            const float *y);

#endif
