#include "data/resize.h"

#include <math.h>
#include <string.h>

#include "base/memory.h"

// PIL's fixed point: 8 bits of pixel, 2 of headroom for the overshoot of negative lobes, the rest of 32 for the weight.
enum { WEIGHT_BITS = 32 - 8 - 2 };

// For each output position, the input positions it reads and their weights.
typedef struct Kernel {
    int width;        // weights held per output position
    int *first, *n;   // [out]
    int32_t *weights; // (out, width)
} Kernel;

static double filter_box(double x) {
    return x > -0.5 && x <= 0.5 ? 1.0 : 0.0;
}

static double filter_bicubic(double x) { // Keys, a = -0.5
    x = fabs(x);
    if (x < 1.0) return (1.5 * x - 2.5) * x * x + 1.0;
    if (x < 2.0) return (((x - 5.0) * x + 8.0) * x - 4.0) * -0.5;
    return 0.0;
}

static void kernel_close(Kernel *kernel) {
    memory_free(&kernel->first);
    memory_free(&kernel->n);
    memory_free(&kernel->weights);
}

static void kernel_fill(Kernel *kernel, int in, int out, double (*filter)(double), double support, double scale,
                        double *row) {
    double stretch = scale < 1.0 ? 1.0 : scale; // of the filter when shrinking: that is the antialiasing
    for (int i = 0; i < out; i++) {
        double center = (i + 0.5) * scale, sum = 0.0;
        int first = (int)(center - support + 0.5), end = (int)(center + support + 0.5);
        if (first < 0) first = 0;
        if (end > in) end = in;
        for (int j = first; j < end; j++) sum += row[j - first] = filter((j - center + 0.5) * (1.0 / stretch));
        for (int j = 0; j < end - first; j++) {
            double weight = row[j] / sum * (1 << WEIGHT_BITS);
            kernel->weights[(size_t)i * (size_t)kernel->width + (size_t)j] =
                (int32_t)(weight < 0 ? weight - 0.5 : weight + 0.5);
        }
        kernel->first[i] = first;
        kernel->n[i] = end - first;
    }
}

static KinditStatus kernel_create(Kernel *out, KinditContext *ctx, int n_in, int n_out, ResizeFilter filter) {
    *out = (Kernel){0};
    double scale = (double)n_in / n_out;
    double support = (filter == RESIZE_BOX ? 0.5 : 2.0) * (scale < 1.0 ? 1.0 : scale);
    out->width = (int)ceil(support) * 2 + 1;
    size_t n_weights;
    double *row = NULL;
    KinditStatus status = KINDIT_OK;
    if (!memory_multiply((size_t)n_out, (size_t)out->width, &n_weights))
        status = context_fail(ctx, KINDIT_ERROR_MEMORY, "resizing %d to %d pixels overflows", n_in, n_out);
    if (!status) status = memory_alloc(ctx, (size_t)n_out, sizeof *out->first, &out->first);
    if (!status) status = memory_alloc(ctx, (size_t)n_out, sizeof *out->n, &out->n);
    if (!status) status = memory_alloc(ctx, n_weights, sizeof *out->weights, &out->weights);
    if (!status) status = memory_alloc(ctx, (size_t)out->width, sizeof *row, &row);
    if (!status) kernel_fill(out, n_in, n_out, filter == RESIZE_BOX ? filter_box : filter_bicubic, support, scale, row);
    memory_free(&row);
    if (status) kernel_close(out);
    return status;
}

// One pass: output position i of each of `lines` lines. Pixels of a line lie `step` bytes apart, lines `line_step`;
// along the other axis nothing moves, so that one function serves both directions.
static void apply_kernel(const Kernel *kernel, int n_out, int lines, int channels, const uint8_t *in, size_t in_step,
                         size_t in_line, uint8_t *out, size_t out_step, size_t out_line) {
    for (int line = 0; line < lines; line++)
        for (int i = 0; i < n_out; i++) {
            const int32_t *weights = kernel->weights + (size_t)i * (size_t)kernel->width;
            const uint8_t *source = in + (size_t)line * in_line + (size_t)kernel->first[i] * in_step;
            for (int c = 0; c < channels; c++) {
                int32_t sum = 1 << (WEIGHT_BITS - 1);
                for (int j = 0; j < kernel->n[i]; j++) sum += source[(size_t)j * in_step + (size_t)c] * weights[j];
                int32_t value = sum >> WEIGHT_BITS;
                out[(size_t)line * out_line + (size_t)i * out_step + (size_t)c] = (uint8_t)(value < 0     ? 0
                                                                                            : value > 255 ? 255
                                                                                                          : value);
            }
        }
}

static KinditStatus resize_axis(Image *image, KinditContext *ctx, bool vertical, int n_out, ResizeFilter filter) {
    int n_in = vertical ? image->height : image->width;
    if (n_in == n_out) return KINDIT_OK;
    Image result = {0};
    Kernel kernel;
    TRY(kernel_create(&kernel, ctx, n_in, n_out, filter));
    KinditStatus status =
        image_alloc(&result, ctx, vertical ? image->width : n_out, vertical ? n_out : image->height, image->channels);
    if (!status) {
        size_t pixel = (size_t)image->channels, in_row = (size_t)image->width * pixel,
               out_row = (size_t)result.width * pixel;
        if (vertical)
            apply_kernel(&kernel, n_out, image->width, image->channels, image->pixels, in_row, pixel, result.pixels,
                         out_row, pixel);
        else
            apply_kernel(&kernel, n_out, image->height, image->channels, image->pixels, pixel, in_row, result.pixels,
                         pixel, out_row);
        image_close(image);
        *image = result;
    }
    kernel_close(&kernel);
    return status;
}

KinditStatus resize_image(Image *image, KinditContext *ctx, int width, int height, ResizeFilter filter) {
    if (width < 1 || height < 1)
        return context_fail(ctx, KINDIT_ERROR_ARGUMENT, "cannot resize to %d x %d pixels", width, height);
    TRY(resize_axis(image, ctx, false, width, filter)); // PIL's order: the rounding between the passes depends on it
    return resize_axis(image, ctx, true, height, filter);
}

static KinditStatus crop_center(Image *image, KinditContext *ctx, int size) {
    if (image->width == size && image->height == size) return KINDIT_OK;
    Image result;
    TRY(image_alloc(&result, ctx, size, size, image->channels));
    int left = (image->width - size) / 2, top = (image->height - size) / 2;
    size_t pixel = (size_t)image->channels, row = (size_t)image->width * pixel, bytes = (size_t)size * pixel;
    for (int y = 0; y < size; y++)
        memcpy(result.pixels + (size_t)y * bytes, image->pixels + (size_t)(top + y) * row + (size_t)left * pixel,
               bytes);
    image_close(image);
    *image = result;
    return KINDIT_OK;
}

static int shorter_side(const Image *image) {
    return image->width < image->height ? image->width : image->height;
}

KinditStatus resize_center_crop(Image *image, KinditContext *ctx, int size) {
    if (size < 1 || size > IMAGE_MAX_SIDE)
        return context_fail(ctx, KINDIT_ERROR_ARGUMENT, "cannot crop to %d pixels: expected 1..%d", size,
                            IMAGE_MAX_SIDE);
    while (shorter_side(image) / 2 >= size)
        TRY(resize_image(image, ctx, image->width / 2, image->height / 2, RESIZE_BOX));
    double scale = (double)size / shorter_side(image);
    double width = nearbyint(image->width * scale),
           height = nearbyint(image->height * scale); // to even, as Python's round
    if (width > IMAGE_MAX_SIDE || height > IMAGE_MAX_SIDE)
        return context_fail(ctx, KINDIT_ERROR_UNSUPPORTED, "a picture of %d x %d is too long to crop to %d pixels",
                            image->width, image->height, size);
    TRY(resize_image(image, ctx, (int)width, (int)height, RESIZE_BICUBIC));
    return crop_center(image, ctx, size);
}
