#include "scratch.h"

static void test_messages(void **state) {
    KinditContext *ctx = ((Scratch *)*state)->ctx;
    assert_string_equal(kindit_context_message(ctx), "");
    assert_int_equal(context_fail(ctx, KINDIT_ERROR_IO, "%s: %d", "file", 3), KINDIT_ERROR_IO);
    assert_string_equal(kindit_context_message(ctx), "file: 3");
    assert_int_equal(context_prefix(ctx, KINDIT_ERROR_IO, "reading"), KINDIT_ERROR_IO);
    assert_string_equal(kindit_context_message(ctx), "reading: file: 3");
    for (int i = 0; i < 500; i++) context_prefix(ctx, KINDIT_ERROR_IO, "prefix"); // longer than the message can be
    assert_int_equal(strlen(kindit_context_message(ctx)), sizeof ctx->message - 1);
}

static void test_null_context(void **state) {
    (void)state;
    assert_int_equal(context_fail(NULL, KINDIT_ERROR_MEMORY, "lost"), KINDIT_ERROR_MEMORY);
    assert_int_equal(context_prefix(NULL, KINDIT_ERROR_MEMORY, "lost"), KINDIT_ERROR_MEMORY);
    context_log(NULL, KINDIT_LOG_INFO, "lost");
    assert_false(context_cancelled(NULL));
    assert_string_equal(kindit_context_message(NULL), "");
    KinditContext *none = NULL;
    kindit_context_close(&none);
    kindit_context_close(NULL);
    KinditContextSettings bad = {.threads = -1};
    assert_int_equal(kindit_context_create(&none, &bad), KINDIT_ERROR_ARGUMENT);
    assert_int_equal(kindit_context_create(NULL, NULL), KINDIT_ERROR_ARGUMENT);
}

typedef struct Heard {
    char line[64];
    int64_t done;
    bool cancel;
} Heard;

static void hear_log(void *user, KinditLogLevel level, const char *message) {
    snprintf(((Heard *)user)->line, 64, "%d %s", (int)level, message);
}

static void hear_progress(void *user, const KinditProgress *progress) {
    ((Heard *)user)->done = progress->done;
}

static bool hear_cancelled(void *user) {
    return ((Heard *)user)->cancel;
}

static void test_callbacks(void **state) {
    (void)state;
    Heard heard = {0};
    KinditContextSettings settings = kindit_context_settings_default();
    settings.user = &heard;
    settings.log = hear_log;
    settings.progress = hear_progress;
    settings.cancelled = hear_cancelled;
    KinditContext *ctx;
    assert_int_equal(kindit_context_create(&ctx, &settings), KINDIT_OK);
    context_log(ctx, KINDIT_LOG_WARNING, "n = %d", 5);
    assert_string_equal(heard.line, "1 n = 5");
    context_progress(ctx, &(KinditProgress){.done = 9});
    assert_int_equal(heard.done, 9);
    assert_false(context_cancelled(ctx));
    heard.cancel = true;
    assert_true(context_cancelled(ctx));
    kindit_context_close(&ctx);
    assert_null(ctx);
}

static void test_memory(void **state) {
    KinditContext *ctx = ((Scratch *)*state)->ctx;
    double *numbers;
    assert_ok(ctx, memory_alloc(ctx, 1000, sizeof *numbers, &numbers));
    assert_int_equal((uintptr_t)numbers % 64, 0);
    for (int i = 0; i < 1000; i++) assert_true(numbers[i] == 0);
    memory_free(&numbers);
    assert_null(numbers);
    memory_free(&numbers);
    assert_ok(ctx, memory_alloc(ctx, 0, 8, &numbers));
    memory_free(&numbers);
    assert_int_equal(memory_alloc(ctx, SIZE_MAX / 4, 8, &numbers), KINDIT_ERROR_MEMORY); // overflows
    assert_null(numbers);
    assert_int_equal(memory_alloc(ctx, SIZE_MAX - 8, 1, &numbers), KINDIT_ERROR_MEMORY);
    size_t product;
    assert_true(memory_multiply(1u << 20, 1u << 20, &product) && product == (size_t)1 << 40);
    assert_false(memory_multiply(SIZE_MAX, 2, &product));
}

static void test_arena(void **state) {
    KinditContext *ctx = ((Scratch *)*state)->ctx;
    Arena arena = {0};
    uint64_t *blocks[300];
    for (size_t i = 0; i < 300; i++) { // small, larger than a block, and empty
        size_t n = i % 100 == 99 ? 20000 : i % 7;
        assert_ok(ctx, arena_alloc(&arena, ctx, n, sizeof **blocks, &blocks[i]));
        assert_int_equal((uintptr_t)blocks[i] % 16, 0);
        for (size_t j = 0; j < n; j++) {
            assert_true(blocks[i][j] == 0);
            blocks[i][j] = i;
        }
    }
    for (size_t i = 1; i < 300; i++)
        if (i % 7) assert_true(blocks[i][0] == i);
    char *copy;
    assert_ok(ctx, arena_copy_string(&arena, ctx, "text", &copy));
    assert_string_equal(copy, "text");
    assert_int_equal(arena_alloc(&arena, ctx, SIZE_MAX, 2, &copy), KINDIT_ERROR_MEMORY);
    arena_close(&arena);
    arena_close(&arena);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        scratch_test(test_messages), scratch_test(test_null_context), scratch_test(test_callbacks),
        scratch_test(test_memory),   scratch_test(test_arena),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
