// One decoder a picture format; image.c picks by the first bytes. Each fills an empty *out, or fails and leaves in it
// what image_close frees.
#ifndef FORMATS_IMAGE_CODECS_H
#define FORMATS_IMAGE_CODECS_H

#include "formats/image.h"

KinditStatus image_decode_png(Image *out, KinditContext *ctx, const char *name, const uint8_t *data, size_t size);
KinditStatus image_decode_jpeg(Image *out, KinditContext *ctx, const char *name, const uint8_t *data, size_t size);
KinditStatus image_decode_webp(Image *out, KinditContext *ctx, const char *name, const uint8_t *data, size_t size);

// Refuses sides beyond IMAGE_MAX_SIDE, and more pixels than `n_bytes` of PNG or JPEG can hold, before memory is taken.
KinditStatus image_check_size(KinditContext *ctx, const char *name, uint64_t width, uint64_t height, size_t n_bytes);

#endif
