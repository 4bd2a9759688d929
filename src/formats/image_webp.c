#include <webp/decode.h>

#include "formats/image_codecs.h"

KinditStatus image_decode_webp(Image *out, KinditContext *ctx, const char *name, const uint8_t *data, size_t size) {
    WebPBitstreamFeatures features;
    if (WebPGetFeatures(data, size, &features) != VP8_STATUS_OK)
        return context_fail(ctx, KINDIT_ERROR_FORMAT, "%s: corrupt WebP: bad header", name);
    if (features.has_animation)
        return context_fail(ctx, KINDIT_ERROR_UNSUPPORTED, "%s: an animated WebP; expected a still picture", name);
    TRY(image_alloc(out, ctx, features.width, features.height, features.has_alpha ? 4 : 3));
    int stride = out->width * out->channels;
    size_t n_bytes = (size_t)stride * (size_t)out->height;
    const uint8_t *decoded = features.has_alpha ? WebPDecodeRGBAInto(data, size, out->pixels, n_bytes, stride)
                                                : WebPDecodeRGBInto(data, size, out->pixels, n_bytes, stride);
    return decoded ? KINDIT_OK : context_fail(ctx, KINDIT_ERROR_FORMAT, "%s: corrupt or truncated WebP", name);
}
