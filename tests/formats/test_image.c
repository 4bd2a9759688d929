#include "formats/image.h"
#include "formats/npy.h"
#include "scratch.h"

// The decoded golden picture against the pixels PIL saw (the .npy beside it).
static void compare(Scratch *scratch, const char *name, int channels, int tolerance) {
    char path[64];
    Image image;
    snprintf(path, sizeof path, "formats/%s", name);
    assert_ok(scratch->ctx, image_read(&image, scratch->ctx, scratch_golden(scratch, path)));
    assert_true(image.width == 17 && image.height == 13 && image.channels == channels);
    Npy expected;
    snprintf(path, sizeof path, "formats/%s.npy", name);
    assert_ok(scratch->ctx, npy_open(&expected, scratch->ctx, scratch_golden(scratch, path)));
    assert_int_equal(expected.array.n_bytes, 17 * 13 * channels);
    const uint8_t *pixels = expected.array.data;
    for (int i = 0; i < 17 * 13 * channels; i++)
        if (abs(image.pixels[i] - pixels[i]) > tolerance)
            fail_msg("%s: byte %d: expected %d, found %d", name, i, pixels[i], image.pixels[i]);
    npy_close(&expected);
    image_close(&image);
}

static void test_pictures_read_as_pil_reads_them(void **state) {
    compare(*state, "rgb.png", 3, 0);
    compare(*state, "grey.png", 1, 0);
    compare(*state, "one_bit.png", 1, 0);
    compare(*state, "palette.png", 3, 0);
    compare(*state, "palette_alpha.png", 4, 0);
    compare(*state, "rgba.png", 4, 0);
    compare(*state, "grey_alpha.png", 4, 0);
    compare(*state, "grey16.png", 1, 0);
    compare(*state, "interlaced.png", 3, 0);
    compare(*state, "grey.jpg", 1, 1); // decoders may round differently
    compare(*state, "rgb.jpg", 3, 2);
    compare(*state, "progressive.jpg", 3, 2);
    compare(*state, "lossless.webp", 3, 0);
    compare(*state, "alpha.webp", 4, 0);
    compare(*state, "lossy.webp", 3, 2);
}

static void test_unsupported_pictures(void **state) {
    Scratch *scratch = *state;
    Image image;
    assert_fails(scratch->ctx, image_read(&image, scratch->ctx, scratch_golden(scratch, "formats/cmyk.jpg")),
                 KINDIT_ERROR_UNSUPPORTED, "4 components");
    assert_fails(scratch->ctx, image_read(&image, scratch->ctx, scratch_golden(scratch, "formats/animated.webp")),
                 KINDIT_ERROR_UNSUPPORTED, "animated");
    assert_fails(scratch->ctx, image_read(&image, scratch->ctx, scratch_golden(scratch, "formats/f4.npy")),
                 KINDIT_ERROR_FORMAT, "expected a PNG, JPEG or WebP");
    assert_null(image.pixels);
}

static KinditStatus parse_copy(KinditContext *ctx, const uint8_t *data, size_t size) {
    uint8_t *copy = malloc(size ? size : 1); // of the exact size, so that ASan sees any overread
    memcpy(copy, data, size);
    Image image;
    KinditStatus status = image_parse(&image, ctx, "picture", copy, size);
    assert_true((status == KINDIT_OK) == (image.pixels != NULL));
    image_close(&image);
    free(copy);
    return status;
}

static void test_truncated_and_damaged_pictures(void **state) {
    Scratch *scratch = *state;
    const char *names[] = {"rgb.png",  "interlaced.png", "palette_alpha.png", "rgb.jpg",   "progressive.jpg",
                           "grey.jpg", "lossless.webp",  "lossy.webp",        "alpha.webp"};
    for (size_t k = 0; k < sizeof names / sizeof *names; k++) {
        char path[64];
        snprintf(path, sizeof path, "formats/%s", names[k]);
        FileMap map;
        assert_ok(scratch->ctx, file_map(&map, scratch->ctx, scratch_golden(scratch, path)));
        assert_ok(scratch->ctx, parse_copy(scratch->ctx, map.data, map.size));
        for (size_t size = 0; size < map.size; size++)
            if (parse_copy(scratch->ctx, map.data, size) == KINDIT_OK)
                fail_msg("%s: the first %zu of %zu bytes were accepted", names[k], size, map.size);
        uint8_t *copy = malloc(map.size);
        int n_refused = 0;
        for (size_t i = 0; i < map.size; i++) { // any outcome but a crash; most are noticed
            memcpy(copy, map.data, map.size);
            copy[i] ^= 0xff;
            n_refused += parse_copy(scratch->ctx, copy, map.size) != KINDIT_OK;
        }
        assert_true(n_refused > 12);
        free(copy);
        file_unmap(&map);
    }
}

// A header may claim any size; pictures too large, or too large for their file, are refused before memory is taken.
static void test_claimed_sizes(void **state) {
    Scratch *scratch = *state;
    FileMap map;
    assert_ok(scratch->ctx, file_map(&map, scratch->ctx, scratch_golden(scratch, "formats/rgb.jpg")));
    uint8_t *copy = malloc(map.size);
    memcpy(copy, map.data, map.size);
    size_t frame = 0;
    for (size_t i = 0; i + 9 < map.size && !frame; i++)
        if (copy[i] == 0xff && copy[i + 1] == 0xc0) frame = i;
    assert_true(frame > 0);
    memcpy(copy + frame + 5, "\x40\x00\x40\x00", 4); // 16384 x 16384
    assert_fails(scratch->ctx, parse_copy(scratch->ctx, copy, map.size), KINDIT_ERROR_FORMAT, "cannot hold");
    memcpy(copy + frame + 5, "\x40\x01\x00\x10", 4); // 16385 high
    assert_fails(scratch->ctx, parse_copy(scratch->ctx, copy, map.size), KINDIT_ERROR_UNSUPPORTED, "1 to 16384");
    free(copy);
    file_unmap(&map);
    Image image;
    assert_int_equal(image_alloc(&image, scratch->ctx, 0, 5, 3), KINDIT_ERROR_ARGUMENT);
    assert_int_equal(image_alloc(&image, scratch->ctx, IMAGE_MAX_SIDE + 1, 5, 3), KINDIT_ERROR_ARGUMENT);
    assert_int_equal(image_alloc(&image, scratch->ctx, 5, 5, 2), KINDIT_ERROR_ARGUMENT);
}

static void test_png_round_trip(void **state) {
    Scratch *scratch = *state;
    const char *path = scratch_path(scratch, "out.png");
    const int channels[] = {1, 3, 4};
    for (int k = 0; k < 3; k++) {
        Image image, again;
        assert_ok(scratch->ctx, image_alloc(&image, scratch->ctx, 31, 7, channels[k]));
        size_t n_bytes = 31 * 7 * (size_t)channels[k];
        for (size_t i = 0; i < n_bytes; i++) image.pixels[i] = (uint8_t)(i * 2654435761u >> 13);
        assert_ok(scratch->ctx, image_write_png(scratch->ctx, path, &image));
        assert_ok(scratch->ctx, image_read(&again, scratch->ctx, path));
        assert_true(again.width == 31 && again.height == 7 && again.channels == channels[k]);
        assert_memory_equal(again.pixels, image.pixels, n_bytes);
        image_close(&image);
        image_close(&again);
    }
    Image grey;
    assert_ok(scratch->ctx, image_alloc(&grey, scratch->ctx, 2, 2, 1));
    assert_int_equal(image_write_png(scratch->ctx, "/nonexistent/a.png", &grey), KINDIT_ERROR_IO);
    image_close(&grey);
}

static void test_convert(void **state) {
    Scratch *scratch = *state;
    Image image;
    Npy luma;
    assert_ok(scratch->ctx, image_read(&image, scratch->ctx, scratch_golden(scratch, "formats/rgb.png")));
    assert_ok(scratch->ctx, image_convert(&image, scratch->ctx, 1, 0));
    assert_ok(scratch->ctx, npy_open(&luma, scratch->ctx, scratch_golden(scratch, "formats/luma.npy")));
    assert_memory_equal(image.pixels, luma.array.data, 17 * 13);
    npy_close(&luma);
    assert_ok(scratch->ctx, image_convert(&image, scratch->ctx, 3, 0));
    assert_true(image.channels == 3 && image.pixels[3] == image.pixels[4] && image.pixels[4] == image.pixels[5]);
    assert_int_equal(image_convert(&image, scratch->ctx, 4, 0), KINDIT_ERROR_ARGUMENT);
    image_close(&image);
    assert_ok(scratch->ctx, image_alloc(&image, scratch->ctx, 3, 1, 4));
    memcpy(image.pixels, "\x64\xc8\x32\xff\x64\xc8\x32\x00\x64\xc8\x32\x80", 12);
    assert_ok(scratch->ctx, image_convert(&image, scratch->ctx, 3, 200));
    // opaque; transparent; half: 100 * 128/255 + 200 * 127/255 = 149.8, 200, 50 * 128/255 + 200 * 127/255 = 124.7
    assert_memory_equal(image.pixels, "\x64\xc8\x32\xc8\xc8\xc8\x96\xc8\x7d", 9);
    image_close(&image);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        scratch_test(test_pictures_read_as_pil_reads_them),
        scratch_test(test_unsupported_pictures),
        scratch_test(test_truncated_and_damaged_pictures),
        scratch_test(test_claimed_sizes),
        scratch_test(test_png_round_trip),
        scratch_test(test_convert),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
