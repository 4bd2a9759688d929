// Pictures: PNG (libpng), JPEG (libjpeg-turbo) and WebP (libwebp) in, PNG out. 8 bits a channel.
#ifndef FORMATS_IMAGE_H
#define FORMATS_IMAGE_H

#include "base/context.h"

typedef struct Image {
    int width, height, channels; // 1 grey, 3 RGB, 4 RGBA
    uint8_t *pixels;             // (height, width, channels), owned
} Image;

enum { IMAGE_MAX_SIDE = 16384 };

KinditStatus image_alloc(Image *out, KinditContext *ctx, int width, int height, int channels); // zeroed
void image_close(Image *image);

// The format is told by the first bytes, not by the name. Palette, 16-bit and interlaced PNG, CMYK-free JPEG, still
// WebP. Alpha is kept only in `channels == 4`. Sides over IMAGE_MAX_SIDE are refused; truncated or corrupt files are
// format errors (a warning of the library counts as corrupt only if pixels are missing).
KinditStatus image_read(Image *out, KinditContext *ctx, const char *path);
KinditStatus image_parse(Image *out, KinditContext *ctx, const char *name, const uint8_t *data, size_t size);
// To 1 (Rec. 601 luma, as PIL's "L") or 3 channels in place; alpha is composed over `background` (0..255).
KinditStatus image_convert(Image *image, KinditContext *ctx, int channels, uint8_t background);
KinditStatus image_write_png(KinditContext *ctx, const char *path, const Image *image); // atomic; 1, 3 or 4 channels
// PNG bytes in memory (for reports); caller frees *out with memory_free.
KinditStatus image_encode_png(uint8_t **out, size_t *size, KinditContext *ctx, const Image *image);

#endif
