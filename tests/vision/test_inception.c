// Inception-v3 against pytorch-fid's, layer by layer.
#include "network.h"

#ifdef KINDIT_HAVE_DNNL
static void test_equals_pytorch_fid(void **state) {
    NetworkTest test;
    network_begin(&test, *state, "inception", 0);
    network_open(&test);
    const VisionInfo *info = vision_info(test.network);
    assert_string_equal(info->name, "inception-v3");
    assert_int_equal(info->input_size, 299);
    assert_int_equal(info->n_features, 2048);
    assert_int_equal(info->n_spatial, 2023);
    assert_int_equal(info->n_logits, 1008);
    network_check(&test, 106); // 94 convolutions, 11 blocks, the classes
    network_end(&test);
}

static void test_batches_and_threads_change_nothing(void **state) {
    float features[2048] = {0};
    for (int threads = 1; threads <= 3; threads += 2) {
        NetworkTest test;
        network_begin(&test, *state, "inception", threads);
        network_open(&test);
        network_check_independence(&test, 4, features);
        network_end(&test);
    }
}

// Opens what `change` made of the weights; it must be refused with this message.
static void check_refusal(NetworkTest *test, Tensor changed, const char *name, KinditStatus status,
                          const char *message) {
    Tensor *tensor = uniform_find(&test->weights, name), kept = *tensor;
    *tensor = changed;
    assert_fails(test->scratch->ctx, network_try_open(test), status, message);
    assert_null(test->network);
    *tensor = kept;
}

static void test_misfits_are_refused(void **state) {
    NetworkTest test;
    network_begin(&test, *state, "inception", 1);
    Tensor changed = *uniform_find(&test.weights, "fc.weight");
    changed.shape[0] = 1000; // torchvision's own
    check_refusal(&test, changed, "fc.weight", KINDIT_ERROR_FORMAT, "expected shape (1008, 2048), found (1000, 2048)");
    changed = *uniform_find(&test.weights, "Mixed_6c.branch_pool.bn.running_var");
    changed.name = "AuxLogits.fc.bias";
    check_refusal(&test, changed, "Mixed_6c.branch_pool.bn.running_var", KINDIT_ERROR_FORMAT,
                  "Mixed_6c.branch_pool.bn.running_var");
    changed = *uniform_find(&test.weights, "Conv2d_2a_3x3.bn.running_mean"); // up to -0.2
    changed.name = "Conv2d_2a_3x3.bn.running_var";
    check_refusal(&test, changed, "Conv2d_2a_3x3.bn.running_var", KINDIT_ERROR_FORMAT, "no variance");
    test.weights.tensors[test.weights.n] = changed;
    test.weights.tensors[test.weights.n++].name = "AuxLogits.fc.bias";
    assert_fails(test.scratch->ctx, network_try_open(&test), KINDIT_ERROR_UNSUPPORTED, "AuxLogits.fc.bias");
    network_end(&test);
}
#else
static void test_without_onednn(void **state) {
    NetworkTest test;
    network_begin(&test, *state, "inception", 1);
    assert_fails(test.scratch->ctx, network_try_open(&test), KINDIT_ERROR_UNSUPPORTED, "libdnnl-dev");
    network_end(&test);
}
#endif

int main(void) {
    const struct CMUnitTest tests[] = {
#ifdef KINDIT_HAVE_DNNL
        scratch_test(test_equals_pytorch_fid),
        scratch_test(test_batches_and_threads_change_nothing),
        scratch_test(test_misfits_are_refused),
#else
        scratch_test(test_without_onednn),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
