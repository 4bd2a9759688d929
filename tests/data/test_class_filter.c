// Which classes are kept, and which merge.
#include "data/dataset.h"
#include "scratch.h"

static void assert_target(ClassFilter *filter, const char *id, const char *name, const char *to_id,
                          const char *to_name) {
    ClassTarget target;
    assert_true(class_filter_target(filter, id, name, &target));
    assert_string_equal(target.id, to_id);
    assert_string_equal(target.name, to_name);
}

static ClassFilter *open_filter(Scratch *scratch, const char *classes, const char *merge) {
    ClassFilter *filter;
    assert_ok(scratch->ctx, class_filter_create(&filter, scratch->ctx, classes, merge));
    return filter;
}

static const char *write_merge(Scratch *scratch, const char *text) {
    const char *path = scratch_path(scratch, "merge.tsv");
    assert_ok(scratch->ctx, file_write(scratch->ctx, path, text, strlen(text)));
    return path;
}

static void assert_merge_fails(Scratch *scratch, const char *text, const char *message) {
    ClassFilter *filter;
    const char *path = write_merge(scratch, text);
    assert_fails(scratch->ctx, class_filter_create(&filter, scratch->ctx, NULL, path), KINDIT_ERROR_FORMAT, message);
    assert_null(filter);
}

static void test_all_pass_without_wishes(void **state) {
    Scratch *scratch = *state;
    ClassFilter *filter = open_filter(scratch, NULL, NULL);
    assert_target(filter, "lower-a", "a", "lower-a", "a");
    assert_ok(scratch->ctx, class_filter_check_used(filter, scratch->ctx));
    class_filter_close(&filter);
}

static void test_wanted_by_id_or_name(void **state) {
    Scratch *scratch = *state;
    ClassFilter *filter = open_filter(scratch, "A,b,zebra,gnu", NULL);
    ClassTarget target;
    assert_target(filter, "A", "A", "A", "A");
    assert_target(filter, "lower-b", "b", "lower-b", "b");
    assert_false(class_filter_target(filter, "lower-a", "a", &target));
    assert_false(class_filter_target(filter, "B", "B", &target));
    assert_fails(scratch->ctx, class_filter_check_used(filter, scratch->ctx), KINDIT_ERROR_ARGUMENT, "zebra, gnu");
    class_filter_close(&filter);
    assert_fails(scratch->ctx, class_filter_create(&filter, scratch->ctx, "A,,B", NULL), KINDIT_ERROR_ARGUMENT,
                 "empty");
}

static void test_paper_table(void **state) {
    Scratch *scratch = *state;
    ClassFilter *filter = open_filter(scratch, NULL, scratch_golden(scratch, "data/superclasses.tsv"));
    assert_target(filter, "n02085620", "n02085620", "n02084071", "dog");
    assert_target(filter, "n02058221", "n02058221", "n01503061", "bird");
    assert_target(filter, "n01440764", "tench", "n01440764", "tench"); // in no superclass: stays
    class_filter_close(&filter);
}

// Two superclasses of the paper are both named "vessel": a name is not enough, an id is.
static void test_ambiguous_name(void **state) {
    Scratch *scratch = *state;
    ClassFilter *filter = open_filter(scratch, "vessel", scratch_golden(scratch, "data/superclasses.tsv"));
    assert_target(filter, "n02795169", "barrel", "n04531098", "vessel");
    assert_ok(scratch->ctx, class_filter_check_used(filter, scratch->ctx));
    assert_target(filter, "n02687172", "carrier", "n04530566", "vessel");
    assert_fails(scratch->ctx, class_filter_check_used(filter, scratch->ctx), KINDIT_ERROR_ARGUMENT, "use ids");
    class_filter_close(&filter);
    filter = open_filter(scratch, "n04531098,dog", scratch_golden(scratch, "data/superclasses.tsv"));
    ClassTarget target;
    assert_target(filter, "n02795169", "barrel", "n04531098", "vessel");
    assert_false(class_filter_target(filter, "n02687172", "carrier", &target));
    assert_target(filter, "n02085782", "spaniel", "n02084071", "dog");
    assert_ok(scratch->ctx, class_filter_check_used(filter, scratch->ctx));
    class_filter_close(&filter);
}

static void test_formats_of_the_table(void **state) {
    Scratch *scratch = *state;
    ClassFilter *filter = open_filter(scratch, NULL, write_merge(scratch, "round\tO\r\nround\t0\r\n\r\n"));
    assert_target(filter, "0", "zero", "round", "round");
    class_filter_close(&filter);
    filter = open_filter(scratch, NULL, write_merge(scratch, "# a comment\n# member\tsuperclass\nO\tround\nO\tround"));
    assert_target(filter, "O", "O", "round", "round");
    assert_target(filter, "id_of_it", "O", "round", "round"); // members may be named, too
    class_filter_close(&filter);
    filter = open_filter(scratch, NULL, write_merge(scratch, ""));
    assert_target(filter, "O", "O", "O", "O");
    class_filter_close(&filter);
}

static void test_broken_tables(void **state) {
    Scratch *scratch = *state;
    assert_merge_fails(scratch, "round\tO\nsquare\tO\n", "\"O\" is a member of both");
    assert_merge_fails(scratch, "superclass\tname\tmember\na\tone\tO\na\ttwo\tQ\n", "named both");
    assert_merge_fails(scratch, "round\tO\nround\n", "merge.tsv:2");
    assert_merge_fails(scratch, "up/down\tO\n", "merge.tsv:1");
    assert_merge_fails(scratch, "round\t\n", "merge.tsv:1");
    ClassFilter *filter;
    assert_fails(scratch->ctx, class_filter_create(&filter, scratch->ctx, NULL, "/nonexistent.tsv"), KINDIT_ERROR_IO,
                 "nonexistent");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        scratch_test(test_all_pass_without_wishes),
        scratch_test(test_wanted_by_id_or_name),
        scratch_test(test_paper_table),
        scratch_test(test_ambiguous_name),
        scratch_test(test_formats_of_the_table),
        scratch_test(test_broken_tables),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
