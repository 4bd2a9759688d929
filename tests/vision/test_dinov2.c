// DINOv2 against transformers' Dinov2Model and the original's positions, with weights of both programs' names.
#include "network.h"

static void check_golden(void **state, const char *name, const char *expected_name, int n_layers) {
    NetworkTest test;
    network_begin(&test, *state, name, 0);
    network_open(&test);
    assert_string_equal(vision_info(test.network)->name, expected_name);
    assert_int_equal(vision_info(test.network)->input_size, 224);
    assert_int_equal(vision_info(test.network)->profile, PROFILE_DGM_EVAL);
    assert_int_equal(strlen(vision_info(test.network)->sha256), 64);
    network_check(&test, n_layers);
    network_end(&test);
}

static void test_positions_shrink(void **state) {
    check_golden(state, "dinov2_shrink", "dinov2-128x3/28", 4);
}

static void test_positions_fit(void **state) {
    check_golden(state, "dinov2_fit", "dinov2-64x1/32", 2);
}

static void test_original_names_and_positions(void **state) {
    check_golden(state, "dinov2_original", "dinov2-128x2/16", 3);
}

static void test_batches_and_threads_change_nothing(void **state) {
    float features[128] = {0};
    for (int threads = 1; threads <= 3; threads++) {
        NetworkTest test;
        network_begin(&test, *state, "dinov2_shrink", threads);
        network_open(&test);
        network_check_independence(&test, 11, features); // more than a batch
        network_end(&test);
    }
}

// Opens what `change` made of the weights; it must be refused with this message.
static void check_refusal(void **state, void (*change)(UniformFile *), KinditStatus status, const char *message) {
    NetworkTest test;
    network_begin(&test, *state, "dinov2_fit", 1);
    change(&test.weights);
    assert_fails(test.scratch->ctx, network_try_open(&test), status, message);
    assert_null(test.network);
    network_end(&test);
}

static void drop_bias(UniformFile *file) {
    *uniform_find(file, "encoder.layer.0.mlp.fc2.bias") = file->tensors[--file->n];
}
static void add_stranger(UniformFile *file) {
    file->tensors[file->n] = *uniform_find(file, "layernorm.bias");
    file->tensors[file->n++].name = "embeddings.register_tokens";
}
static void make_swiglu(UniformFile *file) {
    uniform_find(file, "encoder.layer.0.mlp.fc1.weight")->name = "encoder.layer.0.mlp.weights_in.weight";
}
static void flatten_projection(UniformFile *file) {
    Tensor *tensor = uniform_find(file, "encoder.layer.0.attention.output.dense.weight");
    tensor->n_dims = 1;
    tensor->shape[0] *= tensor->shape[1];
}
static void odd_positions(UniformFile *file) {
    uniform_find(file, "embeddings.position_embeddings")->shape[1]--;
}
static void odd_patches(UniformFile *file) {
    Tensor *tensor = uniform_find(file, "embeddings.patch_embeddings.projection.weight");
    tensor->shape[2] = tensor->shape[3] = 15;
}
static void tiny_patches(UniformFile *file) { // 401416 tokens in a batch of 8
    Tensor *tensor = uniform_find(file, "embeddings.patch_embeddings.projection.weight");
    tensor->shape[2] = tensor->shape[3] = 1;
}
static void integer_token(UniformFile *file) {
    uniform_find(file, "embeddings.cls_token")->dtype = DTYPE_I32;
}
static void no_blocks(UniformFile *file) {
    uniform_find(file, "encoder.layer.0.norm1.weight")->name = "encoder.layer.00.norm1.weight";
}
static void another_network(UniformFile *file) {
    uniform_find(file, "embeddings.cls_token")->name = "embeddings.token";
}
static void not_finite(UniformFile *file) {
    ((float *)(uintptr_t)uniform_find(file, "layernorm.bias")->data)[5] = NAN;
}

static void test_misfits_are_refused(void **state) {
    check_refusal(state, drop_bias, KINDIT_ERROR_FORMAT, "encoder.layer.0.mlp.fc2.bias");
    check_refusal(state, add_stranger, KINDIT_ERROR_UNSUPPORTED, "embeddings.register_tokens");
    check_refusal(state, make_swiglu, KINDIT_ERROR_UNSUPPORTED, "SwiGLU");
    check_refusal(state, flatten_projection, KINDIT_ERROR_FORMAT, "attention.output.dense.weight");
    check_refusal(state, odd_positions, KINDIT_ERROR_FORMAT, "square grid");
    check_refusal(state, odd_patches, KINDIT_ERROR_UNSUPPORTED, "patch 15");
    check_refusal(state, tiny_patches, KINDIT_ERROR_UNSUPPORTED, "at least 7, found width 64 and patch 1");
    check_refusal(state, integer_token, KINDIT_ERROR_FORMAT, "found I32");
    check_refusal(state, no_blocks, KINDIT_ERROR_FORMAT, "no transformer block");
    check_refusal(state, another_network, KINDIT_ERROR_UNSUPPORTED, "no network that is known");
}

// Whatever tensor is away, of another shape or no floats: the file is refused, and the message names the tensor.
static void test_every_tensor_is_checked(void **state) {
    NetworkTest test;
    network_begin(&test, *state, "dinov2_fit", 1);
    KinditContext *ctx = test.scratch->ctx;
    for (int i = 0; i < test.weights.n; i++) {
        Tensor *tensor = &test.weights.tensors[i], kept = *tensor;
        if (strcmp(kept.name, "embeddings.mask_token") == 0) continue; // of training: whatever it is
        tensor->name = "stranger";
        assert_int_not_equal(network_try_open(&test), KINDIT_OK);
        *tensor = kept;
        tensor->dtype = DTYPE_I32;
        assert_fails(ctx, network_try_open(&test), KINDIT_ERROR_FORMAT, kept.name);
        for (int d = 0; d < kept.n_dims; d++) {
            if (kept.shape[d] == 1) continue;
            *tensor = kept;
            tensor->shape[d]--;
            assert_int_not_equal(network_try_open(&test), KINDIT_OK);
            if (!strstr(kept.name, "patch_embeddings.projection.weight")) // by which the others are judged
                assert_non_null(strstr(kindit_context_message(ctx), kept.name));
        }
        *tensor = kept;
    }
    network_open(&test);
    network_end(&test);
}

static void test_numbers_that_are_none(void **state) {
    NetworkTest test;
    float features[64];
    network_begin(&test, *state, "dinov2_fit", 1);
    not_finite(&test.weights);
    network_open(&test);
    float *images = network_images(&test);
    VisionOutput out = {.features = features};
    assert_fails(test.scratch->ctx, vision_run(test.network, images, 1, &out), KINDIT_ERROR_NUMERIC, "image 0");
    test_free(images);
    network_end(&test);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        scratch_test(test_positions_shrink),
        scratch_test(test_positions_fit),
        scratch_test(test_original_names_and_positions),
        scratch_test(test_batches_and_threads_change_nothing),
        scratch_test(test_misfits_are_refused),
        scratch_test(test_every_tensor_is_checked),
        scratch_test(test_numbers_that_are_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
