// Resizing as PIL does it (antialiased, separable, 8-bit fixed point between the passes) and ADM's centre crop on top.
#ifndef DATA_RESIZE_H
#define DATA_RESIZE_H

#include "formats/image.h"

typedef enum ResizeFilter { RESIZE_BOX, RESIZE_BICUBIC } ResizeFilter;

// Replaces `image` by its version of width x height. Equal to Image.resize of Pillow 10 for "L" and "RGB", bit for bit.
KinditStatus resize_image(Image *image, KinditContext *ctx, int width, int height, ResizeFilter filter);

// ADM's center_crop_arr (Dhariwal & Nichol 2021): halve with BOX while the shorter side is at least 2 * size, BICUBIC
// to shorter side = size, then the central size x size. Replaces `image`.
KinditStatus resize_center_crop(Image *image, KinditContext *ctx, int size);

#endif
