#include "vision/profile.h"

#include <string.h>

#include "base/memory.h"
#include "data/resize.h"

static const char *const names[PROFILE_COUNT] = {"adm", "pytorch-fid", "dgm-eval", "native"};

const char *profile_name(VisionProfile profile) {
    return names[profile];
}

KinditStatus profile_parse(VisionProfile *out, KinditContext *ctx, const char *name) {
    for (int i = 0; i < PROFILE_COUNT; i++)
        if (strcmp(names[i], name) == 0) {
            *out = (VisionProfile)i;
            return KINDIT_OK;
        }
    return context_fail(ctx, KINDIT_ERROR_ARGUMENT,
                        "profile: expected adm, pytorch-fid, dgm-eval or native, found \"%.60s\"", name);
}

// One picture on its way into a network. A grey one is read again for each channel.
typedef struct Picture {
    const uint8_t *pixels; // (height, width, channels)
    int height, width, channels;
    int size, out_channels; // wanted
} Picture;

static const uint8_t *plane_of(const Picture *picture, int channel) {
    return picture->pixels + (picture->channels > 1 ? channel : 0);
}

// ---- bilinear resizing, the two ways -------------------------------------------------------------------------------

// Where along an axis an output position reads: (1 - part) * [low] + part * [high].
typedef struct Tap {
    int low, high;
    float part;
} Tap;

// Half-pixel centres: output i lies at (i + 1/2) * scale - 1/2 of the input, as PyTorch has it; without them at
// i * scale, as TensorFlow 1 has it. In single precision, as both do.
static void set_taps(Tap *taps, int n_in, int n_out, bool half_pixel) {
    float scale = (float)n_in / (float)n_out;
    for (int i = 0; i < n_out; i++) {
        float at = half_pixel ? ((float)i + 0.5f) * scale - 0.5f : (float)i * scale;
        if (at < 0) at = 0;
        int low = (int)at;
        if (low > n_in - 1) low = n_in - 1;
        taps[i] = (Tap){.low = low, .high = low < n_in - 1 ? low + 1 : low, .part = at - (float)low};
    }
}

// The pixels count in `unit`s; what lies between four of them comes out times `scale` less 1.
static void resize_plane(const Picture *picture, int channel, const Tap *across, const Tap *down, float unit,
                         float scale, float *out) {
    size_t pixel = (size_t)picture->channels, row = pixel * (size_t)picture->width;
    for (int y = 0; y < picture->size; y++) {
        const uint8_t *top = plane_of(picture, channel) + (size_t)down[y].low * row;
        const uint8_t *bottom = plane_of(picture, channel) + (size_t)down[y].high * row;
        for (int x = 0; x < picture->size; x++, out++) {
            size_t left = (size_t)across[x].low * pixel, right = (size_t)across[x].high * pixel;
            float a = (float)top[left] / unit, b = (float)bottom[left] / unit;
            a += ((float)top[right] / unit - a) * across[x].part;
            b += ((float)bottom[right] / unit - b) * across[x].part;
            *out = (a + (b - a) * down[y].part) * scale - 1.0f;
        }
    }
}

static KinditStatus apply_bilinear(KinditContext *ctx, const Picture *picture, bool half_pixel, float unit, float scale,
                                   float *out) {
    Tap *across = NULL, *down = NULL;
    size_t side = (size_t)picture->size;
    KinditStatus status = memory_alloc(ctx, side, sizeof *across, &across);
    if (!status) status = memory_alloc(ctx, side, sizeof *down, &down);
    if (!status) {
        set_taps(across, picture->width, picture->size, half_pixel);
        set_taps(down, picture->height, picture->size, half_pixel);
        for (int c = 0; c < picture->out_channels; c++)
            resize_plane(picture, c, across, down, unit, scale, out + (size_t)c * side * side);
    }
    memory_free(&across);
    memory_free(&down);
    return status;
}

// ---- without resizing, or with Pillow's ----------------------------------------------------------------------------

// A picture of the size wanted: (H, W, C) to (C, H, W), x as (x / unit - mean[c]) / deviation[c].
static void spread(const Picture *picture, float unit, const float *mean, const float *deviation, float *out) {
    size_t n = (size_t)picture->size * (size_t)picture->size, pixel = (size_t)picture->channels;
    for (int c = 0; c < picture->out_channels; c++, out += n) {
        const uint8_t *plane = plane_of(picture, c);
        for (size_t i = 0; i < n; i++) out[i] = ((float)plane[i * pixel] / unit - mean[c]) / deviation[c];
    }
}

static KinditStatus apply_dgm_eval(KinditContext *ctx, const Picture *picture, float *out) {
    static const float mean[3] = {0.485f, 0.456f, 0.406f}, deviation[3] = {0.229f, 0.224f, 0.225f}; // ImageNet's
    Image image;
    if (picture->out_channels != 3)
        return context_fail(ctx, KINDIT_ERROR_ARGUMENT,
                            "the profile dgm-eval is of coloured networks: expected one "
                            "that reads 3 channels, found %d",
                            picture->out_channels);
    TRY(image_alloc(&image, ctx, picture->width, picture->height, picture->channels));
    memcpy(image.pixels, picture->pixels, (size_t)image.width * (size_t)image.height * (size_t)image.channels);
    KinditStatus status = resize_image(&image, ctx, picture->size, picture->size, RESIZE_BICUBIC);
    if (!status) {
        Picture resized = *picture;
        resized.pixels = image.pixels;
        spread(&resized, 255.0f, mean, deviation, out);
    }
    image_close(&image);
    return status;
}

static KinditStatus apply_native(KinditContext *ctx, const Picture *picture, float *out) {
    static const float one[3] = {1.0f, 1.0f, 1.0f};
    if (picture->width != picture->size || picture->height != picture->size)
        return context_fail(ctx, KINDIT_ERROR_ARGUMENT,
                            "the profile native does not resize: expected %d x %d pixels, found %d x %d", picture->size,
                            picture->size, picture->width, picture->height);
    spread(picture, 127.5f, one, one, out);
    return KINDIT_OK;
}

KinditStatus profile_apply(VisionProfile profile, KinditContext *ctx, const uint8_t *pixels, int height, int width,
                           int channels, int size, int out_channels, float *out) {
    Picture picture = {pixels, height, width, channels, size, out_channels};
    if (height < 1 || width < 1 || height > IMAGE_MAX_SIDE || width > IMAGE_MAX_SIDE)
        return context_fail(ctx, KINDIT_ERROR_ARGUMENT, "a picture of %d x %d pixels: expected sides of 1 to %d", width,
                            height, IMAGE_MAX_SIDE);
    if ((channels != 1 && channels != 3) || (channels == 3 && out_channels != 3))
        return context_fail(ctx, KINDIT_ERROR_ARGUMENT,
                            "the network reads %d channels, the picture has %d: convert the pictures first",
                            out_channels, channels);
    switch (profile) {
    case PROFILE_ADM: return apply_bilinear(ctx, &picture, false, 1.0f, 1.0f / 128.0f, out);
    case PROFILE_PYTORCH_FID: return apply_bilinear(ctx, &picture, true, 255.0f, 2.0f, out);
    case PROFILE_DGM_EVAL: return apply_dgm_eval(ctx, &picture, out);
    default: return apply_native(ctx, &picture, out);
    }
}
