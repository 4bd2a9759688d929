// Tailors dropped into a decomposed folder whose config does not list them: what fits joins, what does not is refused
// with a message that names both sides.
#include "base/json.h"
#include "kind/fixture.h"

enum { N = 4 };

static void copy_part(Fixture *f, const char *from, const char *to) {
    FileMap map;
    assert_ok(f->ctx, file_map(&map, f->ctx, scratch_path(f->scratch, from)));
    assert_ok(f->ctx, file_write(f->ctx, scratch_path(f->scratch, to), map.data, map.size));
    file_unmap(&map);
}

// Takes class "d", the last, out of config.json: its file is there, but nothing lists it.
static void unlist_d(Fixture *f) {
    char path[1024];
    cJSON *config;
    assert_ok(f->ctx, file_path(path, f->ctx, "%s/config.json", f->parts));
    assert_ok(f->ctx, json_read(&config, f->ctx, path));
    cJSON_DeleteItemFromArray(cJSON_GetObjectItem(config, "classes"), N - 1);
    cJSON_DeleteItemFromObject(cJSON_GetObjectItem(config, "sha256"), "tailors/d.safetensors");
    assert_ok(f->ctx, json_write(f->ctx, path, config));
    cJSON_Delete(config);
}

static void test_unlisted(void **state) {
    Fixture f = fixture_open_parts(state);
    Model *read;
    unlist_d(&f);
    assert_ok(f.ctx, model_open(&read, f.ctx, f.engine, f.parts, NULL));
    models_assert_equal(read, f.model, (int[]){0, 1, 2, 3}, N, STORAGE_F32); // its name too, which only the file knows
    model_close(&read);
    assert_ok(f.ctx, model_open(&read, f.ctx, f.engine, f.parts, "Letter D,a"));
    models_assert_equal(read, f.model, (int[]){3, 0}, 2, STORAGE_F32);
    model_close(&read);
    fixture_close(&f);
}

// What lies in tailors/ and is not asked for hinders nobody.
static void test_only_what_is_asked_for(void **state) {
    Fixture f = fixture_open_parts(state);
    Model *read;
    copy_part(&f, "parts/config.json", "parts/tailors/noise.safetensors");
    copy_part(&f, "parts/config.json", "parts/tailors/.hidden.safetensors");
    copy_part(&f, "parts/config.json", "parts/tailors/notes.txt");
    assert_ok(f.ctx, model_open(&read, f.ctx, f.engine, f.parts, "a,b"));
    model_close(&read);
    assert_fails(f.ctx, model_open(&read, f.ctx, f.engine, f.parts, "noise"), KINDIT_ERROR_FORMAT,
                 "tailors/noise.safetensors: not a safetensors file");
    assert_fails(f.ctx, model_open(&read, f.ctx, f.engine, f.parts, NULL), KINDIT_ERROR_FORMAT, "noise.safetensors");
    copy_part(&f, "parts/config.json", "parts/tailors/a b.safetensors");
    assert_fails(f.ctx, model_open(&read, f.ctx, f.engine, f.parts, "a"), KINDIT_ERROR_FORMAT,
                 "tailors/a b.safetensors: class id \"a b\"");
    fixture_close(&f);
}

static void expect_both(Fixture *f, const char *classes, const char *one, const char *other) {
    Model *read;
    assert_fails(f->ctx, model_open(&read, f->ctx, f->engine, f->parts, classes), KINDIT_ERROR_FORMAT, one);
    if (!strstr(kindit_context_message(f->ctx), other))
        fail_msg("\"%s\" lacks \"%s\"", kindit_context_message(f->ctx), other);
}

static void test_class_twice(void **state) {
    Fixture f = fixture_open_parts(state);
    copy_part(&f, "parts/tailors/a.safetensors", "parts/tailors/again.safetensors");
    expect_both(&f, "again", "class \"a\" twice", "tailors/again.safetensors");
    expect_both(&f, NULL, "parts/tailors/a.safetensors", "tailors/again.safetensors");
    // Unlisted and under a name that is not its class's, which nobody else has.
    assert_int_equal(remove(scratch_path(f.scratch, "parts/tailors/again.safetensors")), 0);
    unlist_d(&f);
    copy_part(&f, "parts/tailors/d.safetensors", "parts/tailors/e.safetensors");
    assert_int_equal(remove(scratch_path(f.scratch, "parts/tailors/d.safetensors")), 0);
    expect_both(&f, "e", "expected the tailor of class \"e\", found \"d\"", "name the file as its class");
    fixture_close(&f);
}

static void test_other_learngene(void **state) {
    Fixture f = fixture_open_parts(state);
    Model *other;
    DitConfig config = models_config(true);
    assert_ok(f.ctx, model_create(&other, f.ctx, f.engine, &config,
                                  (ModelClass[]){{"z", "Z"}, {"y", "Y"}, {"x", "X"}, {"w", "W"}}, 99));
    assert_ok(f.ctx, decompose_write(other, f.ctx, scratch_path(f.scratch, "other"), STORAGE_F32, false));
    model_close(&other);
    copy_part(&f, "other/tailors/z.safetensors", "parts/tailors/z.safetensors");
    expect_both(&f, "z", "tailors/z.safetensors: belongs to the learngene with sha256",
                "parts/learngene.safetensors has");
    // Both hashes are in the message.
    FileMap map;
    char hash[2][65];
    static const char *const learngenes[2] = {"parts/learngene.safetensors", "other/learngene.safetensors"};
    for (int i = 0; i < 2; i++) {
        assert_ok(f.ctx, file_map(&map, f.ctx, scratch_path(f.scratch, learngenes[i])));
        file_sha256(map.data, map.size, hash[i]);
        file_unmap(&map);
    }
    expect_both(&f, "z", hash[0], hash[1]);
    fixture_close(&f);
}

// Edits of an unlisted tailor's header, each of the same length.
static void test_mismatched_headers(void **state) {
    static const struct {
        const char *old, *new, *one, *other;
    } edits[] = {
        {"\\\"format\\\":1", "\\\"format\\\":7", "tailors/d.safetensors: format 7 is newer", "reads (3)"},
        {"\\\"heads\\\":2", "\\\"heads\\\":3", "tailors/d.safetensors: made for a model with heads 3",
         "parts/config.json has 2"},
        {"\\\"n_tailor\\\":3", "\\\"n_tailor\\\":4", "made for a model with n_tailor 4", "has 3"},
        {"\"class\":\"d\"", "\"class\":\"e\"", "says it is of class \"e\"", "the first \"d\""},
        {"\"part\":\"tailor\"", "\"part\":\"mirror\"", "tailors/d.safetensors: not a tailor", "mirror"},
        {"\"blocks.1.attn.q.s\"", "\"blocks.1.attn.q.t\"", "tailors/d.safetensors: tensor", "blocks.1.attn.q.t"},
    };
    Fixture f = fixture_open_parts(state);
    char tailor[1024];
    unlist_d(&f);
    strcpy(tailor, scratch_path(f.scratch, "parts/tailors/d.safetensors"));
    copy_part(&f, "parts/tailors/d.safetensors", "d");
    for (size_t i = 0; i < sizeof edits / sizeof *edits; i++) {
        copy_part(&f, "d", "parts/tailors/d.safetensors");
        models_edit(f.ctx, tailor, edits[i].old, edits[i].new);
        Model *read;
        if (!model_open(&read, f.ctx, f.engine, f.parts, "d")) fail_msg("opens: %s", edits[i].new);
        const char *message = kindit_context_message(f.ctx);
        if (!strstr(message, edits[i].one) || !strstr(message, edits[i].other))
            fail_msg("%s: \"%s\"", edits[i].new, message);
    }
    fixture_close(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        scratch_test(test_unlisted),        scratch_test(test_only_what_is_asked_for), scratch_test(test_class_twice),
        scratch_test(test_other_learngene), scratch_test(test_mismatched_headers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
