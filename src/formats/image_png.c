#include <png.h>
#include <string.h>

#include "base/memory.h"
#include "formats/image_codecs.h"

// All state of a decoding lives here and not in local variables, which longjmp may clobber.
typedef struct Decoder {
    Image *out;
    KinditContext *ctx;
    const char *name;
    const uint8_t *data;
    size_t size, position;
    KinditStatus status;
    png_structp png;
    png_infop info;
    png_bytepp rows;
} Decoder;

static void on_error(png_structp png, png_const_charp message) {
    Decoder *decoder = png_get_error_ptr(png);
    if (!decoder->status)
        decoder->status =
            context_fail(decoder->ctx, KINDIT_ERROR_FORMAT, "%s: corrupt PNG: %s", decoder->name, message);
    png_longjmp(png, 1);
}

static void on_warning(png_structp png, png_const_charp message) {
    (void)png, (void)message;
}

static void read_bytes(png_structp png, png_bytep out, size_t n) {
    Decoder *decoder = png_get_io_ptr(png);
    if (n > decoder->size - decoder->position) png_error(png, "truncated");
    memcpy(out, decoder->data + decoder->position, n);
    decoder->position += n;
}

// Everything becomes 8-bit grey, RGB or RGBA.
static void choose_transforms(png_structp png, png_infop info) {
    png_set_expand(png); // palettes, fewer than 8 bits, transparent colours
    png_set_scale_16(png);
    bool has_alpha = (png_get_color_type(png, info) & PNG_COLOR_MASK_ALPHA) || png_get_valid(png, info, PNG_INFO_tRNS);
    if (has_alpha) png_set_gray_to_rgb(png);
    png_set_interlace_handling(png);
    png_read_update_info(png, info);
}

static void decode(Decoder *d) {
    if (setjmp(png_jmpbuf(d->png))) return;
    png_set_read_fn(d->png, d, read_bytes);
    png_set_user_limits(d->png, IMAGE_MAX_SIDE, IMAGE_MAX_SIDE);
    png_read_info(d->png, d->info);
    png_uint_32 width = png_get_image_width(d->png, d->info), height = png_get_image_height(d->png, d->info);
    d->status = image_check_size(d->ctx, d->name, width, height, d->size);
    if (d->status) return;
    choose_transforms(d->png, d->info);
    int channels = png_get_channels(d->png, d->info);
    d->status = image_alloc(d->out, d->ctx, (int)width, (int)height, channels);
    if (!d->status) d->status = memory_alloc(d->ctx, height, sizeof *d->rows, &d->rows);
    if (d->status) return;
    for (size_t y = 0; y < height; y++) d->rows[y] = d->out->pixels + y * width * (size_t)channels;
    png_read_image(d->png, d->rows);
    png_read_end(d->png, NULL);
}

KinditStatus image_decode_png(Image *out, KinditContext *ctx, const char *name, const uint8_t *data, size_t size) {
    Decoder decoder = {.out = out, .ctx = ctx, .name = name, .data = data, .size = size};
    decoder.png = png_create_read_struct(PNG_LIBPNG_VER_STRING, &decoder, on_error, on_warning);
    decoder.info = decoder.png ? png_create_info_struct(decoder.png) : NULL;
    if (decoder.info)
        decode(&decoder);
    else
        decoder.status = context_fail(ctx, KINDIT_ERROR_MEMORY, "%s: out of memory for libpng", name);
    png_destroy_read_struct(&decoder.png, &decoder.info, NULL);
    memory_free(&decoder.rows);
    return decoder.status;
}

KinditStatus image_encode_png(uint8_t **out, size_t *size, KinditContext *ctx, const Image *image) {
    *out = NULL;
    if (image->channels != 1 && image->channels != 3 && image->channels != 4)
        return context_fail(ctx, KINDIT_ERROR_ARGUMENT, "a PNG has 1, 3 or 4 channels, not %d", image->channels);
    png_image png = {.version = PNG_IMAGE_VERSION,
                     .width = (png_uint_32)image->width,
                     .height = (png_uint_32)image->height,
                     .format = image->channels == 1   ? PNG_FORMAT_GRAY
                               : image->channels == 3 ? PNG_FORMAT_RGB
                                                      : PNG_FORMAT_RGBA};
    png_alloc_size_t capacity = PNG_IMAGE_PNG_SIZE_MAX(png);
    TRY(memory_alloc(ctx, capacity, 1, out));
    if (png_image_write_to_memory(&png, *out, &capacity, 0, image->pixels, 0, NULL)) {
        *size = capacity;
        return KINDIT_OK;
    }
    memory_free(out);
    return context_fail(ctx, KINDIT_ERROR_MEMORY, "cannot encode a PNG of %d x %d: %s", image->width, image->height,
                        png.message);
}
