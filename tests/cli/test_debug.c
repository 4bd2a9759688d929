// `kindit debug` on the golden files: what it writes, under which names, and that it refuses what makes no sense.
#include <stdlib.h>
#include <unistd.h>

#include "base/file.h"
#include "cli/cli.h"
#include "golden/golden.h"

static char folder[] = "/tmp/kindit_debug_XXXXXX";
static char output[1024];

static int make_folder(void **state) {
    (void)state;
    return mkdtemp(folder) && file_path(output, NULL, "%s/out.safetensors", folder) == KINDIT_OK ? 0 : -1;
}

static int remove_folder(void **state) {
    (void)state;
    return file_remove_tree(NULL, folder) == KINDIT_OK ? 0 : -1;
}

static void set_option(const char *name, const char *value) {
    int n;
    const Option *options = command_debug.options(&n);
    for (int i = 0; i < n; i++)
        if (strcmp(options[i].name, name) == 0) *(const char **)options[i].value = value;
}

// The exit code of `kindit debug WHAT MODEL --input INPUT -o output`.
static int run_debug(Golden *g, char *what, const char *model, const char *input) {
    char path[1024];
    snprintf(path, sizeof path, TEST_SOURCE_DIR "/golden/model/%s", model);
    set_option("--input", input);
    set_option("--output", output);
    char *positional[] = {what, path};
    return command_debug.run(g->ctx, 2, positional);
}

// Tensor `name` of the written file against tensor `expected` of the golden file.
static void check_tensor(Golden *g, const Safetensors *written, const char *name, const char *expected,
                         double tolerance) {
    const Tensor *wanted = golden_find(g, expected), *found;
    golden_require(g, safetensors_require(written, g->ctx, name, wanted->n_dims, wanted->shape, &found));
    float *values = golden_empty(g, found->n_elements), *right = golden_floats(g, expected);
    golden_require(g, tensor_read_float(found, g->ctx, 0, found->n_elements, values));
    if (golden_distance(found->n_elements, right, NULL) > 1e-9) // a key bias has no gradient
        golden_assert_close("debug", name, found->n_elements, values, right, tolerance);
}

static void test_forward(void **state) {
    (void)state;
    Golden g;
    Safetensors written;
    golden_open(&g, "kind_p2", NULL, 2);
    assert_int_equal(run_debug(&g, (char[]){"forward"}, "kind_p2", g.io.path), EXIT_DONE);
    golden_require(&g, safetensors_open(&written, g.ctx, output));
    assert_int_equal(written.n_tensors, 1);
    check_tensor(&g, &written, "out", "out", 2e-6);
    safetensors_close(&written);
    golden_close(&g);
}

// Loss, its terms, and every parameter by its own name, in the shape that a model file has.
static void check_grad(const char *model, bool learn_sigma) {
    Golden g;
    Safetensors written;
    golden_open(&g, model, model, 2);
    assert_int_equal(run_debug(&g, (char[]){"grad"}, model, g.io.path), EXIT_DONE);
    golden_require(&g, safetensors_open(&written, g.ctx, output));
    const ParamLayout *layout = &g.model->dit->layout;
    assert_int_equal(written.n_tensors, layout->n_specs + (learn_sigma ? 3 : 2));
    check_tensor(&g, &written, "loss", "loss", 5e-6);
    check_tensor(&g, &written, "mse", "mse", 5e-6);
    if (learn_sigma) check_tensor(&g, &written, "vlb", "vlb", 5e-6);
    for (int i = 0; i < layout->n_specs; i++) {
        char expected[PARAM_NAME_SIZE + 16];
        snprintf(expected, sizeof expected, "grad.%s", layout->specs[i].name);
        check_tensor(&g, &written, layout->specs[i].name, expected, 2e-5);
    }
    safetensors_close(&written);
    golden_close(&g);
}

static void test_grad(void **state) {
    (void)state;
    check_grad("kind_p2", true);
    check_grad("kind_p4", false);
    check_grad("dense_p2", true);
}

// The inputs of another model, a label and a timestep out of range, a number that is none: an error, and no file.
static void test_refuses(void **state) {
    (void)state;
    Golden g;
    golden_open(&g, "dense_p4", NULL, 1);
    float x[4 * 8 * 8] = {0};
    int64_t t = 0, y = 0;
    const Tensor good[3] = {
        {.name = "x", .dtype = DTYPE_F32, .n_dims = 4, .shape = {1, 4, 8, 8}, .data = x},
        {.name = "t", .dtype = DTYPE_I64, .n_dims = 1, .shape = {1}, .data = &t},
        {.name = "y", .dtype = DTYPE_I64, .n_dims = 1, .shape = {1}, .data = &y},
    };
    static const struct {
        const char *what;
        int64_t t, y;
        float x;
        bool fine;
    } cases[] = {
        {"null label, last timestep", 999, 4, 0, true},
        {"label", 0, 5, 0, false},
        {"negative label", 0, -1, 0, false},
        {"timestep", 1000, 0, 0, false},
        {"not a number", 0, 0, NAN, false},
    };
    char input[1024];
    golden_require(&g, file_path(input, g.ctx, "%s/in.safetensors", folder));
    unlink(output);
    assert_int_not_equal(run_debug(&g, (char[]){"forward"}, "kind_p2", g.io.path), EXIT_DONE);
    assert_false(file_exists(output));
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        t = cases[i].t;
        y = cases[i].y;
        x[7] = cases[i].x;
        golden_require(&g, safetensors_write(g.ctx, input, good, 3, NULL, 0));
        int code = run_debug(&g, (char[]){"forward"}, "kind_p2", input);
        if ((code == EXIT_DONE) != cases[i].fine || file_exists(output) != cases[i].fine)
            fail_msg("%s: exit code %d", cases[i].what, code);
        unlink(output);
    }
    golden_close(&g);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_forward),
        cmocka_unit_test(test_grad),
        cmocka_unit_test(test_refuses),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
