// A network against what the reference makes with the same weights: tests/golden/vision/<name>.txt and .safetensors.
#ifndef TESTS_VISION_NETWORK_H
#define TESTS_VISION_NETWORK_H

#include "uniform.h"
#include "vision/vision.h"

typedef struct NetworkTest {
    Scratch *scratch;
    UniformFile weights;
    Safetensors golden;
    Engine *engine;
    VisionNetwork *network; // NULL until opened
} NetworkTest;

static inline void network_begin(NetworkTest *out, Scratch *scratch, const char *name, int threads) {
    char file[64];
    *out = (NetworkTest){.scratch = scratch};
    scratch->ctx->settings.threads = threads;
    assert_ok(scratch->ctx, engine_create(&out->engine, scratch->ctx));
    snprintf(file, sizeof file, "vision/%s.safetensors", name);
    assert_ok(scratch->ctx, safetensors_open(&out->golden, scratch->ctx, scratch_golden(scratch, file)));
    snprintf(file, sizeof file, "vision/%s.txt", name);
    uniform_open(&out->weights, scratch->ctx, scratch_golden(scratch, file));
}

static inline void network_end(NetworkTest *test) {
    vision_close(&test->network);
    uniform_close(&test->weights);
    safetensors_close(&test->golden);
    engine_close(&test->engine);
}

static inline KinditStatus network_try_open(NetworkTest *test) {
    const char *path = scratch_path(test->scratch, "weights.safetensors");
    uniform_write(&test->weights, test->scratch->ctx, path);
    return vision_open(&test->network, test->scratch->ctx, test->engine, path);
}

static inline void network_open(NetworkTest *test) {
    assert_ok(test->scratch->ctx, network_try_open(test));
}

// The two images that the golden files were made of; the caller frees.
static inline float *network_images(const NetworkTest *test) {
    const VisionInfo *info = vision_info(test->network);
    size_t n = (size_t)2 * 3 * (size_t)info->input_size * (size_t)info->input_size;
    float *images = test_malloc(n * sizeof *images);
    uniform_fill("images", -1, 1, n, images);
    return images;
}

// The largest difference relative to the largest magnitude expected.
static inline double network_error(const NetworkTest *test, const char *name, const float *found) {
    const Tensor *tensor = safetensors_find(&test->golden, name);
    const float *expected = tensor->data;
    double error = 0, largest = 0;
    for (size_t i = 0; i < tensor->n_elements; i++) {
        const double apart = fabs((double)found[i] - (double)expected[i]), size = fabs((double)expected[i]);
        if (apart > error) error = apart; // vision_run hands out no NaN
        if (size > largest) largest = size;
    }
    return error / largest;
}

// A layer's checksums, each relative to the layer's root mean square. Called by vision_run for each layer.
typedef struct LayerCheck {
    const Safetensors *golden;
    int n_layers;
    double worst;
} LayerCheck;

static inline void network_check_layer(void *user, const char *layer, size_t n, const float *values) {
    LayerCheck *check = user;
    char name[96];
    double found[N_CHECKSUMS], expected[N_CHECKSUMS];
    snprintf(name, sizeof name, "layer.%s", layer);
    const Tensor *tensor = safetensors_find(check->golden, name);
    if (!tensor) fail_msg("layer %s is not in the golden file", layer);
    assert_int_equal(tensor->n_bytes, sizeof expected);
    memcpy(expected, tensor->data, sizeof expected);
    uniform_checksums(n, values, found);
    for (int i = 0; i < N_CHECKSUMS; i++) {
        const double error = fabs(found[i] - expected[i]) / expected[2];
        if (!(error < 1e-5)) fail_msg("layer %s: checksum %d: expected %g, found %g", layer, i, expected[i], found[i]);
        if (error > check->worst) check->worst = error;
    }
    check->n_layers++;
}

// Every layer, then features and whatever else there is.
//
// Tolerance 1e-4 of the outputs is the promise; the oracle is double, and single precision gives 1e-6 to 1e-5 here,
// depending on the order of the processor's sums. A checksum is a mean, whose errors cancel: 1e-5.
static inline void network_check(NetworkTest *test, int n_layers) {
    KinditContext *ctx = test->scratch->ctx;
    const VisionInfo *info = vision_info(test->network);
    float *images = network_images(test), *out[3];
    const char *const names[3] = {"features", "spatial", "logits"};
    const int widths[3] = {info->n_features, info->n_spatial, info->n_logits};
    LayerCheck check = {.golden = &test->golden};
    VisionOutput visited = {.visit = network_check_layer, .user = &check};
    assert_ok(ctx, vision_run(test->network, images, 1, &visited));
    assert_int_equal(check.n_layers, n_layers);
    print_message("%s: %d layers, largest error of a checksum %.2g\n", info->name, n_layers, check.worst);
    for (int k = 0; k < 3; k++) out[k] = test_calloc((size_t)2 * (size_t)widths[k] + 1, sizeof **out);
    VisionOutput outputs = {.features = out[0], .spatial = out[1], .logits = out[2]};
    assert_ok(ctx, vision_run(test->network, images, 2, &outputs));
    for (int k = 0; k < 3; k++) {
        if (widths[k]) {
            assert_int_equal(safetensors_find(&test->golden, names[k])->n_elements, 2 * widths[k]);
            double error = network_error(test, names[k], out[k]);
            print_message("%s: error %.2g\n", names[k], error);
            assert_true(error < 1e-4);
        }
        test_free(out[k]);
    }
    test_free(images);
}

// The features of an image are the same bits alone, in a batch of `n`, at any place of it, and with other threads:
// those that `features` holds already, unless it is empty (its first number is 0).
static inline void network_check_independence(NetworkTest *test, int n, float *features) {
    KinditContext *ctx = test->scratch->ctx;
    const VisionInfo *info = vision_info(test->network);
    const size_t width = (size_t)info->n_features,
                 n_pixels = (size_t)3 * (size_t)info->input_size * (size_t)info->input_size;
    float *images = network_images(test), *batch = test_malloc((size_t)n * n_pixels * sizeof *batch);
    float *found = test_malloc((size_t)n * width * sizeof *found);
    for (int i = 0; i < n; i++)
        memcpy(batch + (size_t)i * n_pixels, images + (size_t)(i % 2) * n_pixels, n_pixels * sizeof *batch);
    if (features[0] == 0) assert_ok(ctx, vision_run(test->network, images, 1, &(VisionOutput){.features = features}));
    assert_ok(ctx, vision_run(test->network, batch, n, &(VisionOutput){.features = found}));
    for (int i = 0; i < n; i += 2) assert_memory_equal(found + (size_t)i * width, features, width * sizeof *found);
    assert_memory_not_equal(found + width, features, width * sizeof *found);
    test_free(images);
    test_free(batch);
    test_free(found);
}

#endif
