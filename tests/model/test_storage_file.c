// Files in few bits: numpy's are read to the bit, ours are numpy's to the byte (golden/model/storage.py), and what is
// broken in one is said.
#include "model/storage_file.h"

#include <math.h>

#include "model/models.h"

static Engine *open_engine(KinditContext *ctx) {
    Engine *engine;
    assert_ok(ctx, engine_create(&engine, ctx));
    return engine;
}

static Model *open_golden(Scratch *scratch, Engine *engine, const char *name) {
    Model *model;
    assert_ok(scratch->ctx, model_open(&model, scratch->ctx, engine, scratch_golden(scratch, name), NULL));
    return model;
}

static void test_reads_what_numpy_wrote(void **state) {
    Scratch *scratch = *state;
    Engine *engine = open_engine(scratch->ctx);
    static const char *const files[][2] = {{"model/storage/int8.safetensors", "model/storage/int8_read.safetensors"},
                                           {"model/storage/int4.safetensors", "model/storage/int4_read.safetensors"}};
    for (int i = 0; i < 2; i++) {
        Model *found = open_golden(scratch, engine, files[i][0]), *expected = open_golden(scratch, engine, files[i][1]);
        models_assert_equal(found, expected, (int[]){0, 1}, 2, STORAGE_F32);
        model_close(&found);
        model_close(&expected);
    }
    engine_close(&engine);
}

static void assert_same_tensors(KinditContext *ctx, const Safetensors *found, const Safetensors *expected) {
    assert_int_equal(found->n_tensors, expected->n_tensors);
    for (int i = 0; i < expected->n_tensors; i++) {
        const Tensor *theirs = &expected->tensors[i], *ours;
        assert_ok(ctx, safetensors_require(found, ctx, theirs->name, theirs->n_dims, theirs->shape, &ours));
        assert_int_equal(ours->dtype, theirs->dtype);
        assert_memory_equal(ours->data, theirs->data, theirs->n_bytes);
    }
}

static void test_writes_what_numpy_writes(void **state) {
    Scratch *scratch = *state;
    KinditContext *ctx = scratch->ctx;
    Engine *engine = open_engine(ctx);
    Model *model = open_golden(scratch, engine, "model/kind_p4");
    for (StorageType type = STORAGE_INT8; type <= STORAGE_INT4; type++) {
        Safetensors found, expected;
        char golden[64];
        snprintf(golden, sizeof golden, "model/storage/%s.safetensors", storage_name(type));
        assert_ok(ctx, safetensors_open(&expected, ctx, scratch_golden(scratch, golden)));
        assert_ok(ctx, model_write(model, scratch_path(scratch, "m.safetensors"), type, true));
        assert_ok(ctx, safetensors_open(&found, ctx, scratch->path));
        assert_same_tensors(ctx, &found, &expected);
        assert_string_equal(storage_of_file(&found), storage_name(type));
        safetensors_close(&found);
        safetensors_close(&expected);
    }
    model_close(&model);
    engine_close(&engine);
}

// The bytes that integer kernels are to take are where storage_file.h says.
static void test_integers_in_place(void **state) {
    Scratch *scratch = *state;
    KinditContext *ctx = scratch->ctx;
    Engine *engine = open_engine(ctx);
    Model *model = open_golden(scratch, engine, "model/kind_p4");
    const ParamLayout *layout = &model->dit->layout;
    Safetensors file;
    assert_ok(ctx, safetensors_open(&file, ctx, scratch_golden(scratch, "model/storage/int8.safetensors")));
    for (int i = 0; i < layout->n_specs; i++) {
        const ParamSpec *spec = &layout->specs[i];
        int64_t n_rows = spec->shape[0] + 2 * spec->tailor_rows;
        StoredTensor tensor;
        float row[256], scale;
        assert_ok(ctx, storage_find(&tensor, &file, ctx, spec, n_rows));
        assert_int_equal(tensor.bits, spec->quantise ? 8 : 0);
        if (!spec->quantise) continue;
        size_t last = (size_t)n_rows - 1;
        assert_ok(ctx, storage_read(&tensor, ctx, last, 1, row));
        assert_ok(ctx, tensor_read_float(tensor.scales, ctx, last, 1, &scale));
        const int8_t *q = (const int8_t *)tensor.weights->data + last * (size_t)tensor.weights->shape[1];
        for (size_t k = 0; k < spec->row; k++) assert_true(row[k] == scale * (float)q[k]);
    }
    safetensors_close(&file);
    model_close(&model);
    engine_close(&engine);
}

// ---- what is refused -----------------------------------------------------------------------------------------------

typedef enum Damage { DROP, RETYPE, TRANSPOSE, FILL } Damage;

// Copies a file with one tensor of it dropped, of another type of as many bytes, with its shape turned round, or with
// its first two bytes those of `value`.
static void damage_file(KinditContext *ctx, const char *from, const char *to, const char *name, Damage damage,
                        int value) {
    Safetensors file;
    assert_ok(ctx, safetensors_open(&file, ctx, from));
    Tensor tensors[256];
    int n = 0;
    uint8_t *copy = NULL;
    for (int i = 0; i < file.n_tensors; i++) {
        Tensor *tensor = &tensors[n++];
        *tensor = file.tensors[i];
        if (strcmp(tensor->name, name) != 0) continue;
        int64_t first = tensor->shape[0];
        copy = malloc(tensor->n_bytes);
        memcpy(copy, tensor->data, tensor->n_bytes);
        tensor->data = copy;
        if (damage == DROP) n--;
        if (damage == RETYPE) tensor->dtype = (Dtype)value;
        if (damage == TRANSPOSE) tensor->shape[0] = tensor->shape[1], tensor->shape[1] = first;
        if (damage == FILL) copy[0] = (uint8_t)value, copy[1] = (uint8_t)(value >> 8);
    }
    if (!copy) fail_msg("%s has no %s", from, name);
    assert_ok(ctx, safetensors_write(ctx, to, tensors, n, (const char *const(*)[2])file.metadata, file.n_metadata));
    free(copy);
    safetensors_close(&file);
}

static void test_refuses_damage(void **state) {
    static const char u[] = "blocks.0.attn.q.U", scale[] = "blocks.0.attn.q.U.scale", bias[] = "blocks.0.attn.q.bias";
    static const struct {
        StorageType type;
        const char *name;
        Damage damage;
        int value;
        const char *message;
    } cases[] = {
        {STORAGE_INT8, scale, DROP, 0, "\"blocks.0.attn.q.U.scale\" of shape (9, 1) is missing"},
        {STORAGE_INT4, scale, DROP, 0, "\"blocks.0.attn.q.U.scale\" of shape (9, 1) is missing"},
        {STORAGE_INT8, u, DROP, 0, "\"blocks.0.attn.q.U.scale\" is not one"}, // a scale of nothing
        {STORAGE_BF16, u, DROP, 0, "\"blocks.0.attn.q.U\" of shape (9, 24) is missing"},
        {STORAGE_INT8, scale, TRANSPOSE, 0, "expected shape (9, 1), found (1, 9)"},
        {STORAGE_INT4, "blocks.0.mlp.fc1.V.scale", TRANSPOSE, 0, "expected shape (9, 3), found (3, 9)"},
        {STORAGE_INT8, u, TRANSPOSE, 0, "expected shape (9, 24), found (24, 9)"},
        {STORAGE_INT8, scale, RETYPE, DTYPE_F16, "U.scale\": expected BF16, found F16"},
        {STORAGE_INT8, u, RETYPE, DTYPE_U8, "expected shape (9, 12), found (9, 24)"}, // packed otherwise
        {STORAGE_INT4, u, RETYPE, DTYPE_I8, "storage is \"int4\", but the tensors of"},
        {STORAGE_F32, u, RETYPE, DTYPE_I32, "expected F32, BF16, F16, I8 or U8, found I32"},
        {STORAGE_F32, bias, RETYPE, DTYPE_I32, "expected F32, BF16 or F16, found I32"},
        {STORAGE_INT8, scale, FILL, 0x7fc0, "U.scale\": row 0: expected numbers from 0 to 2^120"}, // NaN
        {STORAGE_INT4, scale, FILL, 0x7f80, "U.scale\": row 0: expected numbers from 0 to 2^120"}, // infinity
        {STORAGE_INT8, scale, FILL, 0xbf80, "U.scale\": row 0: expected numbers from 0 to 2^120"}, // -1
    };
    Scratch *scratch = *state;
    KinditContext *ctx = scratch->ctx;
    Engine *engine = open_engine(ctx);
    Model *model = open_golden(scratch, engine, "model/kind_p4"), *read;
    char good[1024], bad[1024];
    strcpy(good, scratch_path(scratch, "good.safetensors"));
    strcpy(bad, scratch_path(scratch, "bad.safetensors"));
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_ok(ctx, model_write(model, good, cases[i].type, true));
        damage_file(ctx, good, bad, cases[i].name, cases[i].damage, cases[i].value);
        if (model_open(&read, ctx, engine, bad, NULL) != KINDIT_ERROR_FORMAT) fail_msg("loads: %zu", i);
        if (!strstr(kindit_context_message(ctx), cases[i].message) || !strstr(kindit_context_message(ctx), bad))
            fail_msg("%zu: \"%s\"", i, kindit_context_message(ctx));
    }
    model_close(&model);
    engine_close(&engine);
}

// NaN, infinity and what is too large are not written in few bits; floats keep them.
static void test_refuses_numbers(void **state) {
    static const float numbers[] = {NAN, -INFINITY, 0x1p121f};
    Scratch *scratch = *state;
    KinditContext *ctx = scratch->ctx;
    Engine *engine = open_engine(ctx);
    Model *model = open_golden(scratch, engine, "model/kind_p4");
    const Linear *fc1 = &model->dit->blocks[0].in;
    const ParamSpec *spec = &model->dit->layout.specs[fc1->param[2]]; // V of class "b"
    assert_string_equal(spec->name, "blocks.0.mlp.fc1.V");
    const char *path = scratch_path(scratch, "m.safetensors");
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        engine_upload(engine, model->params.tailor[1] + spec->tailor_offset + 95, &numbers[i], 1);
        assert_fails(ctx, model_write(model, path, STORAGE_INT8, false), KINDIT_ERROR_NUMERIC,
                     "tensor \"blocks.0.mlp.fc1.V\": row 1: int8");
        assert_fails(ctx, model_write(model, path, STORAGE_INT4, false), KINDIT_ERROR_NUMERIC,
                     "tensor \"blocks.0.mlp.fc1.V\": row 1: int4");
        assert_false(file_exists(path));
        assert_ok(ctx, model_write(model, path, STORAGE_BF16, false));
        assert_int_equal(remove(path), 0);
    }
    model_close(&model);
    engine_close(&engine);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        scratch_test(test_reads_what_numpy_wrote), scratch_test(test_writes_what_numpy_writes),
        scratch_test(test_integers_in_place),      scratch_test(test_refuses_damage),
        scratch_test(test_refuses_numbers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
