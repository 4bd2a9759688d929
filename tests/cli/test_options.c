// Arguments against a table: what is stored, what is left over, what is near.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
// cmocka needs the four above
#include <cmocka.h>
#include <string.h>

#include "cli/options.h"

static struct {
    bool flag, given;
    const char *text;
    int64_t n, choice, bytes;
    double x;
} values;

static const Option table[] = {
    {"--flag", "-f", OPTION_FLAG, &values.flag, NULL, "h", 0, 0, NULL},
    {"--text", "-t", OPTION_STRING, &values.text, "T", "h", 0, 0, &values.given},
    {"--number", NULL, OPTION_INT, &values.n, "N", "h", -5, 5, NULL},
    {"--real", NULL, OPTION_DOUBLE, &values.x, "X", "h", 0, 0, NULL},
    {"--choice", NULL, OPTION_CHOICE, &values.choice, "red|green|blue", "h", 0, 0, NULL},
    {"--size", NULL, OPTION_SIZE, &values.bytes, "SIZE", "h", 0, 0, NULL},
};
static const OptionSet set = {table, sizeof table / sizeof *table};

// The arguments of one line, separated by blanks; what is left over stays in `words`.
static char words_text[256], *words[32];

static int parse(const char *line, int *n_positional) {
    int n = 0;
    char *rest;
    memset(&values, 0, sizeof values);
    strcpy(words_text, line);
    for (char *word = strtok_r(words_text, " ", &rest); word; word = strtok_r(NULL, " ", &rest)) words[n++] = word;
    return options_parse("test", &set, 1, n, words, false, n_positional);
}

static void test_values_are_stored(void **state) {
    (void)state;
    int n;
    assert_int_equal(parse("a -f --text hello b --number=-3 --real 1e-3 --choice blue --size 2kB c", &n), EXIT_DONE);
    assert_int_equal(n, 3);
    assert_string_equal(words[0], "a");
    assert_string_equal(words[1], "b");
    assert_string_equal(words[2], "c");
    assert_true(values.flag && values.given);
    assert_string_equal(values.text, "hello");
    assert_int_equal(values.n, -3);
    assert_true(values.x == 1e-3);
    assert_int_equal(values.choice, 2);
    assert_int_equal(values.bytes, 2000);
}

static void test_dashes(void **state) {
    (void)state;
    int n;
    assert_int_equal(parse("- --text -- -- --flag", &n), EXIT_DONE); // a value may be anything; '--' ends the options
    assert_int_equal(n, 2);
    assert_string_equal(words[0], "-");
    assert_string_equal(words[1], "--flag");
    assert_string_equal(values.text, "--");
    assert_false(values.flag);
}

static void test_wrong_lines_are_refused(void **state) {
    (void)state;
    const char *const lines[] = {
        "--nothing",          "-x",
        "--number",           "--number 6",
        "--number 1.5",       "--number 99999999999999999999",
        "--number abc",       "--number=",
        "--real nan",         "--real 1x",
        "--real inf",         "--choice purple",
        "--choice re",        "--flag=true",
        "--size 4Q",          "--size -1",
        "--choice red|green",
    };
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        int n;
        if (parse(lines[i], &n) != EXIT_USAGE) fail_msg("accepted: %s", lines[i]);
    }
}

static const char *nearest(const char *word) {
    Nearest found;
    nearest_begin(&found, word);
    for (int i = 0; i < set.n; i++) nearest_offer(&found, set.options[i].name);
    return found.best;
}

static void test_slips_are_recognised(void **state) {
    (void)state;
    assert_string_equal(nearest("--nubmer"), "--number");
    assert_string_equal(nearest("--sizes"), "--size");
    assert_string_equal(nearest("--num"), "--number");
    assert_string_equal(nearest("--flg"), "--flag");
    assert_null(nearest("--temperature"));
    char long_word[200];
    memset(long_word, 'x', sizeof long_word - 1);
    long_word[sizeof long_word - 1] = '\0';
    assert_null(nearest(long_word));
}

static void test_numbers_for_people(void **state) {
    (void)state;
    char text[32];
    assert_string_equal(cli_format_bytes(text, 512), "512 bytes");
    assert_string_equal(cli_format_bytes(text, 3.94e6), "3.94 MB");
    assert_string_equal(cli_format_bytes(text, 999999), "1.00 MB");
    assert_string_equal(cli_format_count(text, 70206000), "70.2M");
    assert_string_equal(cli_format_count(text, 999.4), "999");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values_are_stored),       cmocka_unit_test(test_dashes),
        cmocka_unit_test(test_wrong_lines_are_refused), cmocka_unit_test(test_slips_are_recognised),
        cmocka_unit_test(test_numbers_for_people),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
