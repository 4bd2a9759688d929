// Pictures resized: equal to PIL under ADM's centre crop.
#include "data/resize.h"
#include "formats/npy.h"
#include "scratch.h"

static Image image_of(KinditContext *ctx, const Tensor *array) {
    Image image;
    assert_int_equal(array->n_dims, 3);
    assert_ok(ctx, image_alloc(&image, ctx, (int)array->shape[1], (int)array->shape[0], (int)array->shape[2]));
    memcpy(image.pixels, array->data, array->n_bytes);
    return image;
}

static void test_center_crop_equals_pil(void **state) {
    Scratch *scratch = *state;
    KinditContext *ctx = scratch->ctx;
    for (int i = 0; i < 8; i++) {
        char in_name[16], out_name[16];
        Npy in, out;
        snprintf(in_name, sizeof in_name, "in_%d", i);
        snprintf(out_name, sizeof out_name, "out_%d", i);
        assert_ok(ctx, npz_read(&in, ctx, scratch_golden(scratch, "data/resize.npz"), in_name));
        assert_ok(ctx, npz_read(&out, ctx, scratch_golden(scratch, "data/resize.npz"), out_name));
        Image image = image_of(ctx, &in.array);
        assert_ok(ctx, resize_center_crop(&image, ctx, (int)out.array.shape[0]));
        assert_int_equal(image.width, out.array.shape[0]);
        assert_int_equal(image.height, out.array.shape[0]);
        assert_memory_equal(image.pixels, out.array.data, out.array.n_bytes);
        image_close(&image);
        npy_close(&in);
        npy_close(&out);
    }
}

static void test_box_halving_is_the_mean(void **state) {
    Scratch *scratch = *state;
    Image image;
    assert_ok(scratch->ctx, image_alloc(&image, scratch->ctx, 4, 2, 1));
    memcpy(image.pixels, (uint8_t[]){0, 10, 200, 100, 20, 30, 0, 100}, 8);
    assert_ok(scratch->ctx, resize_image(&image, scratch->ctx, 2, 1, RESIZE_BOX));
    assert_int_equal(image.pixels[0], 15);
    assert_int_equal(image.pixels[1], 100);
    image_close(&image);
}

// A flat picture stays flat whatever the filter and scale: weights sum to one.
static void test_flat_stays_flat(void **state) {
    Scratch *scratch = *state;
    const int sides[] = {1, 3, 17, 64, 99};
    for (size_t s = 0; s < 5; s++)
        for (int filter = 0; filter < 2; filter++) {
            Image image;
            assert_ok(scratch->ctx, image_alloc(&image, scratch->ctx, 31, 9, 3));
            memset(image.pixels, 201, 31 * 9 * 3);
            assert_ok(scratch->ctx, resize_image(&image, scratch->ctx, sides[s], 7, (ResizeFilter)filter));
            assert_int_equal(image.width, sides[s]);
            assert_int_equal(image.height, 7);
            for (int i = 0; i < sides[s] * 7 * 3; i++) assert_int_equal(image.pixels[i], 201);
            image_close(&image);
        }
}

static void test_impossible_sizes(void **state) {
    Scratch *scratch = *state;
    Image image;
    assert_ok(scratch->ctx, image_alloc(&image, scratch->ctx, 16000, 2, 1));
    assert_fails(scratch->ctx, resize_image(&image, scratch->ctx, 0, 4, RESIZE_BOX), KINDIT_ERROR_ARGUMENT, "0 x 4");
    assert_fails(scratch->ctx, resize_center_crop(&image, scratch->ctx, 0), KINDIT_ERROR_ARGUMENT, "0 pixels");
    assert_fails(scratch->ctx, resize_center_crop(&image, scratch->ctx, 64), KINDIT_ERROR_UNSUPPORTED, "16000 x 2");
    image_close(&image);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        scratch_test(test_center_crop_equals_pil),
        scratch_test(test_box_halving_is_the_mean),
        scratch_test(test_flat_stays_flat),
        scratch_test(test_impossible_sizes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
