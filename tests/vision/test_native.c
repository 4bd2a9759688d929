// A network of one's own among the others: what vision_open makes of the golden classifier, fed through its profile.
#include "golden/golden.h"
#include "scratch.h"
#include "vision/vision.h"

enum { SIDE = 12, CHANNELS = 3, SIZE = SIDE * SIDE * CHANNELS };

static void test_features(void **state) {
    Scratch *scratch = *state;
    Golden g;
    VisionNetwork *network;
    golden_open(&g, "classifier", NULL, 2);
    golden_require(&g, engine_create(&g.engine, g.ctx));
    golden_require(&g, model_open_classifier(&g.model, g.ctx, g.engine, TEST_SOURCE_DIR "/golden/model/classifier"));
    const char *path = scratch_path(scratch, "own.safetensors");
    golden_require(&g, model_write(g.model, path, STORAGE_F32, false));
    golden_require(&g, vision_open(&network, g.ctx, g.engine, path));
    const VisionInfo *info = vision_info(network);
    assert_true(info->channels == CHANNELS && info->input_size == SIDE && info->profile == PROFILE_NATIVE);
    assert_true(info->n_features == g.model->dit->config.width && info->n_spatial == 0 && info->n_logits == 5);

    const float *x = golden_floats(&g, "x");
    const int n = (int)golden_find(&g, "x")->shape[0];
    float *images = golden_empty(&g, (size_t)n * SIZE);
    for (int i = 0; i < n; i++) {
        uint8_t pixels[SIZE];
        for (int k = 0; k < SIZE; k++) // (C, S, S) to (S, S, C)
            pixels[k] = (uint8_t)lroundf((x[i * SIZE + k % CHANNELS * SIDE * SIDE + k / CHANNELS] + 1) * 127.5f);
        golden_require(
            &g, profile_apply(info->profile, g.ctx, pixels, SIDE, SIDE, CHANNELS, SIDE, CHANNELS, images + i * SIZE));
    }
    const size_t n_features = golden_find(&g, "features")->n_elements, n_logits = golden_find(&g, "out")->n_elements;
    float *features = golden_empty(&g, n_features), *logits = golden_empty(&g, n_logits);
    golden_require(&g, vision_run(network, images, n, &(VisionOutput){.features = features, .logits = logits}));
    golden_assert_close("classifier", "features", n_features, features, golden_floats(&g, "features"), 2e-6);
    golden_assert_close("classifier", "out", n_logits, logits, golden_floats(&g, "out"), 2e-6);
    vision_close(&network);
    golden_close(&g);
}

// What draws is no network that looks.
static void test_models_that_draw_are_refused(void **state) {
    Scratch *scratch = *state;
    Golden g;
    VisionNetwork *network;
    golden_open(&g, "dense_p4", "dense_p4", 1);
    const char *path = scratch_path(scratch, "draws.safetensors");
    golden_require(&g, model_write(g.model, path, STORAGE_F32, false));
    assert_fails(g.ctx, vision_open(&network, g.ctx, g.engine, path), KINDIT_ERROR_UNSUPPORTED, "no network");
    assert_null(network);
    golden_close(&g);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        scratch_test(test_features),
        scratch_test(test_models_that_draw_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
