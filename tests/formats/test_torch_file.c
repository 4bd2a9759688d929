// Files of torch.save against what PyTorch put into them (golden/exchange/make.py), and pickles that mean harm.
#include "formats/pickle.h"
#include "formats/torch_file.h"
#include "formats/zip.h"
#include "scratch.h"

static void open_golden(Scratch *scratch, Safetensors *file, const char *name) {
    assert_ok(scratch->ctx, torch_file_open(file, scratch->ctx, scratch_golden(scratch, name)));
}

static void assert_counts(Scratch *scratch, const Safetensors *file, const char *name, Dtype dtype, size_t n,
                          float first) {
    const Tensor *tensor = safetensors_find(file, name);
    float values[12];
    assert_non_null(tensor);
    assert_int_equal(tensor->dtype, dtype);
    assert_int_equal(tensor->n_elements, n);
    if (dtype == DTYPE_I64 || dtype == DTYPE_I32 || dtype == DTYPE_U8) {
        for (size_t i = 0; i < n; i++)
            assert_int_equal(((const uint8_t *)tensor->data)[i * dtype_size(dtype)], (int)first + (int)i);
        return;
    }
    assert_ok(scratch->ctx, tensor_read_float(tensor, scratch->ctx, 0, n, values));
    for (size_t i = 0; i < n; i++) assert_true(values[i] == first + (float)i);
}

static void test_types(void **state) {
    Scratch *scratch = *state;
    Safetensors file;
    open_golden(scratch, &file, "exchange/types.pt");
    assert_int_equal(file.n_tensors, 12);
    assert_counts(scratch, &file, "f32", DTYPE_F32, 12, 0);
    assert_counts(scratch, &file, "f16", DTYPE_F16, 12, 0);
    assert_counts(scratch, &file, "bf16", DTYPE_BF16, 12, 0);
    assert_counts(scratch, &file, "f64", DTYPE_F64, 12, 0);
    assert_counts(scratch, &file, "i64", DTYPE_I64, 12, 0);
    assert_counts(scratch, &file, "i32", DTYPE_I32, 12, 0);
    assert_counts(scratch, &file, "u8", DTYPE_U8, 12, 0);
    assert_counts(scratch, &file, "view", DTYPE_F32, 8, 4);
    assert_counts(scratch, &file, "parameter", DTYPE_F32, 2, 0);
    assert_counts(scratch, &file, "scalar", DTYPE_F32, 1, 2.5f);
    assert_int_equal(safetensors_find(&file, "scalar")->n_dims, 0);
    assert_int_equal(safetensors_find(&file, "empty")->n_elements, 0);
    assert_int_equal(safetensors_find(&file, "ones")->n_dims, 3);
    safetensors_close(&file);
}

// The same tensors as PyTorch wrote them before 1.6.
static void test_the_older_format(void **state) {
    Scratch *scratch = *state;
    Safetensors now, then;
    open_golden(scratch, &now, "exchange/types.pt");
    open_golden(scratch, &then, "exchange/types_old.pt");
    assert_int_equal(then.n_tensors, now.n_tensors);
    for (int i = 0; i < now.n_tensors; i++) {
        const Tensor *tensor = safetensors_find(&then, now.tensors[i].name);
        assert_non_null(tensor);
        assert_int_equal(tensor->dtype, now.tensors[i].dtype);
        assert_int_equal(tensor->n_dims, now.tensors[i].n_dims);
        assert_memory_equal(tensor->shape, now.tensors[i].shape, sizeof tensor->shape);
        if (tensor->n_bytes) assert_memory_equal(tensor->data, now.tensors[i].data, tensor->n_bytes);
    }
    safetensors_close(&now);
    safetensors_close(&then);
}

// A training checkpoint: the averaged weights, and nothing of the optimiser's.
static void test_checkpoint(void **state) {
    Scratch *scratch = *state;
    Safetensors file;
    const Tensor *tensor;
    open_golden(scratch, &file, "exchange/dit/ema.pt");
    assert_ok(scratch->ctx,
              safetensors_require(&file, scratch->ctx, "blocks.1.attn.qkv.weight", 2, (int64_t[]){48, 16}, &tensor));
    assert_int_equal(tensor->dtype, DTYPE_BF16);
    assert_ok(scratch->ctx, safetensors_require(&file, scratch->ctx, "pos_embed", 3, (int64_t[]){1, 16, 16}, &tensor));
    safetensors_close(&file);
}

static void test_refused(void **state) {
    Scratch *scratch = *state;
    Safetensors file;
    KinditContext *ctx = scratch->ctx;
    assert_fails(ctx, torch_file_open(&file, ctx, scratch_golden(scratch, "exchange/transposed.pt")),
                 KINDIT_ERROR_FORMAT, "\"transposed\": not contiguous");
    assert_fails(ctx, torch_file_open(&file, ctx, scratch_golden(scratch, "exchange/complex.pt")), KINDIT_ERROR_FORMAT,
                 "\"torch ComplexFloatStorage\"");
    assert_fails(ctx, torch_file_open(&file, ctx, scratch_golden(scratch, "formats/stored.npz")), KINDIT_ERROR_FORMAT,
                 "no data.pkl");
    assert_fails(ctx, torch_file_open(&file, ctx, scratch_golden(scratch, "formats/f4.npy")), KINDIT_ERROR_FORMAT,
                 "not a file of torch.save");
}

// ---- pickles by hand -----------------------------------------------------------------------------------------------

// A file with this pickle (a string literal, NUL bytes and all) and a storage "0" of 16 bytes.
#define WITH(pickle) make_file(scratch, pickle, sizeof(pickle) - 1)
static const char *make_file(Scratch *scratch, const char *pickle, size_t size) {
    static const float storage[4] = {1, 2, 3, 4};
    ZipSource members[] = {{.name = "a/data.pkl", .pieces = {{pickle, size}}},
                           {.name = "a/data/0", .pieces = {{storage, sizeof storage}}}};
    const char *path = scratch_path(scratch, "a.pt");
    assert_ok(scratch->ctx, zip_write(scratch->ctx, path, members, 2));
    return path;
}

#define TENSOR "\x80\2}X\1\0\0\0wctorch._utils\n_rebuild_tensor_v2\n(("
#define STORAGE "X\7\0\0\0storagectorch\nFloatStorage\nX\1\0\0\0" // then the key, the place, the number of elements
#define REST "\x89}tRs."

static void test_by_hand(void **state) {
    Scratch *scratch = *state;
    Safetensors file;
    assert_ok(scratch->ctx,
              torch_file_open(&file, scratch->ctx, WITH(TENSOR STORAGE "0X\3\0\0\0cpuK\4tQK\1K\3\x85K\1\x85" REST)));
    assert_counts(scratch, &file, "w", DTYPE_F32, 3, 2);
    safetensors_close(&file);
}

static void test_tensors_that_lie(void **state) {
    Scratch *scratch = *state;
    static const struct {
        const char *pickle;
        size_t size;
        const char *message;
    } cases[] = {
#define CASE(pickle, message) {pickle, sizeof(pickle) - 1, message}
        CASE(TENSOR STORAGE "0X\3\0\0\0cpuK\4tQK\2K\3\x85K\1\x85" REST, "past the end of its storage"),
        CASE(TENSOR STORAGE "0X\3\0\0\0cpuK\4tQK\5K\1\x85K\1\x85" REST, "past the end of its storage"),
        CASE(TENSOR STORAGE "0X\3\0\0\0cpuK\4tQJ\xff\xff\xff\xffK\1\x85K\1\x85" REST, "past the end of its storage"),
        CASE(TENSOR STORAGE "0X\3\0\0\0cpuK\5tQK\0K\5\x85K\1\x85" REST, "another size than the pickle says"),
        CASE(TENSOR STORAGE "0X\3\0\0\0cpu\x8a\x08\4\0\0\0\0\0\0\x40tQK\0K\4\x85K\1\x85" REST,
             "another size than the pickle says"), // 2^62 + 4 elements: 16 bytes, if the product wrapped
        CASE(TENSOR STORAGE "1X\3\0\0\0cpuK\4tQK\0K\4\x85K\1\x85" REST, "not in the archive"),
        CASE(TENSOR STORAGE "0X\3\0\0\0cpuK\4tQK\0K\4\x85K\0\x85" REST, "not contiguous"), // all one element
        CASE(TENSOR STORAGE "0X\3\0\0\0cpuK\4tQK\0\x8a\x08\0\0\0\0\1\0\0\0\x8a\x08\0\0\0\0\1\0\0\0\x86K\1K\1\x86" REST,
             "too large"),
        CASE(TENSOR STORAGE "0X\3\0\0\0cpuK\4tQK\0J\xff\xff\xff\xff\x85K\1\x85" REST, "negative or too large"),
        CASE(TENSOR "X\7\0\0\0storageX\1\0\0\0fX\1\0\0\0000X\3\0\0\0cpuK\4tQK\0K\4\x85K\1\x85" REST,
             "not described as torch.save does"),
        CASE("\x80\2}X\1\0\0\0wK\1s.", "\"w\": expected a tensor"),
        CASE("\x80\2]X\1\0\0\0wa.", "expected a dictionary"),
        CASE("\x80\2}K\1K\1s.", "expected a name"),
    };
    Safetensors file;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_fails(scratch->ctx,
                     torch_file_open(&file, scratch->ctx, make_file(scratch, cases[i].pickle, cases[i].size)),
                     KINDIT_ERROR_FORMAT, cases[i].message);
}

static void test_pickles_that_mean_harm(void **state) {
    Scratch *scratch = *state;
    static const struct {
        const char *pickle;
        size_t size;
        KinditStatus status;
        const char *message;
    } cases[] = {
#define HARM(pickle, status, message) {pickle, sizeof(pickle) - 1, status, message}
        HARM("\x80\2cos\nsystem\nX\5\0\0\0touch\x85R.", KINDIT_ERROR_FORMAT, "\"os system\""),
        HARM("\x80\2cposix\nsystem\n.", KINDIT_ERROR_FORMAT, "\"posix system\""),
        HARM("\x80\2c__builtin__\neval\n.", KINDIT_ERROR_FORMAT, "\"__builtin__ eval\""),
        HARM("\x80\2ctorch\nFloatStorage\033[2J\n.", KINDIT_ERROR_FORMAT, "FloatStorage?[2J"), // no terminal codes
        HARM("\x80\2(ios\nsystem\n.", KINDIT_ERROR_UNSUPPORTED, "opcode 0x69"),                // INST
        HARM("\x80\2o.", KINDIT_ERROR_UNSUPPORTED, "opcode 0x6f"),                             // OBJ
        HARM("\x80\2\x82\1.", KINDIT_ERROR_UNSUPPORTED, "opcode 0x82"),                        // EXT1
        HARM("\x80\2X\1\0\0\0aX\1\0\0\0b\x93.", KINDIT_ERROR_UNSUPPORTED, "opcode 0x93"),      // STACK_GLOBAL
        HARM("\x80\4.", KINDIT_ERROR_UNSUPPORTED, "protocol 2"),
        HARM("\x80\2.", KINDIT_ERROR_FORMAT, "nothing left"),
        HARM("\x80\2t.", KINDIT_ERROR_FORMAT, "no mark"),
        HARM("\x80\2K\1K\1R.", KINDIT_ERROR_FORMAT, "wrong kind"),
        HARM("\x80\2}K\1\x85K\1a.", KINDIT_ERROR_FORMAT, "wrong kind"),
        HARM("\x80\2}(K\1u.", KINDIT_ERROR_FORMAT, "without a value"),
        HARM("\x80\2h\0.", KINDIT_ERROR_FORMAT, "never set"),
        HARM("\x80\2}r\xff\xff\xff\xff.", KINDIT_ERROR_FORMAT, "out of order"),
        HARM("\x80\2X\xff\xff\xff\xff.", KINDIT_ERROR_FORMAT, "end of the data"),
        HARM("\x80\2\x8a\x09\1\1\1\1\1\1\1\1\1.", KINDIT_ERROR_FORMAT, "64 bits"),
        HARM("\x80\2X\2\0\0\0a\0.", KINDIT_ERROR_FORMAT, "NUL"),
        HARM("\x80\2K\1", KINDIT_ERROR_FORMAT, "end of the data"),
    };
    Safetensors file;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_fails(scratch->ctx,
                     torch_file_open(&file, scratch->ctx, make_file(scratch, cases[i].pickle, cases[i].size)),
                     cases[i].status, cases[i].message);
}

// A list that holds itself, and integers of every width.
static void test_values(void **state) {
    Scratch *scratch = *state;
    static const char *const none[] = {NULL};
    static const char itself[] = "\x80\2]q\0h\0a.";
    static const char integers[] = "\x80\2(K\xffM\xff\xffJ\xff\xff\xff\xff\x8a\1\x80\x8a\0\x8a\2\xff\0\x88t.";
    static const int64_t expected[] = {255, 65535, -1, -128, 0, 255, 1};
    Arena arena = {0};
    Pickle pickle;
    assert_ok(scratch->ctx, pickle_parse(&pickle, &arena, scratch->ctx, "p", itself, sizeof itself - 1, none));
    const PickleValue *value = pickle.root;
    assert_true(value->kind == PICKLE_LIST && value->n == 1 && value->items[0] == value);
    assert_int_equal(pickle.size, sizeof itself - 1);
    assert_ok(scratch->ctx, pickle_parse(&pickle, &arena, scratch->ctx, "p", integers, sizeof integers - 1, none));
    value = pickle.root;
    assert_int_equal(value->n, 7);
    for (int i = 0; i < 7; i++) assert_int_equal(value->items[i]->integer, expected[i]);
    arena_close(&arena);
}

// Every file of the bytes that parses has its tensors inside them.
static void parse_damaged(Scratch *scratch, const uint8_t *bytes, size_t size, bool checked) {
    Safetensors file;
    if (torch_file_parse(&file, NULL, "file", bytes, size) != KINDIT_OK) return;
    for (int i = 0; i < file.n_tensors; i++) {
        const Tensor *tensor = &file.tensors[i];
        if (tensor->n_elements == 0) continue;
        assert_true((const uint8_t *)tensor->data >= bytes);
        assert_true(tensor->n_bytes <= (size_t)(bytes + size - (const uint8_t *)tensor->data));
    }
    if (checked) {
        assert_int_equal(file.n_tensors, 12);
        assert_counts(scratch, &file, "f32", DTYPE_F32, 12, 0);
    }
    safetensors_close(&file);
}

// No truncation and no changed byte makes the parser leave the file (the sanitizers watch) or invent a tensor; in an
// archive, which is checksummed, none changes a number.
static void test_damage(void **state) {
    Scratch *scratch = *state;
    static const char *const names[] = {"exchange/types.pt", "exchange/types_old.pt"};
    for (int k = 0; k < 2; k++) {
        FileMap map;
        Safetensors file;
        assert_ok(scratch->ctx, file_map(&map, scratch->ctx, scratch_golden(scratch, names[k])));
        uint8_t *copy = malloc(map.size);
        for (size_t size = 0; size < map.size; size += 7) {
            memcpy(copy, map.data, size);
            assert_int_not_equal(torch_file_parse(&file, NULL, "file", copy, size), KINDIT_OK);
        }
        for (size_t i = 0; i < map.size; i++) {
            memcpy(copy, map.data, map.size);
            copy[i] ^= 0x41;
            parse_damaged(scratch, copy, map.size, k == 0);
        }
        free(copy);
        file_unmap(&map);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        scratch_test(test_types),
        scratch_test(test_the_older_format),
        scratch_test(test_checkpoint),
        scratch_test(test_refused),
        scratch_test(test_by_hand),
        scratch_test(test_tensors_that_lie),
        scratch_test(test_pickles_that_mean_harm),
        scratch_test(test_values),
        scratch_test(test_damage),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
