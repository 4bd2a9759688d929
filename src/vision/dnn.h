// Frozen convolution networks on oneDNN: built once, layer by layer, for one image; then run on many, each image by one
// thread alone. So an image's results depend neither on the batch it came in nor on the number of threads, and no
// thread waits for another.
//
// A tensor is a number that a layer gave; 0 is the image. Layouts are oneDNN's own choice between the layers.
// A build without oneDNN has none of this (KINDIT_HAVE_DNNL is not defined).
#ifndef VISION_DNN_H
#define VISION_DNN_H

#include "base/context.h"

typedef struct Dnn Dnn;

typedef struct DnnConv {
    int channels; // of its output
    int height, width, stride, pad_height, pad_width;
    bool relu;
} DnnConv;

typedef enum DnnPool { DNN_POOL_MAX, DNN_POOL_MEAN } DnnPool; // MEAN: of the pixels that exist, not of the padding

// Builds a network for images (channels, size, size) with room for `threads` of them at once: `add` adds the layers,
// with the functions below.
KinditStatus dnn_build(Dnn **out, KinditContext *ctx, int threads, int channels, int size,
                       KinditStatus (*add)(Dnn *dnn, void *user), void *user);
void dnn_close(Dnn **dnn);

// *out = convolution of x. weights (out, in, height, width) and bias (out) are copied, and so is `name`.
KinditStatus dnn_add_conv(Dnn *dnn, const char *name, int x, const DnnConv *conv, const float *weights,
                          const float *bias, int *out);
KinditStatus dnn_add_pool(Dnn *dnn, int x, DnnPool kind, int kernel, int stride, int pad, int *out);
KinditStatus dnn_add_concat(Dnn *dnn, const char *name, int n, const int *x, int *out); // along the channels; n <= 8
// Makes the first n_channels of x an output of the network, (height, width, n_channels). Outputs count from 0.
KinditStatus dnn_add_output(Dnn *dnn, int x, int n_channels);
int dnn_channels(const Dnn *dnn, int x);

// images (n, channels, size, size); output k of image i goes to outputs[k] + i * its size, unless outputs[k] is NULL.
KinditStatus dnn_run(Dnn *dnn, const float *images, int n, float *const *outputs);
// The result of each layer that has a name, as (channels, height, width), of one image.
typedef void (*DnnVisit)(void *user, const char *name, size_t n, const float *values);
KinditStatus dnn_visit(Dnn *dnn, const float *image, DnnVisit visit, void *user);

#endif
