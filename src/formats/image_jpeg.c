#include <setjmp.h>
#include <stdio.h>

#include <jpeglib.h>

#include <jerror.h>

#include "formats/image_codecs.h"

// A hostile progressive file can hold thousands of scans, each a pass over all pixels; honest encoders use about ten.
enum { MAX_SCANS = 100 };

// All state of a decoding lives here and not in local variables, which longjmp may clobber.
typedef struct Decoder {
    struct jpeg_decompress_struct jpeg;
    struct jpeg_error_mgr errors;
    struct jpeg_progress_mgr progress;
    jmp_buf escape;
    Image *out;
    KinditContext *ctx;
    const char *name;
    size_t size;
    KinditStatus status;
} Decoder;

static void on_error(j_common_ptr jpeg) {
    Decoder *decoder = jpeg->client_data;
    char message[JMSG_LENGTH_MAX];
    jpeg->err->format_message(jpeg, message);
    decoder->status = context_fail(decoder->ctx, KINDIT_ERROR_FORMAT, "%s: corrupt JPEG: %s", decoder->name, message);
    longjmp(decoder->escape, 1);
}

// libjpeg paints grey over what it cannot read and only warns; such a picture is refused.
static void on_message(j_common_ptr jpeg, int level) {
    static const int pixels_missing[] = {JWRN_HIT_MARKER,     JWRN_JPEG_EOF,    JWRN_HUFF_BAD_CODE,
                                         JWRN_ARITH_BAD_CODE, JWRN_MUST_RESYNC, JWRN_NOT_SEQUENTIAL};
    for (size_t i = 0; level < 0 && i < sizeof pixels_missing / sizeof *pixels_missing; i++)
        if (jpeg->err->msg_code == pixels_missing[i]) on_error(jpeg);
}

static void on_progress(j_common_ptr jpeg) {
    Decoder *decoder = jpeg->client_data;
    if (decoder->jpeg.input_scan_number <= MAX_SCANS) return;
    decoder->status = context_fail(decoder->ctx, KINDIT_ERROR_UNSUPPORTED, "%s: a JPEG of more than %d scans",
                                   decoder->name, MAX_SCANS);
    longjmp(decoder->escape, 1);
}

static void decode(Decoder *d, const uint8_t *data) {
    if (setjmp(d->escape)) return;
    jpeg_create_decompress(&d->jpeg);
    d->jpeg.progress = &d->progress;
    jpeg_mem_src(&d->jpeg, data, d->size);
    jpeg_read_header(&d->jpeg, TRUE);
    d->status = image_check_size(d->ctx, d->name, d->jpeg.image_width, d->jpeg.image_height, d->size);
    if (d->status) return;
    if (d->jpeg.num_components != 1 && d->jpeg.num_components != 3) {
        d->status =
            context_fail(d->ctx, KINDIT_ERROR_UNSUPPORTED, "%s: expected a grey or RGB JPEG, found %d components",
                         d->name, d->jpeg.num_components);
        return;
    }
    d->jpeg.out_color_space = d->jpeg.num_components == 1 ? JCS_GRAYSCALE : JCS_RGB;
    jpeg_start_decompress(&d->jpeg);
    d->status =
        image_alloc(d->out, d->ctx, (int)d->jpeg.output_width, (int)d->jpeg.output_height, d->jpeg.output_components);
    if (d->status) return;
    while (d->jpeg.output_scanline < d->jpeg.output_height) {
        size_t row_size = (size_t)d->out->width * (size_t)d->out->channels;
        JSAMPROW row = d->out->pixels + d->jpeg.output_scanline * row_size;
        jpeg_read_scanlines(&d->jpeg, &row, 1);
    }
    jpeg_finish_decompress(&d->jpeg);
}

KinditStatus image_decode_jpeg(Image *out, KinditContext *ctx, const char *name, const uint8_t *data, size_t size) {
    Decoder decoder = {.out = out, .ctx = ctx, .name = name, .size = size};
    decoder.jpeg.err = jpeg_std_error(&decoder.errors);
    decoder.jpeg.client_data = &decoder;
    decoder.errors.error_exit = on_error;
    decoder.errors.emit_message = on_message;
    decoder.progress.progress_monitor = on_progress;
    decode(&decoder, data);
    jpeg_destroy_decompress(&decoder.jpeg);
    return decoder.status;
}
