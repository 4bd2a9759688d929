#include "formats/image.h"

#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "formats/image_codecs.h"

// Deflate expands 1032 times at most, and a byte is 8 pixels of one bit; JPEG spends more than that a pixel.
enum { MAX_PIXELS_PER_BYTE = 8 * 1032 };

KinditStatus image_check_size(KinditContext *ctx, const char *name, uint64_t width, uint64_t height, size_t n_bytes) {
    if (width < 1 || height < 1 || width > IMAGE_MAX_SIDE || height > IMAGE_MAX_SIDE)
        return context_fail(ctx, KINDIT_ERROR_UNSUPPORTED, "%s: expected sides of 1 to %d pixels, found %llu x %llu",
                            name, IMAGE_MAX_SIDE, (unsigned long long)width, (unsigned long long)height);
    if (width * height / MAX_PIXELS_PER_BYTE > n_bytes)
        return context_fail(ctx, KINDIT_ERROR_FORMAT, "%s: %zu bytes cannot hold %llu x %llu pixels: truncated", name,
                            n_bytes, (unsigned long long)width, (unsigned long long)height);
    return KINDIT_OK;
}

KinditStatus image_alloc(Image *out, KinditContext *ctx, int width, int height, int channels) {
    *out = (Image){0};
    if (width < 1 || height < 1 || width > IMAGE_MAX_SIDE || height > IMAGE_MAX_SIDE ||
        (channels != 1 && channels != 3 && channels != 4))
        return context_fail(ctx, KINDIT_ERROR_ARGUMENT, "a picture of %d x %d pixels and %d channels cannot be", width,
                            height, channels);
    TRY(memory_alloc(ctx, (size_t)width * (size_t)height, (size_t)channels, &out->pixels));
    out->width = width;
    out->height = height;
    out->channels = channels;
    return KINDIT_OK;
}

void image_close(Image *image) {
    memory_free(&image->pixels);
    *image = (Image){0};
}

// Rec. 601 luma in 16-bit fixed point, as PIL rounds it.
static uint8_t luma(const uint8_t rgb[3]) {
    return (uint8_t)((rgb[0] * 19595u + rgb[1] * 38470u + rgb[2] * 7471u + 0x8000u) >> 16);
}

KinditStatus image_convert(Image *image, KinditContext *ctx, int channels, uint8_t background) {
    if (channels != 1 && channels != 3)
        return context_fail(ctx, KINDIT_ERROR_ARGUMENT, "cannot convert a picture to %d channels, only 1 or 3",
                            channels);
    if (image->channels == channels) return KINDIT_OK;
    Image converted;
    TRY(image_alloc(&converted, ctx, image->width, image->height, channels));
    size_t n_pixels = (size_t)image->width * (size_t)image->height;
    for (size_t i = 0; i < n_pixels; i++) {
        const uint8_t *in = image->pixels + i * (size_t)image->channels;
        uint8_t rgb[3];
        for (int c = 0; c < 3; c++) {
            unsigned alpha = image->channels == 4 ? in[3] : 255;
            rgb[c] = (uint8_t)((in[image->channels == 1 ? 0 : c] * alpha + background * (255 - alpha) + 127) / 255);
        }
        if (channels == 1)
            converted.pixels[i] = luma(rgb);
        else
            memcpy(converted.pixels + 3 * i, rgb, 3);
    }
    image_close(image);
    *image = converted;
    return KINDIT_OK;
}

KinditStatus image_write_png(KinditContext *ctx, const char *path, const Image *image) {
    uint8_t *data;
    size_t size;
    TRY(image_encode_png(&data, &size, ctx, image));
    KinditStatus status = file_write(ctx, path, data, size);
    memory_free(&data);
    return status;
}
