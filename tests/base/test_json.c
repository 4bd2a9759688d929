#include "base/json.h"
#include "scratch.h"

static KinditStatus parse(KinditContext *ctx, const char *text) {
    cJSON *value;
    KinditStatus status = json_parse(&value, ctx, "text", text, strlen(text));
    assert_true((status == KINDIT_OK) == (value != NULL));
    cJSON_Delete(value);
    return status;
}

static void test_accepts_json(void **state) {
    KinditContext *ctx = ((Scratch *)*state)->ctx;
    assert_ok(ctx, parse(ctx, "{}"));
    assert_ok(ctx, parse(ctx, " [1, -2.5e3, true, null, \"a\\\"]\\u00e9\"] \n"));
    assert_ok(ctx, parse(ctx, "{\"a\": {\"a\": 1}, \"A\": 2}")); // equal names in different objects, case counts
    cJSON *value;
    assert_ok(ctx, json_parse(&value, ctx, "text", "[1]garbage", 3)); // exactly `size` bytes
    cJSON_Delete(value);
}

static void test_refuses_what_is_not_json(void **state) {
    KinditContext *ctx = ((Scratch *)*state)->ctx;
    const char *bad[] = {"",      " ",    "{",   "[1,",    "{\"a\":}", "{\"a\" 1}",
                         "[1] x", "{}{}", "nul", "\"open", "\"open\\", "{\"1\":1,"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) assert_int_equal(parse(ctx, bad[i]), KINDIT_ERROR_FORMAT);
    assert_fails(ctx, parse(ctx, "{\"a\": 1, \"b\": 2, \"a\": 3}"), KINDIT_ERROR_FORMAT, "\"a\" appears twice");
    assert_fails(ctx, parse(ctx, "[[{\"a\": {\"k\": 1, \"k\": 2}}]]"), KINDIT_ERROR_FORMAT, "\"k\" appears twice");
    assert_fails(ctx, parse(ctx, "{\"a\\u0000b\": 1}"), KINDIT_ERROR_FORMAT, "control character");
    assert_fails(ctx, parse(ctx, "[\"a\nb\"]"), KINDIT_ERROR_FORMAT, "control character");
    cJSON *value;
    assert_int_equal(json_parse(&value, ctx, "text", "[1,\0 2]", 7), KINDIT_ERROR_FORMAT);
}

static void test_depth_is_bounded(void **state) {
    KinditContext *ctx = ((Scratch *)*state)->ctx;
    enum { DEEP = 10000 };
    static char text[2 * DEEP + 1];
    for (int depth = 64; depth <= 65; depth++) {
        memset(text, '[', (size_t)depth);
        memset(text + depth, ']', (size_t)depth);
        text[2 * depth] = '\0';
        assert_int_equal(parse(ctx, text), depth == 64 ? KINDIT_OK : KINDIT_ERROR_FORMAT);
    }
    memset(text, '[', 2 * DEEP);
    text[2 * DEEP] = '\0';
    assert_fails(ctx, parse(ctx, text), KINDIT_ERROR_FORMAT, "nested deeper than 64");
    assert_ok(ctx, parse(ctx, "[\"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[\"]"));
}

// In quadratic time this would take minutes.
static void test_many_keys_are_checked_fast(void **state) {
    KinditContext *ctx = ((Scratch *)*state)->ctx;
    enum { N = 200000 };
    char *text = malloc(N * 16), *at = text;
    for (int i = 0; i < N; i++) at += sprintf(at, "%s\"%d\":0", i ? "," : "{", i);
    strcpy(at, "}");
    assert_ok(ctx, parse(ctx, text));
    strcpy(at, ",\"7\":1}");
    assert_fails(ctx, parse(ctx, text), KINDIT_ERROR_FORMAT, "\"7\" appears twice");
    free(text);
}

static void test_getters(void **state) {
    KinditContext *ctx = ((Scratch *)*state)->ctx;
    const char text[] =
        "{\"i\": 7, \"d\": 1.5, \"big\": 1e300, \"inf\": 1e999, \"b\": true, \"s\": \"x\", \"o\": {}, \"a\": []}";
    cJSON *object;
    assert_ok(ctx, json_parse(&object, ctx, "conf", text, sizeof text - 1));
    int64_t integer;
    double number;
    bool flag;
    const char *string;
    const cJSON *item;
    assert_ok(ctx, json_get_int(object, ctx, "conf", "i", 7, 7, &integer));
    assert_int_equal(integer, 7);
    assert_fails(ctx, json_get_int(object, ctx, "conf", "i", 8, 9, &integer), KINDIT_ERROR_FORMAT,
                 "expected 8..9, found 7");
    assert_fails(ctx, json_get_int(object, ctx, "conf", "d", 0, 9, &integer), KINDIT_ERROR_FORMAT, "an integer");
    assert_fails(ctx, json_get_int(object, ctx, "conf", "big", 0, 9, &integer), KINDIT_ERROR_FORMAT, "an integer");
    assert_fails(ctx, json_get_int(object, ctx, "conf", "inf", 0, 9, &integer), KINDIT_ERROR_FORMAT, "an integer");
    assert_fails(ctx, json_get_int(object, ctx, "conf", "I", 0, 9, &integer), KINDIT_ERROR_FORMAT, "\"I\" is missing");
    assert_ok(ctx, json_get_double(object, ctx, "conf", "d", &number));
    assert_true(number == 1.5);
    assert_fails(ctx, json_get_double(object, ctx, "conf", "inf", &number), KINDIT_ERROR_FORMAT, "finite");
    assert_ok(ctx, json_get_bool(object, ctx, "conf", "b", &flag));
    assert_true(flag);
    assert_fails(ctx, json_get_bool(object, ctx, "conf", "i", &flag), KINDIT_ERROR_FORMAT,
                 "conf: \"i\": expected true");
    assert_ok(ctx, json_get_string(object, ctx, "conf", "s", &string));
    assert_string_equal(string, "x");
    assert_ok(ctx, json_get_object(object, ctx, "conf", "o", &item));
    assert_ok(ctx, json_get_array(object, ctx, "conf", "a", &item));
    assert_int_equal(json_get_array(object, ctx, "conf", "o", &item), KINDIT_ERROR_FORMAT);
    assert_int_equal(json_get_object(object, ctx, "conf", "a", &item), KINDIT_ERROR_FORMAT);
    cJSON_Delete(object);
}

static void test_write_then_read(void **state) {
    Scratch *scratch = *state;
    cJSON *value, *again;
    const char text[] = "{\"a\": [1, 0.1, \"\\u00e9\\n\"], \"big\": 9007199254740992}";
    assert_ok(scratch->ctx, json_parse(&value, scratch->ctx, "text", text, sizeof text - 1));
    const char *path = scratch_path(scratch, "file.json");
    assert_ok(scratch->ctx, json_write(scratch->ctx, path, value));
    assert_ok(scratch->ctx, json_read(&again, scratch->ctx, path));
    assert_true(cJSON_Compare(value, again, true));
    int64_t big;
    assert_ok(scratch->ctx, json_get_int(again, scratch->ctx, path, "big", 0, INT64_MAX, &big));
    assert_true(big == 9007199254740992);
    cJSON_Delete(value);
    cJSON_Delete(again);
    value = cJSON_CreateNumber(1.0 / 3);
    assert_ok(scratch->ctx, json_write(scratch->ctx, path, value));
    assert_ok(scratch->ctx, json_read(&again, scratch->ctx, path));
    assert_true(again->valuedouble == 1.0 / 3);
    cJSON_Delete(again);
    cJSON_SetNumberValue(value, 0.0 / 0.0);
    assert_int_equal(json_write(scratch->ctx, path, value), KINDIT_ERROR_NUMERIC);
    cJSON_Delete(value);
    assert_int_equal(json_read(&value, scratch->ctx, "/nonexistent"), KINDIT_ERROR_IO);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        scratch_test(test_accepts_json),     scratch_test(test_refuses_what_is_not_json),
        scratch_test(test_depth_is_bounded), scratch_test(test_many_keys_are_checked_fast),
        scratch_test(test_getters),          scratch_test(test_write_then_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
