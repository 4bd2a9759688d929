// What `kindit debug features` reads, writes and refuses.
#include "cli/debug_features.h"

#include "vision/network.h"

typedef struct Files {
    NetworkTest test;
    char weights[1024], input[1024], output[1024];
} Files;

// Weights, and an input of one tensor with `n` images of that shape.
static void files_begin(Files *out, Scratch *scratch, const char *name, int64_t n, int64_t side) {
    network_begin(&out->test, scratch, "dinov2_fit", 1);
    snprintf(out->weights, sizeof out->weights, "%s/weights.safetensors", scratch->folder);
    snprintf(out->input, sizeof out->input, "%s/input.safetensors", scratch->folder);
    snprintf(out->output, sizeof out->output, "%s/output.safetensors", scratch->folder);
    uniform_write(&out->test.weights, scratch->ctx, out->weights);
    Tensor images = {.name = name, .dtype = DTYPE_F32, .n_dims = 4, .shape = {n, 3, side, side}};
    assert_ok(scratch->ctx, tensor_measure(&images, scratch->ctx, "images"));
    float *values = test_malloc(images.n_bytes);
    uniform_fill("images", -1, 1, images.n_elements, values);
    images.data = values;
    assert_ok(scratch->ctx, safetensors_write(scratch->ctx, out->input, &images, 1, NULL, 0));
    test_free(values);
}

static void test_a_batch(void **state) {
    Scratch *scratch = *state;
    Files files;
    Safetensors output;
    files_begin(&files, scratch, "images", 2, 224);
    assert_ok(scratch->ctx, debug_features(scratch->ctx, files.weights, files.input, files.output, 0));
    assert_ok(scratch->ctx, safetensors_open(&output, scratch->ctx, files.output));
    assert_int_equal(output.n_tensors, 1);
    assert_true(network_error(&files.test, "features", safetensors_find(&output, "features")->data) < 1e-4);
    safetensors_close(&output);
    network_end(&files.test);
}

static void test_a_single_image_comes_with_its_layers(void **state) {
    Scratch *scratch = *state;
    Files files;
    Safetensors output;
    files_begin(&files, scratch, "images", 1, 224);
    assert_ok(scratch->ctx, debug_features(scratch->ctx, files.weights, files.input, files.output, 0));
    assert_ok(scratch->ctx, safetensors_open(&output, scratch->ctx, files.output));
    assert_int_equal(output.n_tensors, 3);
    LayerCheck check = {.golden = &files.test.golden};
    for (int i = 0; i < output.n_tensors; i++)
        if (strncmp(output.tensors[i].name, "layer.", 6) == 0)
            network_check_layer(&check, output.tensors[i].name + 6, output.tensors[i].n_elements,
                                output.tensors[i].data);
    assert_int_equal(check.n_layers, 2);
    safetensors_close(&output);
    network_end(&files.test);
}

static void test_misfits_are_refused(void **state) {
    Scratch *scratch = *state;
    Files files;
    files_begin(&files, scratch, "images", 1, 32);
    assert_fails(scratch->ctx, debug_features(scratch->ctx, files.weights, files.input, files.output, 0),
                 KINDIT_ERROR_FORMAT, "(N, 3, 224, 224)");
    assert_fails(scratch->ctx, debug_features(scratch->ctx, files.input, files.input, files.output, 0),
                 KINDIT_ERROR_UNSUPPORTED, "no network that is known");
    network_end(&files.test);
    files_begin(&files, scratch, "x", 1, 224);
    assert_fails(scratch->ctx, debug_features(scratch->ctx, files.weights, files.input, files.output, 0),
                 KINDIT_ERROR_FORMAT, "images");
    assert_false(file_exists(files.output));
    network_end(&files.test);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        scratch_test(test_a_batch),
        scratch_test(test_a_single_image_comes_with_its_layers),
        scratch_test(test_misfits_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
