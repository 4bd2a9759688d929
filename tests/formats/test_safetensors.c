#include <math.h>

#include "formats/safetensors.h"
#include "scratch.h"

static void store_size(uint8_t out[8], uint64_t value) {
    for (int i = 0; i < 8; i++) out[i] = (uint8_t)(value >> (8 * i));
}

// Parses a file made of this header and `n_data` bytes 0, 1, 2, ...; the copy is exact so that ASan sees any overread.
static KinditStatus parse(KinditContext *ctx, const char *header, size_t n_data) {
    size_t length = strlen(header), size = 8 + length + n_data;
    uint8_t *bytes = malloc(size);
    store_size(bytes, length);
    memcpy(bytes + 8, header, length);
    for (size_t i = 0; i < n_data; i++) bytes[8 + length + i] = (uint8_t)i;
    Safetensors file;
    KinditStatus status = safetensors_parse(&file, ctx, "file", bytes, size);
    safetensors_close(&file);
    free(bytes);
    return status;
}

static void test_reads_what_python_wrote(void **state) {
    Scratch *scratch = *state;
    KinditContext *ctx = scratch->ctx;
    Safetensors file;
    assert_ok(ctx, safetensors_open(&file, ctx, scratch_golden(scratch, "formats/python.safetensors")));
    assert_int_equal(file.n_tensors, 10);
    assert_string_equal(safetensors_metadata(&file, "config"), "{\"a\": [1, 2]}");
    assert_string_equal(safetensors_metadata(&file, "Ключ"), "значение");
    assert_null(safetensors_metadata(&file, "absent"));
    const char *floats[] = {"f32", "bf16", "f16", "f64"};
    const Tensor *tensor;
    float values[6];
    for (int k = 0; k < 4; k++) {
        assert_ok(ctx, safetensors_require(&file, ctx, floats[k], 2, (int64_t[]){2, 3}, &tensor));
        assert_ok(ctx, tensor_read_float(tensor, ctx, 0, 6, values));
        for (int i = 0; i < 6; i++) assert_true(values[i] == (float)i * 0.5f - 1);
        assert_ok(ctx, tensor_read_float(tensor, ctx, 4, 2, values));
        assert_true(values[0] == 1 && values[1] == 1.5f);
        assert_int_equal(tensor_read_float(tensor, ctx, 5, 2, values), KINDIT_ERROR_ARGUMENT);
    }
    tensor = safetensors_find(&file, "i64");
    assert_int_equal(tensor->dtype, DTYPE_I64);
    int64_t last;
    memcpy(&last, (const uint8_t *)tensor->data + 40, 8);
    assert_int_equal(last, 5);
    assert_int_equal(tensor_read_float(tensor, ctx, 0, 6, values), KINDIT_ERROR_FORMAT);
    assert_int_equal(safetensors_find(&file, "scalar")->n_dims, 0);
    assert_int_equal(safetensors_find(&file, "empty")->n_bytes, 0);
    assert_non_null(safetensors_find(&file, "naïve \"name\"\n"));
    assert_fails(ctx, safetensors_require(&file, ctx, "f32", 2, (int64_t[]){3, 2}, &tensor), KINDIT_ERROR_FORMAT,
                 "\"f32\": expected shape (3, 2), found (2, 3)");
    assert_fails(ctx, safetensors_require(&file, ctx, "w", 1, (int64_t[]){3}, &tensor), KINDIT_ERROR_FORMAT,
                 "\"w\" of shape (3) is missing");
    safetensors_close(&file);
}

static void test_half_precision(void **state) {
    Scratch *scratch = *state;
    Safetensors file;
    assert_ok(scratch->ctx, safetensors_open(&file, scratch->ctx, scratch_golden(scratch, "formats/f16.safetensors")));
    const Tensor *half = safetensors_find(&file, "half"), *expected = safetensors_find(&file, "float");
    float values[11];
    assert_ok(scratch->ctx, tensor_read_float(half, scratch->ctx, 0, 11, values));
    assert_memory_equal(values, expected->data, sizeof values); // zeros of both signs, subnormals, infinities
    safetensors_close(&file);

    // bf16: to nearest, ties to even, overflow to infinity, NaN stays NaN
    const float in[] = {1.0f, 0x1.01p0f, 0x1.03p0f, 0x1.018p0f, -0x1.01p0f, 0x1.fffffep127f, NAN, -INFINITY, 0.0f};
    const uint16_t expected_bf16[] = {0x3f80, 0x3f80, 0x3f82, 0x3f81, 0xbf80, 0x7f80, 0x7fc0, 0xff80, 0};
    uint16_t out[9];
    tensor_to_bf16(in, out, 9);
    for (int i = 0; i < 9; i++) assert_int_equal(out[i], expected_bf16[i]);
    uint32_t quiet_bits_lost = 0x7f800001; // a NaN whose kept half would read as infinity
    float nan;
    memcpy(&nan, &quiet_bits_lost, 4);
    tensor_to_bf16(&nan, out, 1);
    assert_true((out[0] & 0x7fff) > 0x7f80);
}

static void test_write_then_read(void **state) {
    Scratch *scratch = *state;
    KinditContext *ctx = scratch->ctx;
    const float weights[6] = {1, 2, 3, 4, 5, 6};
    const uint8_t byte = 9;
    const Tensor tensors[] = {
        {.name = "b", .dtype = DTYPE_U8, .n_dims = 1, .shape = {1}, .data = &byte},
        {.name = "a\"\\\n\xc3\xa9", .dtype = DTYPE_F32, .n_dims = 2, .shape = {2, 3}, .data = weights},
        {.name = "none", .dtype = DTYPE_F32, .n_dims = 1, .shape = {0}},
        {.name = "s", .dtype = DTYPE_F32, .data = weights + 5},
    };
    const char *const metadata[][2] = {{"format", "kindit"}, {"config", "{\"k\": \"\xc3\xa9\"}"}};
    const char *path = scratch_path(scratch, "w.safetensors");
    assert_ok(ctx, safetensors_write(ctx, path, tensors, 4, metadata, 2));
    Safetensors file;
    assert_ok(ctx, safetensors_open(&file, ctx, path));
    assert_int_equal(file.n_tensors, 4);
    assert_int_equal(((uintptr_t)file.tensors[0].data - (uintptr_t)file.map.data) % 64, 0);
    assert_string_equal(safetensors_metadata(&file, "config"), metadata[1][1]);
    const Tensor *found;
    assert_ok(ctx, safetensors_require(&file, ctx, tensors[1].name, 2, tensors[1].shape, &found));
    assert_memory_equal(found->data, weights, sizeof weights);
    assert_memory_equal(safetensors_find(&file, "s")->data, weights + 5, 4);
    assert_memory_equal(safetensors_find(&file, "b")->data, &byte, 1);
    safetensors_close(&file);
    assert_ok(ctx, safetensors_write(ctx, path, NULL, 0, NULL, 0)); // no tensors: still a valid file
    assert_ok(ctx, safetensors_open(&file, ctx, path));
    assert_int_equal(file.n_tensors, 0);
    safetensors_close(&file);
    const Tensor twice[] = {tensors[0], tensors[0]};
    assert_fails(ctx, safetensors_write(ctx, path, twice, 2, NULL, 0), KINDIT_ERROR_FORMAT, "\"b\" appears twice");
    Tensor bad = tensors[0];
    bad.name = "__metadata__";
    assert_int_equal(safetensors_write(ctx, path, &bad, 1, NULL, 0), KINDIT_ERROR_ARGUMENT);
    assert_int_equal(safetensors_write(ctx, "/nonexistent/f", tensors, 4, NULL, 0), KINDIT_ERROR_IO);
}

#define ONE "\"w\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}"

static void test_malformed_headers(void **state) {
    KinditContext *ctx = ((Scratch *)*state)->ctx;
    assert_ok(ctx, parse(ctx, "{" ONE "}", 8));
    assert_ok(ctx, parse(ctx, "{" ONE "}   ", 8)); // padded
    assert_ok(ctx, parse(ctx, "{}", 0));
    static const struct {
        const char *header;
        size_t n_data;
        KinditStatus status;
        const char *message;
    } cases[] = {
        {"{" ONE "}", 7, KINDIT_ERROR_FORMAT, "truncated"},
        {"{" ONE "}", 9, KINDIT_ERROR_FORMAT, "1 bytes follow the last tensor"},
        {"{}", 1, KINDIT_ERROR_FORMAT, "1 bytes follow"},
        {"[]", 0, KINDIT_ERROR_FORMAT, "not a JSON object"},
        {"", 0, KINDIT_ERROR_FORMAT, "not valid JSON"},
        {"{" ONE "," ONE "}", 8, KINDIT_ERROR_FORMAT, "\"w\" appears twice"},
        {"{" ONE ",\"v\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[4,12]}}", 12, KINDIT_ERROR_FORMAT,
         "overlaps"},
        {"{" ONE ",\"v\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 8, KINDIT_ERROR_FORMAT,
         "overlaps"},
        {"{" ONE ",\"v\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[12,20]}}", 20, KINDIT_ERROR_FORMAT, "hole"},
        {"{\"w\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[4,12]}}", 12, KINDIT_ERROR_FORMAT, "hole"},
        {"{\"w\":{\"dtype\":\"F8_E4M3\",\"shape\":[2],\"data_offsets\":[0,2]}}", 2, KINDIT_ERROR_UNSUPPORTED,
         "F8_E4M3"},
        {"{\"w\":{\"dtype\":5,\"shape\":[2],\"data_offsets\":[0,8]}}", 8, KINDIT_ERROR_FORMAT, "\"dtype\""},
        {"{\"w\":{\"shape\":[2],\"data_offsets\":[0,8]}}", 8, KINDIT_ERROR_FORMAT, "\"dtype\" is missing"},
        {"{\"w\":{\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[0,8]}}", 8, KINDIT_ERROR_FORMAT, "needs 12 bytes"},
        {"{\"w\":{\"dtype\":\"F32\",\"shape\":[-2],\"data_offsets\":[0,8]}}", 8, KINDIT_ERROR_FORMAT, "not a size"},
        {"{\"w\":{\"dtype\":\"F32\",\"shape\":[1.5],\"data_offsets\":[0,6]}}", 6, KINDIT_ERROR_FORMAT, "not a size"},
        {"{\"w\":{\"dtype\":\"F32\",\"shape\":[1e300],\"data_offsets\":[0,8]}}", 8, KINDIT_ERROR_FORMAT, "not a size"},
        {"{\"w\":{\"dtype\":\"F32\",\"shape\":\"2\",\"data_offsets\":[0,8]}}", 8, KINDIT_ERROR_FORMAT, "an array"},
        {"{\"w\":{\"dtype\":\"F32\",\"shape\":[4294967296,4294967296,2],\"data_offsets\":[0,8]}}", 8,
         KINDIT_ERROR_FORMAT, "too large"},
        {"{\"w\":{\"dtype\":\"F32\",\"shape\":[4294967296,1073741824],\"data_offsets\":[0,8]}}", 8, KINDIT_ERROR_FORMAT,
         "too large"}, // elements fit in 64 bits, their bytes do not
        {"{\"w\":{\"dtype\":\"U8\",\"shape\":[1,1,1,1,1,1,1,1,1],\"data_offsets\":[0,1]}}", 1, KINDIT_ERROR_UNSUPPORTED,
         "dimensions"},
        {"{\"w\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[8,0]}}", 8, KINDIT_ERROR_FORMAT, "[begin, end]"},
        {"{\"w\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0]}}", 8, KINDIT_ERROR_FORMAT, "[begin, end]"},
        {"{\"w\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8,9]}}", 8, KINDIT_ERROR_FORMAT, "[begin, end]"},
        {"{\"w\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[-8,0]}}", 8, KINDIT_ERROR_FORMAT, "[begin, end]"},
        {"{\"w\":[]}", 0, KINDIT_ERROR_FORMAT, "\"dtype\" is missing"},
        {"{\"w\":null}", 0, KINDIT_ERROR_FORMAT, "\"dtype\" is missing"},
        {"{\"__metadata__\":[]}", 0, KINDIT_ERROR_FORMAT, "not an object"},
        {"{\"__metadata__\":{\"a\":1}}", 0, KINDIT_ERROR_FORMAT, "\"a\" is not a string"},
        {"{\"__metadata__\":{\"a\":\"\",\"a\":\"\"}}", 0, KINDIT_ERROR_FORMAT, "appears twice"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_fails(ctx, parse(ctx, cases[i].header, cases[i].n_data), cases[i].status, cases[i].message);
}

static void test_empty_tensors_share_an_offset(void **state) {
    KinditContext *ctx = ((Scratch *)*state)->ctx;
    assert_ok(ctx, parse(ctx,
                         "{" ONE ",\"e\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[0,0]}"
                         ",\"f\":{\"dtype\":\"F32\",\"shape\":[3,0],\"data_offsets\":[8,8]}"
                         ",\"g\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[8,8]}}",
                         8));
}

static void test_header_length_lies(void **state) {
    KinditContext *ctx = ((Scratch *)*state)->ctx;
    uint8_t bytes[16] = {0};
    Safetensors file;
    const uint64_t lengths[] = {9, 100000001, UINT64_MAX, UINT64_MAX - 7, 1ull << 63};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        store_size(bytes, lengths[i]);
        assert_fails(ctx, safetensors_parse(&file, ctx, "file", bytes, sizeof bytes), KINDIT_ERROR_FORMAT, "truncated");
    }
    for (size_t size = 0; size < 8; size++)
        assert_int_equal(safetensors_parse(&file, ctx, "file", bytes, size), KINDIT_ERROR_FORMAT);
}

static void test_deep_json(void **state) {
    KinditContext *ctx = ((Scratch *)*state)->ctx;
    char header[20020] = "{\"w\":";
    memset(header + 5, '[', 10000);
    memset(header + 10005, ']', 10000);
    strcpy(header + 20005, "}");
    assert_fails(ctx, parse(ctx, header, 0), KINDIT_ERROR_FORMAT, "nested deeper than 64");
}

static void test_every_truncation_is_refused(void **state) {
    Scratch *scratch = *state;
    FileMap map;
    assert_ok(scratch->ctx, file_map(&map, scratch->ctx, scratch_golden(scratch, "formats/python.safetensors")));
    for (size_t size = 0; size < map.size; size++) {
        uint8_t *copy = malloc(size ? size : 1);
        memcpy(copy, map.data, size);
        Safetensors file;
        assert_int_equal(safetensors_parse(&file, scratch->ctx, "file", copy, size), KINDIT_ERROR_FORMAT);
        free(copy);
    }
    file_unmap(&map);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        scratch_test(test_reads_what_python_wrote),
        scratch_test(test_half_precision),
        scratch_test(test_write_then_read),
        scratch_test(test_malformed_headers),
        scratch_test(test_empty_tensors_share_an_offset),
        scratch_test(test_header_length_lies),
        scratch_test(test_deep_json),
        scratch_test(test_every_truncation_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
