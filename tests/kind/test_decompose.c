// Taking apart: the parts are exactly the model, any subset of them loads, and a part that does not belong does not.
#include "kind/decompose.h"

#include <dirent.h>

#include "kind/fixture.h"

enum { N = 4 };
static const int all[N] = {0, 1, 2, 3};

static void check_parts(void **state, StorageType type) {
    Fixture f = fixture_open(state, true);
    Model *read;
    const char *folder = scratch_path(f.scratch, "parts");
    assert_ok(f.ctx, decompose_write(f.model, f.ctx, folder, type, true));
    assert_ok(f.ctx, model_open(&read, f.ctx, f.engine, folder, NULL));
    models_assert_equal(read, f.model, all, N, type);
    assert_int_equal(read->form, MODEL_DECOMPOSED);
    assert_int_equal(strlen(read->learngene_sha256), 64);
    assert_true(cJSON_Compare(read->config, f.model->config, true)); // the hashes are of the folder, not of the model

    // Taken apart and put back, written whole: the same file as the model itself gives.
    char whole[1024], again[1024];
    strcpy(whole, scratch_path(f.scratch, "whole.safetensors"));
    strcpy(again, scratch_path(f.scratch, "again.safetensors"));
    assert_ok(f.ctx, model_write(f.model, whole, type, true));
    assert_ok(f.ctx, model_write(read, again, type, true));
    assert_true(models_same_file(f.ctx, whole, again));
    model_close(&read);

    assert_ok(f.ctx, model_open(&read, f.ctx, f.engine, scratch_path(f.scratch, "parts"), "d,b"));
    models_assert_equal(read, f.model, (int[]){3, 1}, 2, type);
    model_close(&read);
    fixture_close(&f);
}

static void test_parts_of_every_type(void **state) {
    for (int type = 0; type < STORAGE_TYPES; type++) check_parts(state, (StorageType)type);
}

static void test_missing_tailors(void **state) {
    Fixture f = fixture_open(state, true);
    Model *read;
    char folder[1024];
    strcpy(folder, scratch_path(f.scratch, "parts"));
    assert_ok(f.ctx, decompose_write(f.model, f.ctx, folder, STORAGE_F32, false));
    assert_int_equal(remove(scratch_path(f.scratch, "parts/tailors/b.safetensors")), 0);
    assert_ok(f.ctx, model_open(&read, f.ctx, f.engine, folder, NULL));
    models_assert_equal(read, f.model, (int[]){0, 2, 3}, 3, STORAGE_F32);
    model_close(&read);
    assert_fails(f.ctx, model_open(&read, f.ctx, f.engine, folder, "a,b"), KINDIT_ERROR_ARGUMENT,
                 "no tailor file for class \"b\"; there are: a, c-1.x, d");
    fixture_close(&f);
}

static void test_parts_alone(void **state) {
    Fixture f = fixture_open(state, true);
    Model *read, *folder;
    assert_ok(f.ctx, decompose_write(f.model, f.ctx, scratch_path(f.scratch, "parts"), STORAGE_F32, false));
    assert_ok(f.ctx, model_open(&folder, f.ctx, f.engine, f.scratch->path, NULL));
    assert_ok(f.ctx, model_open(&read, f.ctx, f.engine, scratch_path(f.scratch, "parts/learngene.safetensors"), NULL));
    models_assert_equal(read, f.model, NULL, 0, STORAGE_F32);
    assert_string_equal(read->learngene_sha256, folder->learngene_sha256);
    model_close(&read);
    model_close(&folder);
    assert_fails(f.ctx,
                 model_open(&read, f.ctx, f.engine, scratch_path(f.scratch, "parts/tailors/a.safetensors"), NULL),
                 KINDIT_ERROR_ARGUMENT, "open the folder with its learngene");
    fixture_close(&f);
}

static void copy_file(Fixture *f, const char *from, const char *to) {
    FileMap map;
    assert_ok(f->ctx, file_map(&map, f->ctx, scratch_path(f->scratch, from)));
    assert_ok(f->ctx, file_write(f->ctx, scratch_path(f->scratch, to), map.data, map.size));
    file_unmap(&map);
}

// A tailor of another learngene, of another class, or with one bit turned; a learngene with one bit turned.
static void test_foreign_and_damaged_parts(void **state) {
    Fixture f = fixture_open(state, true);
    Model *read;
    DitConfig config = models_config(true);
    assert_ok(f.ctx, decompose_write(f.model, f.ctx, scratch_path(f.scratch, "one"), STORAGE_F32, false));
    model_close(&f.model);
    assert_ok(f.ctx, model_create(&f.model, f.ctx, f.engine, &config, test_classes, 99));
    assert_ok(f.ctx, decompose_write(f.model, f.ctx, scratch_path(f.scratch, "two"), STORAGE_F32, false));

    char one[1024];
    strcpy(one, scratch_path(f.scratch, "one"));
    copy_file(&f, "two/tailors/a.safetensors", "one/tailors/a.safetensors");
    assert_fails(f.ctx, model_open(&read, f.ctx, f.engine, one, NULL), KINDIT_ERROR_FORMAT,
                 "tailors/a.safetensors: belongs");
    assert_non_null(strstr(kindit_context_message(f.ctx), "one/learngene.safetensors has "));
    assert_ok(f.ctx, model_open(&read, f.ctx, f.engine, one, "b,d")); // what is not read is not judged
    model_close(&read);

    copy_file(&f, "one/tailors/d.safetensors", "one/tailors/b.safetensors");
    assert_fails(f.ctx, model_open(&read, f.ctx, f.engine, one, "b"), KINDIT_ERROR_FORMAT,
                 "expected the tailor of class \"b\", found \"d\"");

    FileMap map;
    assert_ok(f.ctx, file_map(&map, f.ctx, scratch_path(f.scratch, "one/tailors/d.safetensors")));
    uint8_t *bytes = malloc(map.size);
    memcpy(bytes, map.data, map.size);
    bytes[map.size - 1] ^= 1;
    assert_ok(f.ctx, file_write(f.ctx, f.scratch->path, bytes, map.size));
    free(bytes);
    file_unmap(&map);
    assert_fails(f.ctx, model_open(&read, f.ctx, f.engine, one, "d"), KINDIT_ERROR_FORMAT, "sha256");

    copy_file(&f, "two/learngene.safetensors", "one/learngene.safetensors");
    assert_fails(f.ctx, model_open(&read, f.ctx, f.engine, one, ""), KINDIT_ERROR_FORMAT,
                 "learngene.safetensors: damaged");
    fixture_close(&f);
}

static void test_config_of_a_folder(void **state) {
    static const struct {
        const char *old, *new, *message;
    } edits[] = {
        {"\"format\":\t1", "\"format\":\t9", "newer than this program reads (3)"},
        {"\"storage\":\t\"f32\"", "\"storage\":\t\"int8\"", "learngene.safetensors are f32"},
        {"\"id\":\t\"b\"", "\"id\":\t\"a\"", "listed twice"},
        {"\"n_tailor\":\t3", "\"n_tailor\":\t4", "tailors/a.safetensors: made for a model with n_tailor 3"},
        {"\"sha256\"", "\"sha512\"", "sha256"},
        {"tailors/a.safetensors", "tailors/A.safetensors", "\"tailors/a.safetensors\" is missing"},
        {"\"kind\":\t\"kind\"", "\"kind\":\t\"dense\"", "n_learngene"},
    };
    Fixture f = fixture_open(state, true);
    Model *read;
    for (size_t i = 0; i < sizeof edits / sizeof *edits; i++) {
        assert_ok(f.ctx, decompose_write(f.model, f.ctx, scratch_path(f.scratch, "parts"), STORAGE_F32, true));
        models_edit(f.ctx, scratch_path(f.scratch, "parts/config.json"), edits[i].old, edits[i].new);
        if (!model_open(&read, f.ctx, f.engine, scratch_path(f.scratch, "parts"), NULL))
            fail_msg("loads: %s", edits[i].new);
        if (!strstr(kindit_context_message(f.ctx), edits[i].message))
            fail_msg("%s: \"%s\"", edits[i].new, kindit_context_message(f.ctx));
    }
    fixture_close(&f);
}

static int count_entries(const char *path) {
    DIR *folder = opendir(path);
    assert_non_null(folder);
    int n = 0;
    while (readdir(folder)) n++;
    closedir(folder);
    return n - 2;
}

static void test_refusals(void **state) {
    Fixture f = fixture_open(state, true);
    Model *dense;
    DitConfig config = models_config(false);
    assert_ok(f.ctx, model_create(&dense, f.ctx, f.engine, &config, test_classes, 1));
    assert_fails(f.ctx, decompose_write(dense, f.ctx, scratch_path(f.scratch, "dense"), STORAGE_F32, false),
                 KINDIT_ERROR_ARGUMENT, "dense");
    model_close(&dense);
    assert_int_equal(count_entries(f.scratch->folder), 0); // nothing half-written, no temporary folder
    assert_ok(f.ctx, decompose_write(f.model, f.ctx, scratch_path(f.scratch, "parts"), STORAGE_F32, false));
    assert_fails(f.ctx, decompose_write(f.model, f.ctx, f.scratch->path, STORAGE_F32, false), KINDIT_ERROR_ARGUMENT,
                 "not empty");
    assert_ok(f.ctx, decompose_write(f.model, f.ctx, f.scratch->path, STORAGE_F32, true));
    assert_int_equal(count_entries(f.scratch->folder), 1);
    fixture_close(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        scratch_test(test_parts_of_every_type), scratch_test(test_missing_tailors),
        scratch_test(test_parts_alone),         scratch_test(test_foreign_and_damaged_parts),
        scratch_test(test_config_of_a_folder),  scratch_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
