// The table of tasks: what it counts, and which line it refuses.
#include "data/task_list.h"
#include "scratch.h"

static KinditStatus parse(Scratch *scratch, TaskList *list, const char *text) {
    return task_list_parse(list, scratch->ctx, "t.tsv", text, strlen(text));
}

static void test_counts(void **state) {
    TaskList list;
    Scratch *scratch = *state;
    assert_ok(scratch->ctx, parse(scratch, &list, "name\twnid\ttask\nfox\tn1\tone\nowl\tn2\ttwo\ncat\tn3\tone"));
    assert_int_equal(list.n, 2);
    assert_string_equal(list.tasks[0].name, "one");
    assert_int_equal(list.tasks[0].n_classes, 2);
    assert_string_equal(list.tasks[1].name, "two");
    assert_int_equal(list.tasks[1].n_classes, 1);
    task_list_close(&list);
}

// The paper's tasks: 18 of 7 to 35 classes, 461 in all.
static void test_paper(void **state) {
    TaskList list;
    Scratch *scratch = *state;
    int sum = 0;
    assert_ok(scratch->ctx, task_list_read(&list, scratch->ctx, scratch_golden(scratch, "adapt/tasks.tsv")));
    for (int i = 0; i < list.n; i++) sum += list.tasks[i].n_classes;
    assert_int_equal(list.n, 18);
    assert_int_equal(sum, 461);
    assert_int_equal(list.tasks[0].n_classes, 7);
    assert_int_equal(list.tasks[17].n_classes, 35);
    task_list_close(&list);
}

static void test_refused(void **state) {
    TaskList list;
    Scratch *scratch = *state;
#define REFUSED(content, message)                                                                                      \
    assert_fails(scratch->ctx, parse(scratch, &list, content), KINDIT_ERROR_FORMAT, message)
    REFUSED("", "no classes");
    REFUSED("task\twnid\n", "no classes");
    REFUSED("task\tclass\n1\tn1\n", "t.tsv:1: expected");
    REFUSED("task\twnid\n1\tn1\n\n", "t.tsv:3: expected a task");
    REFUSED("task\twnid\n1\tn1\n2\t\n", "t.tsv:3");
    REFUSED("task\twnid\n1\n", "t.tsv:2");
    REFUSED("task\twnid\n1\tn1\n2\tn1\n", "class \"n1\" comes twice");
    REFUSED("task\twnid\n1234567890123456789012345678901234567890123456789012345678901234\tn1\n", "at most 63 bytes");
#undef REFUSED
    char many[32 * MOST_TASKS + 64] = "task\twnid\n";
    for (int i = 0; i <= MOST_TASKS; i++) sprintf(many + strlen(many), "t%d\tn%d\n", i, i);
    assert_fails(scratch->ctx, parse(scratch, &list, many), KINDIT_ERROR_FORMAT, "more than 1000 tasks");
    assert_null(list.tasks);
}

int main(void) {
    const struct CMUnitTest tests[] = {scratch_test(test_counts), scratch_test(test_paper), scratch_test(test_refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
