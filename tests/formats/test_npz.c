#include "formats/npy.h"
#include "scratch.h"

static void assert_is_batch(KinditContext *ctx, const char *path) {
    Npy npy;
    assert_ok(ctx, npz_read(&npy, ctx, path, "arr_0"));
    assert_true(npy.array.dtype == DTYPE_U8 && npy.array.n_dims == 4 && npy.array.shape[3] == 3);
    for (int i = 0; i < 48; i++) assert_int_equal(((const uint8_t *)npy.array.data)[i], i);
    npy_close(&npy);
    assert_ok(ctx, npz_read(&npy, ctx, path, "arr_1"));
    assert_true(npy.array.dtype == DTYPE_I64 && npy.array.n_elements == 1);
    assert_int_equal(*(const uint8_t *)npy.array.data, 7);
    npy_close(&npy);
    assert_fails(ctx, npz_read(&npy, ctx, path, "arr_2"), KINDIT_ERROR_FORMAT, "no array \"arr_2\"");
    assert_fails(ctx, npz_read(&npy, ctx, path, "arr_"), KINDIT_ERROR_FORMAT, "no array \"arr_\"");
}

static void test_reads_what_numpy_wrote(void **state) {
    Scratch *scratch = *state;
    assert_is_batch(scratch->ctx, scratch_golden(scratch, "formats/stored.npz"));
    assert_is_batch(scratch->ctx, scratch_golden(scratch, "formats/deflated.npz"));
}

static void test_write_then_read(void **state) {
    Scratch *scratch = *state;
    uint8_t images[48];
    for (int i = 0; i < 48; i++) images[i] = (uint8_t)i;
    const int64_t label = 7;
    Tensor arrays[] = {{.name = "arr_0", .dtype = DTYPE_U8, .n_dims = 4, .shape = {1, 4, 4, 3}, .data = images},
                       {.name = "arr_1", .dtype = DTYPE_I64, .n_dims = 1, .shape = {1}, .data = &label}};
    const char *path = scratch_path(scratch, "batch.npz");
    assert_ok(scratch->ctx, npz_write(scratch->ctx, path, arrays, 2));
    assert_is_batch(scratch->ctx, path);
    arrays[0].name = NULL;
    assert_int_equal(npz_write(scratch->ctx, path, arrays, 2), KINDIT_ERROR_ARGUMENT);
}

static KinditStatus parse_copy(KinditContext *ctx, const uint8_t *data, size_t size) {
    Npy npy;
    KinditStatus status = npz_parse(&npy, ctx, "file", data, size, "arr_0");
    npy_close(&npy);
    return status;
}

// Every truncation fails. Every changed byte fails or reads the same array: the CRC covers the data, the rest is
// checked or does not matter (dates, attributes).
static void check_damage(Scratch *scratch, const char *golden) {
    FileMap map;
    assert_ok(scratch->ctx, file_map(&map, scratch->ctx, scratch_golden(scratch, golden)));
    for (size_t size = 0; size < map.size; size++) {
        uint8_t *copy = malloc(size ? size : 1);
        memcpy(copy, map.data, size);
        assert_int_equal(parse_copy(scratch->ctx, copy, size), KINDIT_ERROR_FORMAT);
        free(copy);
    }
    uint8_t *copy = malloc(map.size);
    for (size_t i = 0; i < map.size; i++) {
        memcpy(copy, map.data, map.size);
        copy[i] ^= 0x41;
        Npy npy;
        if (npz_parse(&npy, scratch->ctx, "file", copy, map.size, "arr_0") != KINDIT_OK) continue;
        assert_int_equal(npy.array.n_bytes, 48);
        for (int k = 0; k < 48; k++) assert_int_equal(((const uint8_t *)npy.array.data)[k], k);
        npy_close(&npy);
    }
    free(copy);
    file_unmap(&map);
}

static void test_damage(void **state) {
    check_damage(*state, "formats/stored.npz");
    check_damage(*state, "formats/deflated.npz");
}

// A member that claims to unpack to far more than deflate can make of it is refused before memory is taken.
static void test_bomb(void **state) {
    Scratch *scratch = *state;
    FileMap map;
    assert_ok(scratch->ctx, file_map(&map, scratch->ctx, scratch_golden(scratch, "formats/deflated.npz")));
    uint8_t *copy = malloc(map.size);
    memcpy(copy, map.data, map.size);
    for (size_t i = 0; i + 28 < map.size; i++)
        if (memcmp(copy + i, "PK\1\2", 4) == 0) memcpy(copy + i + 24, "\xfe\xff\xff\x7f", 4);
    assert_fails(scratch->ctx, parse_copy(scratch->ctx, copy, map.size), KINDIT_ERROR_FORMAT, "cannot hold");
    free(copy);
    file_unmap(&map);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        scratch_test(test_reads_what_numpy_wrote),
        scratch_test(test_write_then_read),
        scratch_test(test_damage),
        scratch_test(test_bomb),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
