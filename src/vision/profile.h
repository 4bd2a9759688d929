// How a picture becomes what a frozen network reads. A profile is the preprocessing of one reference program, copied
// with all that it does unlike the others: figures compare only between features taken under the same one.
//
//     adm          ADM's evaluator and torch-fidelity: TensorFlow 1's bilinear resizing (no half-pixel centres, no
//                  antialiasing) of values 0..255, then (x - 128) / 128
//     pytorch-fid  x / 255, PyTorch's bilinear resizing (half-pixel centres, no antialiasing), then 2 x - 1
//     dgm-eval     Pillow's bicubic resizing, antialiased, rounded to 8 bits, x / 255, then ImageNet's mean and
//     deviation native       no resizing: x / 127.5 - 1, as the data sets are read in training
#ifndef VISION_PROFILE_H
#define VISION_PROFILE_H

#include "base/context.h"

typedef enum VisionProfile {
    PROFILE_ADM,
    PROFILE_PYTORCH_FID,
    PROFILE_DGM_EVAL,
    PROFILE_NATIVE,
    PROFILE_COUNT
} VisionProfile;

const char *profile_name(VisionProfile profile); // "adm", ...
// The profile of that name; an argument error that lists them otherwise.
KinditStatus profile_parse(VisionProfile *out, KinditContext *ctx, const char *name);

// One picture, pixels (height, width, channels) with 1 or 3 channels, as out (out_channels, size, size). A grey picture
// is repeated over the channels; a coloured one for a grey network, and one of another size under `native`, is an
// argument error.
KinditStatus profile_apply(VisionProfile profile, KinditContext *ctx, const uint8_t *pixels, int height, int width,
                           int channels, int size, int out_channels, float *out);

#endif
