#include <glob.h>

#include "formats/tensorboard.h"
#include "scratch.h"

// CRC-32C by its polynomial, most direct form; held to the check value of the RFC 3720 family below.
static uint32_t crc32c(const uint8_t *data, size_t size) {
    uint32_t crc = 0xffffffff;
    for (size_t i = 0; i < 8 * size; i++) {
        uint32_t bit = (crc ^ (data[i / 8] >> (i % 8))) & 1;
        crc = (crc >> 1) ^ (bit ? 0x82f63b78 : 0);
    }
    return crc ^ 0xffffffff;
}

static uint64_t load(const uint8_t *data, int n) {
    uint64_t value = 0;
    for (int i = n - 1; i >= 0; i--) value = value << 8 | data[i];
    return value;
}

static uint32_t unmask(uint64_t masked) {
    uint32_t rotated = (uint32_t)masked - 0xa282ead8;
    return rotated >> 17 | rotated << 15;
}

typedef struct Frame {
    const uint8_t *payload;
    size_t size;
} Frame;

// Splits an event file into its records, checking both CRCs of each; returns their number.
static int read_frames(const FileMap *map, Frame *frames, int capacity) {
    int n = 0;
    for (size_t at = 0; at < map->size; n++) {
        assert_true(n < capacity && map->size - at >= 16);
        const uint8_t *record = map->data + at;
        frames[n] = (Frame){record + 12, load(record, 8)};
        assert_int_equal(unmask(load(record + 8, 4)), crc32c(record, 8));
        assert_true(frames[n].size <= map->size - at - 16);
        assert_int_equal(unmask(load(record + 12 + frames[n].size, 4)), crc32c(record + 12, frames[n].size));
        at += frames[n].size + 16;
    }
    return n;
}

static void map_only_file(Scratch *scratch, FileMap *map) {
    glob_t found;
    assert_int_equal(glob(scratch_path(scratch, "events.out.tfevents.*.kindit"), 0, NULL, &found), 0);
    assert_int_equal(found.gl_pathc, 1);
    assert_ok(scratch->ctx, file_map(map, scratch->ctx, found.gl_pathv[0]));
    globfree(&found);
}

static void test_records_are_those_of_tensorboard(void **state) {
    Scratch *scratch = *state;
    assert_int_equal(crc32c((const uint8_t *)"123456789", 9), 0xe3069283);
    Tensorboard *tb;
    assert_ok(scratch->ctx, tensorboard_open(&tb, scratch->ctx, scratch->folder));
    assert_ok(scratch->ctx, tensorboard_add_scalar(tb, scratch->ctx, "loss", 300, 0.5));
    assert_ok(scratch->ctx, tensorboard_flush(tb, scratch->ctx));
    FileMap ours, golden;
    map_only_file(scratch, &ours);
    assert_ok(scratch->ctx, file_map(&golden, scratch->ctx, scratch_golden(scratch, "formats/scalar.tfevents")));
    Frame a[4], b[4];
    assert_int_equal(read_frames(&golden, b, 4), 2);
    assert_int_equal(read_frames(&ours, a, 4), 2);
    for (int i = 0; i < 2; i++) { // the golden events have no wall time, which is a tag and 8 bytes
        assert_int_equal(a[i].payload[0], 0x09);
        assert_int_equal(a[i].size, b[i].size + 9);
        assert_memory_equal(a[i].payload + 9, b[i].payload, b[i].size);
    }
    file_unmap(&ours);
    file_unmap(&golden);
    tensorboard_close(&tb);
    assert_null(tb);
    tensorboard_close(&tb);
}

static void test_image_record_holds_a_png(void **state) {
    Scratch *scratch = *state;
    Tensorboard *tb;
    Image image, again;
    assert_ok(scratch->ctx, image_alloc(&image, scratch->ctx, 5, 4, 3));
    for (int i = 0; i < 60; i++) image.pixels[i] = (uint8_t)(4 * i);
    assert_ok(scratch->ctx, tensorboard_open(&tb, scratch->ctx, scratch->folder));
    assert_ok(scratch->ctx, tensorboard_add_image(tb, scratch->ctx, "samples", 1, &image));
    tensorboard_close(&tb);
    FileMap map;
    Frame frames[2];
    map_only_file(scratch, &map);
    assert_int_equal(read_frames(&map, frames, 2), 2);
    const uint8_t *png = memmem(frames[1].payload, frames[1].size, "\x89PNG", 4);
    assert_non_null(png); // the encoded picture is the last field
    assert_ok(scratch->ctx,
              image_parse(&again, scratch->ctx, "record", png, (size_t)(frames[1].payload + frames[1].size - png)));
    assert_memory_equal(again.pixels, image.pixels, 60);
    file_unmap(&map);
    image_close(&image);
    image_close(&again);
}

static void test_folders(void **state) {
    Scratch *scratch = *state;
    Tensorboard *first, *second, *none;
    assert_ok(scratch->ctx, tensorboard_open(&first, scratch->ctx, scratch->folder));
    assert_ok(scratch->ctx, tensorboard_open(&second, scratch->ctx, scratch->folder)); // same second, another file
    tensorboard_close(&first);
    tensorboard_close(&second);
    glob_t found;
    assert_int_equal(glob(scratch_path(scratch, "events.*"), 0, NULL, &found), 0);
    assert_int_equal(found.gl_pathc, 2);
    globfree(&found);
    assert_fails(scratch->ctx, tensorboard_open(&none, scratch->ctx, "/nonexistent"), KINDIT_ERROR_IO, "No such file");
    assert_null(none);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        scratch_test(test_records_are_those_of_tensorboard),
        scratch_test(test_image_record_holds_a_png),
        scratch_test(test_folders),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
