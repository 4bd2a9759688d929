#include "formats/npy.h"
#include "scratch.h"

static const char good_header[] = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }\n";

// Parses an npy file of version 1 with this header and `n_data` bytes, in a copy of the exact size.
static KinditStatus parse(KinditContext *ctx, const char *header, size_t n_data, Tensor *out) {
    size_t length = strlen(header), size = 10 + length + n_data;
    uint8_t *bytes = calloc(size, 1);
    memcpy(bytes, "\x93NUMPY\1\0", 8);
    bytes[8] = (uint8_t)length;
    bytes[9] = (uint8_t)(length >> 8);
    memcpy(bytes + 10, header, length);
    KinditStatus status = npy_parse(out, ctx, "file", bytes, size);
    free(bytes);
    return status;
}

static void test_reads_what_numpy_wrote(void **state) {
    Scratch *scratch = *state;
    KinditContext *ctx = scratch->ctx;
    static const struct {
        const char *name;
        Dtype dtype;
    } files[] = {{"u1", DTYPE_U8},  {"i4", DTYPE_I32}, {"i8", DTYPE_I64},       {"f2", DTYPE_F16},
                 {"f4", DTYPE_F32}, {"f8", DTYPE_F64}, {"version2", DTYPE_F32}, {"version3", DTYPE_F32}};
    for (size_t k = 0; k < sizeof files / sizeof *files; k++) {
        char name[64];
        snprintf(name, sizeof name, "formats/%s.npy", files[k].name);
        Npy npy;
        assert_ok(ctx, npy_open(&npy, ctx, scratch_golden(scratch, name)));
        const Tensor *array = &npy.array;
        assert_int_equal(array->dtype, files[k].dtype);
        assert_true(array->n_dims == 2 && array->shape[0] == 2 && array->shape[1] == 3 && array->n_elements == 6);
        float values[6];
        if (tensor_read_float(array, ctx, 0, 6, values) == KINDIT_OK) {
            for (int i = 0; i < 6; i++) assert_true(values[i] == (float)i * (k < 6 ? 0.5f : 1));
        } else {
            assert_int_equal(((const uint8_t *)array->data)[5 * dtype_size(array->dtype)], 5);
        }
        npy_close(&npy);
    }
    Npy npy;
    assert_ok(ctx, npy_open(&npy, ctx, scratch_golden(scratch, "formats/scalar.npy")));
    assert_true(npy.array.n_dims == 0 && npy.array.n_elements == 1);
    npy_close(&npy);
    assert_ok(ctx, npy_open(&npy, ctx, scratch_golden(scratch, "formats/vector.npy")));
    assert_true(npy.array.n_dims == 1 && npy.array.shape[0] == 3);
    npy_close(&npy);
    assert_ok(ctx, npy_open(&npy, ctx, scratch_golden(scratch, "formats/empty.npy")));
    assert_true(npy.array.shape[0] == 0 && npy.array.shape[1] == 4);
    npy_close(&npy);
    assert_fails(ctx, npy_open(&npy, ctx, scratch_golden(scratch, "formats/fortran.npy")), KINDIT_ERROR_UNSUPPORTED,
                 "Fortran order");
    assert_fails(ctx, npy_open(&npy, ctx, scratch_golden(scratch, "formats/big_endian.npy")), KINDIT_ERROR_UNSUPPORTED,
                 "found '>f4'");
}

static void test_hostile_headers(void **state) {
    KinditContext *ctx = ((Scratch *)*state)->ctx;
    Tensor array;
    assert_ok(ctx, parse(ctx, good_header, 24, &array));
    assert_ok(ctx, parse(ctx, "{'shape':(6,),'fortran_order':False,'descr':'<f4'}", 24, &array));
    assert_fails(ctx, parse(ctx, good_header, 23, &array), KINDIT_ERROR_FORMAT, "promises 24 bytes of data, found 23");
    assert_fails(ctx, parse(ctx, good_header, 25, &array), KINDIT_ERROR_FORMAT, "found 25");
    const char *bad[] = {
        "",
        "{",
        "{}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (2 3)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3)} x",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (-2, -3)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (,)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': 6}",
        "{'descr': '<f4', 'fortran_order': False}",
        "{'descr': '<f4', 'shape': (2, 3)}",
        "{'fortran_order': False, 'shape': (2, 3)}",
        "{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': (2, 3)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), 'more': 1}",
        "{'descr': '<f4', 'fortran_order': Maybe, 'shape': (2, 3)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (4294967296, 4294967296)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (4611686018427387904,)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1,1,1,1,1,1,1,1,1)}",
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (parse(ctx, bad[i], 24, &array) != KINDIT_ERROR_FORMAT) fail_msg("accepted: %s", bad[i]);
    assert_int_equal(parse(ctx, "{'descr': '|O', 'fortran_order': False, 'shape': (3,)}", 24, &array),
                     KINDIT_ERROR_UNSUPPORTED);
    assert_fails(ctx, parse(ctx, "{'descr': [('a', '<f4')], 'shape': (3,)}", 24, &array), KINDIT_ERROR_UNSUPPORTED,
                 "[('a'");
    assert_int_equal(parse(ctx, "{'descr': '<i9", 0, &array),
                     KINDIT_ERROR_UNSUPPORTED); // the message stops at the end too
    const uint8_t long_header[12] = "\x93NUMPY\2\0\xff\xff\xff\xff";
    for (size_t size = 0; size <= 12; size++)
        assert_int_equal(npy_parse(&array, ctx, "file", long_header, size), KINDIT_ERROR_FORMAT);
}

static void test_write_then_read(void **state) {
    Scratch *scratch = *state;
    KinditContext *ctx = scratch->ctx;
    const int64_t numbers[6] = {1, -2, 3, -4, 5, INT64_MAX};
    const Dtype dtypes[] = {DTYPE_I64, DTYPE_U8, DTYPE_F32, DTYPE_F64, DTYPE_F16, DTYPE_I32};
    const char *path = scratch_path(scratch, "a.npy");
    for (size_t k = 0; k < sizeof dtypes / sizeof *dtypes; k++) {
        for (int n_dims = 0; n_dims <= 3; n_dims++) {
            Tensor array = {.dtype = dtypes[k], .n_dims = n_dims, .shape = {1, 3, 2}, .data = numbers};
            assert_ok(ctx, npy_write(ctx, path, &array));
            Npy npy;
            assert_ok(ctx, npy_open(&npy, ctx, path));
            assert_int_equal(npy.array.dtype, dtypes[k]);
            assert_int_equal(npy.array.n_dims, n_dims);
            assert_memory_equal(npy.array.shape, array.shape, (size_t)n_dims * sizeof *array.shape);
            assert_memory_equal(npy.array.data, numbers, npy.array.n_bytes);
            npy_close(&npy);
        }
    }
    Tensor bf16 = {.dtype = DTYPE_BF16, .n_dims = 1, .shape = {1}, .data = numbers};
    assert_fails(ctx, npy_write(ctx, path, &bf16), KINDIT_ERROR_UNSUPPORTED, "BF16");
}

static void test_stream_counts_its_rows(void **state) {
    Scratch *scratch = *state;
    KinditContext *ctx = scratch->ctx;
    const char *path = scratch_path(scratch, "rows.npy");
    uint8_t rows[3 * 4] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11};
    NpyStream stream;
    assert_ok(ctx, npy_stream_begin(&stream, ctx, path, DTYPE_U8, 3, (int64_t[]){77, 2, 2}));
    assert_ok(ctx, npy_stream_append(&stream, ctx, rows, 1));
    assert_ok(ctx, npy_stream_append(&stream, ctx, rows, 0));
    assert_ok(ctx, npy_stream_append(&stream, ctx, rows + 4, 2));
    assert_int_equal(npy_stream_append(&stream, ctx, rows, -1), KINDIT_ERROR_FORMAT);
    assert_false(file_exists(path)); // not before it is whole
    assert_ok(ctx, npy_stream_commit(&stream, ctx));
    Npy npy;
    assert_ok(ctx, npy_open(&npy, ctx, path));
    assert_true(npy.array.n_dims == 3 && npy.array.shape[0] == 3 && npy.array.shape[1] == 2);
    assert_memory_equal(npy.array.data, rows, sizeof rows);
    npy_close(&npy);
    assert_ok(ctx, npy_stream_begin(&stream, ctx, path, DTYPE_F32, 1, (int64_t[]){0}));
    npy_stream_abandon(&stream);
    assert_ok(ctx, npy_open(&npy, ctx, path)); // the old file is still there
    npy_close(&npy);
    assert_int_equal(npy_stream_begin(&stream, ctx, path, DTYPE_F32, 0, NULL), KINDIT_ERROR_ARGUMENT);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        scratch_test(test_reads_what_numpy_wrote),
        scratch_test(test_hostile_headers),
        scratch_test(test_write_then_read),
        scratch_test(test_stream_counts_its_rows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
