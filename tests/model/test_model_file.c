// Models on disk: every shape loads what was written, and nothing that is not exactly a model loads.
#include "base/json.h"
#include "model/models.h"

enum { N = 4 };
static const int all[N] = {0, 1, 2, 3};

static Engine *open_engine(KinditContext *ctx) {
    Engine *engine;
    assert_ok(ctx, engine_create(&engine, ctx));
    return engine;
}

static void check_round_trip(Scratch *scratch, bool factored, StorageType type, const char *name) {
    Engine *engine = open_engine(scratch->ctx);
    DitConfig config = models_config(factored);
    Model *model = models_create(scratch->ctx, engine, &config), *read;
    const char *path = scratch_path(scratch, name);
    assert_ok(scratch->ctx, model_write(model, path, type, false));
    assert_ok(scratch->ctx, model_open(&read, scratch->ctx, engine, path, NULL));
    models_assert_equal(read, model, all, N, type);
    assert_true(cJSON_Compare(read->config, model->config, true));
    assert_int_equal(read->form, MODEL_WHOLE);
    assert_string_equal(read->learngene_sha256, "");
    model_close(&read);
    // In another order, a part only, by id and by name; an id goes before a name: "a" is also the name of c-1.x.
    assert_ok(scratch->ctx, model_open(&read, scratch->ctx, engine, path, "d, Letter B,a"));
    models_assert_equal(read, model, (int[]){3, 1, 0}, 3, type);
    assert_int_equal(model_classes_find(read->classes, read->dit->config.n_classes, "Letter D"), 0);
    assert_int_equal(model_classes_find(read->classes, read->dit->config.n_classes, "c-1.x"), -1);
    model_close(&read);
    assert_ok(scratch->ctx, model_open(&read, scratch->ctx, engine, path, ""));
    models_assert_equal(read, model, NULL, 0, type);
    model_close(&read);
    model_close(&model);
    engine_close(&engine);
}

static void test_round_trips(void **state) {
    for (int type = 0; type < STORAGE_TYPES; type++) {
        char name[4][64];
        snprintf(name[0], sizeof name[0], "factored-%s", storage_name((StorageType)type));
        snprintf(name[1], sizeof name[1], "factored-%s.safetensors", storage_name((StorageType)type));
        snprintf(name[2], sizeof name[2], "dense-%s/", storage_name((StorageType)type));
        snprintf(name[3], sizeof name[3], "dense-%s.safetensors", storage_name((StorageType)type));
        for (int i = 0; i < 4; i++) check_round_trip(*state, i < 2, (StorageType)type, name[i]);
    }
}

static void test_options_of_the_config(void **state) {
    Scratch *scratch = *state;
    Engine *engine = open_engine(scratch->ctx);
    DitConfig config = models_config(true);
    config.fused_qkv = config.factor_adaln = true;
    config.learn_sigma = false;
    config.time_shift = 1;
    config.mlp_norm_eps = 1e-5;
    Model *model = models_create(scratch->ctx, engine, &config), *read;
    const char *path = scratch_path(scratch, "table-1");
    cJSON_AddNumberToObject(model->config, "of_somebody_else", 7);
    assert_ok(scratch->ctx, model_write(model, path, STORAGE_F32, false));
    assert_ok(scratch->ctx, model_open(&read, scratch->ctx, engine, path, NULL));
    models_assert_equal(read, model, all, N, STORAGE_F32);
    assert_true(read->dit->config.fused_qkv && read->dit->config.factor_adaln && !read->dit->config.learn_sigma);
    assert_true(read->dit->config.time_shift == 1 && read->dit->config.mlp_norm_eps == 1e-5);
    assert_non_null(cJSON_GetObjectItemCaseSensitive(read->config, "of_somebody_else"));
    model_close(&read);
    model_close(&model);
    engine_close(&engine);
}

// The file holds the real rows under the state dict's names, tailors first, and no padding.
static void test_tensors_of_the_file(void **state) {
    Scratch *scratch = *state;
    KinditContext *ctx = scratch->ctx;
    Engine *engine = open_engine(ctx);
    DitConfig config = models_config(true);
    Model *model = models_create(ctx, engine, &config);
    const char *path = scratch_path(scratch, "m.safetensors");
    assert_ok(ctx, model_write(model, path, STORAGE_F32, false));
    Safetensors file;
    const Tensor *s, *label;
    assert_ok(ctx, safetensors_open(&file, ctx, path));
    assert_int_equal(file.n_tensors, model->dit->layout.n_specs);
    assert_ok(ctx, safetensors_require(&file, ctx, "blocks.1.attn.q.s", 1, (int64_t[]){4 * 3 + 5}, &s));
    assert_ok(ctx, safetensors_require(&file, ctx, "y_embedder.embedding_table.weight", 2, (int64_t[]){5, 12}, &label));
    float found[5 * 12], expected[12];
    const ParamSpec *spec = &model->dit->layout.specs[model->dit->label];
    assert_ok(ctx, tensor_read_float(label, ctx, 0, 60, found));
    for (int c = 0; c < 5; c++) {
        engine_download(
            engine, expected,
            c < 4 ? model->params.tailor[c] + spec->tailor_offset : model->params.shared + spec->shared_offset, 12);
        assert_memory_equal(found + 12 * c, expected, sizeof expected);
    }
    safetensors_close(&file);
    model_close(&model);
    engine_close(&engine);
}

static void make_run(Scratch *scratch, Engine *engine, const char *checkpoint, const ModelClass *classes) {
    DitConfig config = models_config(true);
    config.n_classes = 1;
    Model *model;
    assert_ok(scratch->ctx, model_create(&model, scratch->ctx, engine, &config, classes, 1));
    char path[128];
    snprintf(path, sizeof path, "run/checkpoints/%s", checkpoint);
    assert_ok(scratch->ctx, model_write(model, scratch_path(scratch, path), STORAGE_F32, false));
    model_close(&model);
}

static void test_newest_checkpoint(void **state) {
    Scratch *scratch = *state;
    Engine *engine = open_engine(scratch->ctx);
    Model *model;
    assert_ok(scratch->ctx, file_make_folder(scratch->ctx, scratch_path(scratch, "run/checkpoints/step-12.tmp")));
    assert_fails(scratch->ctx, model_open(&model, scratch->ctx, engine, scratch_path(scratch, "run"), NULL),
                 KINDIT_ERROR_ARGUMENT, "no complete checkpoint");
    make_run(scratch, engine, "step-9", (ModelClass[]){{"nine", "9"}});
    make_run(scratch, engine, "step-10", (ModelClass[]){{"ten", "10"}}); // not the last in the order of strings
    make_run(scratch, engine, "step-11.old", (ModelClass[]){{"old", "old"}});
    assert_ok(scratch->ctx, model_open(&model, scratch->ctx, engine, scratch_path(scratch, "run"), NULL));
    assert_string_equal(model->classes[0].id, "ten");
    model_close(&model);
    engine_close(&engine);
}

static void test_refuses_to_replace(void **state) {
    Scratch *scratch = *state;
    KinditContext *ctx = scratch->ctx;
    Engine *engine = open_engine(ctx);
    DitConfig config = models_config(true);
    Model *model = models_create(ctx, engine, &config), *read;
    assert_ok(ctx, file_make_folder(ctx, scratch_path(scratch, "m")));
    const char *path = scratch->path;
    assert_ok(ctx, model_write(model, path, STORAGE_F32, false)); // an empty folder is no obstacle
    assert_fails(ctx, model_write(model, path, STORAGE_F32, false), KINDIT_ERROR_ARGUMENT, "not empty");
    assert_ok(ctx, model_write(model, path, STORAGE_BF16, true));
    assert_ok(ctx, model_open(&read, ctx, engine, path, NULL));
    models_assert_equal(read, model, all, N, STORAGE_BF16);
    model_close(&read);
    assert_ok(ctx, file_write(ctx, scratch_path(scratch, "m/thesis.tex"), "x", 1));
    assert_fails(ctx, model_write(model, scratch_path(scratch, "m"), STORAGE_F32, true), KINDIT_ERROR_ARGUMENT,
                 "thesis.tex");
    assert_true(file_exists(scratch_path(scratch, "m/thesis.tex")));
    assert_ok(ctx, model_write(model, scratch_path(scratch, "m.safetensors"), STORAGE_F32, false));
    assert_fails(ctx, model_write(model, scratch->path, STORAGE_F32, false), KINDIT_ERROR_ARGUMENT, "exists");
    assert_ok(ctx, model_write(model, scratch->path, STORAGE_F32, true));
    model_close(&model);
    engine_close(&engine);
}

// Each edit of a good model, as text of config.json or of the tensors' header, and what the refusal says.
static void test_refuses_what_is_not_exact(void **state) {
    static const struct {
        const char *file, *old, *new, *message;
    } edits[] = {
        {"config.json", "\"format\":\t1", "\"format\":\t4", "format 4 is newer than this program reads (3)"},
        {"config.json", "\"storage\":\t\"f32\"", "\"storage\":\t\"int3\"", "storage is \"int3\", but the tensors of"},
        {"config.json", "\"kind\":\t\"kind\"", "\"kind\":\t\"lora\"", "lora"},
        {"config.json", "\"depth\":\t2,", "", "depth"},
        {"config.json", "\"depth\":\t2", "\"depth\":\t1", "blocks.1."},
        {"config.json", "\"depth\":\t2", "\"depth\":\t3", "blocks.2."},
        {"config.json", "\"depth\":\t2", "\"depth\":\t-2", "depth"},
        {"config.json", "\"n_tailor\":\t3", "\"n_tailor\":\t4000", "expected shape (16005, 12), found (17, 12)"},
        {"config.json", "\"n_learngene\":\t5", "\"n_learngene\":\t60000", "expected shape (60012, 12), found (17, 12)"},
        {"config.json", "\"width\":\t12", "\"width\":\t16384", "x_embedder"},
        // 2 TB of weights: no memory is asked for before the file has been found not to hold them.
        {"config.json", "\"width\":\t12,\n\t\"depth\":\t2", "\"width\":\t16384,\n\t\"depth\":\t256", "x_embedder"},
        {"config.json", "\"heads\":\t2", "\"heads\":\t5", "heads"},
        {"config.json", "\"id\":\t\"b\"", "\"id\":\t\"a\"", "class \"a\" is listed twice"},
        {"config.json", "\"id\":\t\"b\"", "\"id\":\t\"../b\"", "class id"},
        {"config.json", "\"id\":\t\"b\"", "\"id\":\t\".b\"", "class id"},
        {"config.json", "\"id\":\t\"b\"", "\"id\":\t\"\"", "class id"},
        {"config.json", "\"Letter B\"", "\"Letter\\u001bB\"", "control"},
        {"config.json", "\"Letter B\"", "7", "name"},
        {"model.safetensors", "blocks.1.attn.q.U", "blocks.1.attn.q.X", "blocks.1.attn.q.X"},
        {"model.safetensors", "\"dtype\":\"F32\"", "\"dtype\":\"I32\"", "expected F32, BF16 or F16, found I32"},
        {"model.safetensors", "\"shape\":[17,12]", "\"shape\":[12,17]", "expected shape (17, 12), found (12, 17)"},
    };
    Scratch *scratch = *state;
    KinditContext *ctx = scratch->ctx;
    Engine *engine = open_engine(ctx);
    DitConfig config = models_config(true);
    Model *model = models_create(ctx, engine, &config), *read;
    size_t held = engine_allocated(engine);
    for (size_t i = 0; i < sizeof edits / sizeof *edits; i++) {
        char path[64];
        assert_ok(ctx, model_write(model, scratch_path(scratch, "m"), STORAGE_F32, true));
        snprintf(path, sizeof path, "m/%s", edits[i].file);
        models_edit(ctx, scratch_path(scratch, path), edits[i].old, edits[i].new);
        if (model_open(&read, ctx, engine, scratch_path(scratch, "m"), NULL) == KINDIT_OK)
            fail_msg("loads: %s", edits[i].new);
        assert_null(read);
        if (!strstr(kindit_context_message(ctx), edits[i].message) ||
            !strstr(kindit_context_message(ctx), scratch->path))
            fail_msg("%s: \"%s\"", edits[i].new, kindit_context_message(ctx));
        assert_int_equal(engine_allocated(engine), held);
    }
    model_close(&model);
    engine_close(&engine);
}

static void test_classes_asked_for(void **state) {
    Scratch *scratch = *state;
    KinditContext *ctx = scratch->ctx;
    Engine *engine = open_engine(ctx);
    DitConfig config = models_config(true);
    Model *model = models_create(ctx, engine, &config), *read;
    const char *path = scratch_path(scratch, "m.safetensors");
    assert_ok(ctx, model_write(model, path, STORAGE_F32, false));
    assert_fails(ctx, model_open(&read, ctx, engine, path, "a,z"), KINDIT_ERROR_ARGUMENT,
                 "no class \"z\"; there are: a, b, c-1.x, d");
    assert_fails(ctx, model_open(&read, ctx, engine, path, "a,Letter A"), KINDIT_ERROR_ARGUMENT, "twice");
    assert_fails(ctx, model_open(&read, ctx, engine, path, "a,"), KINDIT_ERROR_ARGUMENT, "no class \"\"");
    assert_fails(ctx, model_open(&read, ctx, engine, scratch_path(scratch, "nowhere"), NULL), KINDIT_ERROR_IO,
                 "nowhere");
    assert_fails(ctx, model_open(&read, ctx, engine, scratch->folder, NULL), KINDIT_ERROR_ARGUMENT, "not a model");
    model_close(&model);
    engine_close(&engine);
}

static void test_classes_of_a_new_model(void **state) {
    Scratch *scratch = *state;
    Engine *engine = open_engine(scratch->ctx);
    DitConfig config = models_config(true);
    config.n_classes = 2;
    Model *model;
    assert_fails(scratch->ctx,
                 model_create(&model, scratch->ctx, engine, &config, (ModelClass[]){{"a", "A"}, {"a", "B"}}, 1),
                 KINDIT_ERROR_FORMAT, "listed twice");
    assert_fails(scratch->ctx,
                 model_create(&model, scratch->ctx, engine, &config, (ModelClass[]){{"a", "A"}, {"a/b", "B"}}, 1),
                 KINDIT_ERROR_FORMAT, "a/b");
    assert_null(model);
    engine_close(&engine);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        scratch_test(test_round_trips),         scratch_test(test_options_of_the_config),
        scratch_test(test_tensors_of_the_file), scratch_test(test_newest_checkpoint),
        scratch_test(test_refuses_to_replace),  scratch_test(test_refuses_what_is_not_exact),
        scratch_test(test_classes_asked_for),   scratch_test(test_classes_of_a_new_model),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
