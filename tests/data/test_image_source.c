// Images from data sets, batches and folders: the same pixels, labels and classes that were put in.
#include "base/rng.h"
#include "data/image_source.h"
#include "data/tiny_dataset.h"
#include "scratch.h"

static void write_png(Scratch *scratch, const char *name, int channels, uint8_t value) {
    Image image;
    assert_ok(scratch->ctx, image_alloc(&image, scratch->ctx, 3, 2, channels));
    memset(image.pixels, value, (size_t)(6 * channels));
    assert_ok(scratch->ctx, image_write_png(scratch->ctx, scratch_path(scratch, name), &image));
    image_close(&image);
}

static void check_image(Scratch *scratch, const ImageSource *source, int64_t i, int channels, uint8_t value) {
    Image image;
    assert_ok(scratch->ctx, image_source_read(source, scratch->ctx, i, &image));
    assert_int_equal(image.width, 3);
    assert_int_equal(image.height, 2);
    assert_int_equal(image.channels, channels);
    for (int p = 0; p < 6 * channels; p++) assert_int_equal(image.pixels[p], value);
    image_close(&image);
}

static void test_folder(void **state) {
    Scratch *scratch = *state;
    ImageSource *source;
    char hash[2][65], name[IMAGE_SOURCE_NAME_SIZE];
    int n;
    assert_ok(scratch->ctx, file_make_folder(scratch->ctx, scratch_path(scratch, "f/b")));
    assert_ok(scratch->ctx, file_make_folder(scratch->ctx, scratch_path(scratch, "f/a c")));
    write_png(scratch, "f/b/1.png", 3, 10);
    write_png(scratch, "f/b/0.png", 1, 20);
    write_png(scratch, "f/a c/2.png", 4, 255); // half of it would be black, but all is opaque
    assert_ok(scratch->ctx, image_source_open(&source, scratch->ctx, scratch_path(scratch, "f"), SOURCE_TRAIN));
    assert_int_equal(image_source_count(source), 3);
    const ModelClass *classes = image_source_classes(source, &n);
    assert_int_equal(n, 2);
    assert_string_equal(classes[0].id, "a_c");
    assert_string_equal(classes[0].name, "a c");
    assert_string_equal(classes[1].id, "b");
    check_image(scratch, source, 0, 3, 255);
    check_image(scratch, source, 1, 1, 20);
    check_image(scratch, source, 2, 3, 10);
    image_source_name(source, 1, name);
    assert_string_equal(name, scratch_path(scratch, "f/b/0.png"));
    assert_int_equal(image_source_label(source, 0), 0);
    assert_int_equal(image_source_label(source, 2), 1);
    assert_ok(scratch->ctx, image_source_hash(source, scratch->ctx, hash[0]));
    image_source_close(&source);
    write_png(scratch, "f/3.png", 1, 1); // in no class folder: there are no classes then
    assert_ok(scratch->ctx, image_source_open(&source, scratch->ctx, scratch_path(scratch, "f"), SOURCE_TRAIN));
    image_source_classes(source, &n);
    assert_int_equal(n, 0);
    assert_int_equal(image_source_label(source, 1), -1);
    assert_ok(scratch->ctx, image_source_hash(source, scratch->ctx, hash[1]));
    assert_string_not_equal(hash[0], hash[1]);
    image_source_close(&source);
}

static void write_batch(Scratch *scratch, const char *name, int64_t label, int channels, int n_arrays) {
    uint8_t pixels[2 * 6 * 3], ids[2][DIT_CLASS_NAME_SIZE] = {"x", "y"};
    const int64_t labels[2] = {1, label};
    memset(pixels, 7, sizeof pixels);
    const Tensor arrays[3] = {
        {.name = "arr_0", .dtype = DTYPE_U8, .n_dims = 4, .shape = {2, 2, 3, channels}, .data = pixels},
        {.name = "arr_1", .dtype = DTYPE_I64, .n_dims = 1, .shape = {2}, .data = labels},
        {.name = "class_ids", .dtype = DTYPE_U8, .n_dims = 2, .shape = {2, DIT_CLASS_NAME_SIZE}, .data = ids},
    };
    assert_ok(scratch->ctx, npz_write(scratch->ctx, scratch_path(scratch, name), arrays, n_arrays));
}

static void test_batch(void **state) {
    Scratch *scratch = *state;
    ImageSource *source;
    int n;
    const int expected[4] = {0, 0, 2, 2}; // classes, by the number of arrays
    for (int arrays = 1; arrays <= 3; arrays++) {
        write_batch(scratch, "batch.npz", 0, 3, arrays);
        assert_ok(scratch->ctx,
                  image_source_open(&source, scratch->ctx, scratch_path(scratch, "batch.npz"), SOURCE_TRAIN));
        assert_int_equal(image_source_count(source), 2);
        const ModelClass *classes = image_source_classes(source, &n);
        assert_int_equal(n, expected[arrays]);
        if (n) assert_string_equal(classes[1].id, arrays == 3 ? "y" : "1");
        assert_int_equal(image_source_label(source, 0), arrays == 1 ? -1 : 1);
        check_image(scratch, source, 1, 3, 7);
        image_source_close(&source);
    }
    write_batch(scratch, "batch.npz", 2, 3, 3);
    assert_fails(scratch->ctx,
                 image_source_open(&source, scratch->ctx, scratch_path(scratch, "batch.npz"), SOURCE_TRAIN),
                 KINDIT_ERROR_FORMAT, "expected labels 0..1, found 2");
    write_batch(scratch, "batch.npz", -1, 3, 2);
    assert_fails(scratch->ctx,
                 image_source_open(&source, scratch->ctx, scratch_path(scratch, "batch.npz"), SOURCE_TRAIN),
                 KINDIT_ERROR_FORMAT, "found -1");
    write_batch(scratch, "batch.npz", 0, 2, 1);
    assert_fails(scratch->ctx,
                 image_source_open(&source, scratch->ctx, scratch_path(scratch, "batch.npz"), SOURCE_TRAIN),
                 KINDIT_ERROR_FORMAT, "expected at least one uint8 image (N, H, W, 1 or 3), found U8 (2, 2, 3, 2)");
}

// Statistics are no images, whole or not.
static void test_statistics(void **state) {
    Scratch *scratch = *state;
    ImageSource *source;
    const char *const names[3] = {"mu", "sigma", "mu_s"};
    const float values[1] = {0};
    for (int i = 0; i < 3; i++) {
        const Tensor array = {.name = names[i], .dtype = DTYPE_F32, .n_dims = 1, .shape = {1}, .data = values};
        const char *path = scratch_path(scratch, "statistics.npz");
        assert_ok(scratch->ctx, npz_write(scratch->ctx, path, &array, 1));
        assert_fails(scratch->ctx, image_source_open(&source, scratch->ctx, path, SOURCE_TRAIN), KINDIT_ERROR_FORMAT,
                     "holds statistics where images");
    }
}

// 7 of 15 images that come class after class: each class has its share, in order, none twice.
static void test_choose(void **state) {
    Scratch *scratch = *state;
    ImageSource *source;
    char name[IMAGE_SOURCE_NAME_SIZE], expected[IMAGE_SOURCE_NAME_SIZE];
    const int64_t places[7] = {0, 2, 4, 6, 8, 10, 12}; // floor(15 i / 7)
    int n_of[3] = {0};
    tiny_dataset_write(scratch->ctx, scratch_path(scratch, "set"), 3, 5, 4, 1);
    assert_ok(scratch->ctx, image_source_open(&source, scratch->ctx, scratch_path(scratch, "set"), SOURCE_TRAIN));
    assert_fails(scratch->ctx, image_source_choose(source, scratch->ctx, 16), KINDIT_ERROR_ARGUMENT,
                 "has 15 images, and 16 are asked for");
    assert_ok(scratch->ctx, image_source_choose(source, scratch->ctx, 7));
    assert_int_equal(image_source_count(source), 7);
    for (int64_t i = 0; i < 7; i++) {
        n_of[image_source_label(source, i)]++;
        image_source_name(source, i, name);
        snprintf(expected, sizeof expected, "%s: image %lld", scratch_path(scratch, "set"), (long long)places[i]);
        assert_string_equal(name, expected);
    }
    for (int c = 0; c < 3; c++) assert_in_range(n_of[c], 2, 3);
    image_source_close(&source);
}

static void test_dataset(void **state) {
    Scratch *scratch = *state;
    ImageSource *source;
    int n;
    const float latents[2 * 4] = {0};
    tiny_dataset_write(scratch->ctx, scratch_path(scratch, "set"), 3, 5, 4, 1);
    for (int split = 0; split < 2; split++) {
        assert_ok(scratch->ctx,
                  image_source_open(&source, scratch->ctx, scratch_path(scratch, "set"), (SourceSplit)split));
        assert_int_equal(image_source_count(source), split == SOURCE_TRAIN ? 15 : 3);
        const ModelClass *classes = image_source_classes(source, &n);
        assert_int_equal(n, 3);
        assert_string_equal(classes[2].id, "c2");
        for (int64_t i = 0; i < image_source_count(source); i++) {
            Image image;
            assert_ok(scratch->ctx, image_source_read(source, scratch->ctx, i, &image));
            const int label = image_source_label(source, i); // pictures of class c have values from 60 c
            for (int p = 0; p < 16; p++) assert_in_range(image.pixels[p], 60 * label, 60 * label + 79);
            image_close(&image);
        }
        image_source_close(&source);
    }
    tiny_latents_write(scratch->ctx, scratch_path(scratch, "latents"), latents, 2, 1, 2);
    assert_fails(scratch->ctx, image_source_open(&source, scratch->ctx, scratch_path(scratch, "latents"), SOURCE_TRAIN),
                 KINDIT_ERROR_UNSUPPORTED, "holds latents");
}

static void test_nothing_to_read(void **state) {
    Scratch *scratch = *state;
    ImageSource *source;
    assert_ok(scratch->ctx, file_make_folder(scratch->ctx, scratch_path(scratch, "empty")));
    assert_fails(scratch->ctx, image_source_open(&source, scratch->ctx, scratch_path(scratch, "empty"), SOURCE_TRAIN),
                 KINDIT_ERROR_FORMAT, "neither a data set");
    assert_fails(scratch->ctx, image_source_open(&source, scratch->ctx, scratch_path(scratch, "absent"), SOURCE_TRAIN),
                 KINDIT_ERROR_IO, "absent");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        scratch_test(test_folder), scratch_test(test_batch),   scratch_test(test_statistics),
        scratch_test(test_choose), scratch_test(test_dataset), scratch_test(test_nothing_to_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
