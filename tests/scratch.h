// What the tests share: cmocka, a context, an empty folder that goes with the test, and access to golden files.
#ifndef TESTS_SCRATCH_H
#define TESTS_SCRATCH_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/context.h"
#include "base/file.h"
#include "base/memory.h"

typedef struct Scratch {
    KinditContext *ctx;
    char folder[64], path[1024]; // path: the answer of scratch_path
} Scratch;

static inline int scratch_setup(void **state) {
    Scratch *scratch = calloc(1, sizeof *scratch);
    snprintf(scratch->folder, sizeof scratch->folder, "/tmp/kindit-test-XXXXXX");
    if (kindit_context_create(&scratch->ctx, NULL) != KINDIT_OK || !mkdtemp(scratch->folder)) return -1;
    *state = scratch;
    return 0;
}

static inline int scratch_teardown(void **state) {
    Scratch *scratch = *state;
    KinditStatus status = file_remove_tree(scratch->ctx, scratch->folder);
    kindit_context_close(&scratch->ctx);
    free(scratch);
    return status ? -1 : 0;
}

// A path in the scratch folder, valid until the next call.
static inline const char *scratch_path(Scratch *scratch, const char *name) {
    assert_int_equal(file_path(scratch->path, scratch->ctx, "%s/%s", scratch->folder, name), KINDIT_OK);
    return scratch->path;
}

// A file of tests/golden/, valid until the next call.
static inline const char *scratch_golden(Scratch *scratch, const char *name) {
    assert_int_equal(file_path(scratch->path, scratch->ctx, "%s/golden/%s", TEST_SOURCE_DIR, name), KINDIT_OK);
    return scratch->path;
}

// Fails the test with the context's message.
#define assert_ok(ctx, expression)                                                                                     \
    do {                                                                                                               \
        if ((expression) != KINDIT_OK) fail_msg("%s: %s", #expression, kindit_context_message(ctx));                   \
    } while (0)

// The call must fail with `status` and a message that mentions `text`.
#define assert_fails(ctx, expression, status, text)                                                                    \
    do {                                                                                                               \
        assert_int_equal((expression), (status));                                                                      \
        if (!strstr(kindit_context_message(ctx), (text)))                                                              \
            fail_msg("%s: message \"%s\" lacks \"%s\"", #expression, kindit_context_message(ctx), (text));             \
    } while (0)

#define scratch_test(function) cmocka_unit_test_setup_teardown(function, scratch_setup, scratch_teardown)

#endif
