// Preprocessing profiles: equal to the reference programs' own.
#include "vision/profile.h"

#include <math.h>

#include "formats/npy.h"
#include "scratch.h"

enum { STEP = 11 }; // of the golden outputs: see make_profiles.py

static void compare(const char *profile, int picture, int size, const float *found, const Tensor *expected,
                    double tolerance) {
    const float *value = expected->data;
    assert_int_equal(expected->shape[1], (size + STEP - 1) / STEP);
    for (int c = 0; c < 3; c++)
        for (int y = 0; y < size; y += STEP)
            for (int x = 0; x < size; x += STEP, value++) {
                double apart = fabs((double)found[((size_t)c * (size_t)size + (size_t)y) * (size_t)size + (size_t)x] -
                                    (double)*value);
                if (!(apart <= tolerance))
                    fail_msg("%s, picture %d, channel %d at %d, %d: %g off", profile, picture, c, x, y, apart);
            }
    assert_ptr_equal(value, (const float *)expected->data + expected->n_elements);
}

// dgm-eval's and adm's arithmetic is theirs step by step: no bit may differ. PyTorch sums four weighted pixels in an
// order that follows the processor: of values up to 1, scaled by 2, single precision leaves 4e-7 in doubt.
static void test_profiles_equal_the_reference_programs(void **state) {
    Scratch *scratch = *state;
    KinditContext *ctx = scratch->ctx;
    static const struct {
        VisionProfile profile;
        int size;
        double tolerance;
    } cases[] = {{PROFILE_ADM, 299, 0}, {PROFILE_PYTORCH_FID, 299, 4e-7}, {PROFILE_DGM_EVAL, 224, 0}};
    float *out = test_malloc(3 * 299 * 299 * sizeof *out);
    for (int i = 0; i < 6; i++)
        for (size_t k = 0; k < 3; k++) {
            char name[32];
            Npy in, expected;
            const char *profile = profile_name(cases[k].profile);
            snprintf(name, sizeof name, "in_%d", i);
            assert_ok(ctx, npz_read(&in, ctx, scratch_golden(scratch, "vision/profiles.npz"), name));
            snprintf(name, sizeof name, "%s_%d", profile, i);
            assert_ok(ctx, npz_read(&expected, ctx, scratch_golden(scratch, "vision/profiles.npz"), name));
            assert_ok(ctx, profile_apply(cases[k].profile, ctx, in.array.data, (int)in.array.shape[0],
                                         (int)in.array.shape[1], 3, cases[k].size, 3, out));
            compare(profile, i, cases[k].size, out, &expected.array, cases[k].tolerance);
            npy_close(&in);
            npy_close(&expected);
        }
    test_free(out);
}

static void test_grey_is_repeated(void **state) {
    Scratch *scratch = *state;
    enum { SIDE = 5, SIZE = 9, PLANE = SIZE * SIZE };
    uint8_t grey[SIDE * SIDE], coloured[SIDE * SIDE * 3];
    float from_grey[3 * PLANE], from_coloured[3 * PLANE];
    for (int i = 0; i < SIDE * SIDE; i++) {
        grey[i] = (uint8_t)(i * 41 % 256);
        memset(coloured + 3 * i, grey[i], 3);
    }
    for (int profile = PROFILE_ADM; profile <= PROFILE_DGM_EVAL; profile++) {
        assert_ok(scratch->ctx,
                  profile_apply((VisionProfile)profile, scratch->ctx, grey, SIDE, SIDE, 1, SIZE, 3, from_grey));
        assert_ok(scratch->ctx,
                  profile_apply((VisionProfile)profile, scratch->ctx, coloured, SIDE, SIDE, 3, SIZE, 3, from_coloured));
        assert_memory_equal(from_grey, from_coloured, sizeof from_grey);
    }
}

static void test_native_is_the_training_scale(void **state) {
    Scratch *scratch = *state;
    const uint8_t pixels[4] = {0, 255, 51, 204};
    float out[4], coloured[12];
    assert_ok(scratch->ctx, profile_apply(PROFILE_NATIVE, scratch->ctx, pixels, 2, 2, 1, 2, 1, out));
    for (int i = 0; i < 4; i++) assert_true(out[i] == (float)pixels[i] / 127.5f - 1.0f);
    assert_ok(scratch->ctx, profile_apply(PROFILE_NATIVE, scratch->ctx, pixels, 2, 2, 1, 2, 3, coloured));
    for (int c = 0; c < 3; c++) assert_memory_equal(coloured + 4 * c, out, sizeof out);
    assert_fails(scratch->ctx, profile_apply(PROFILE_NATIVE, scratch->ctx, pixels, 2, 2, 1, 4, 1, out),
                 KINDIT_ERROR_ARGUMENT, "expected 4 x 4 pixels, found 2 x 2");
}

static void test_misfits_are_refused(void **state) {
    Scratch *scratch = *state;
    uint8_t pixels[12] = {0};
    float out[12];
    VisionProfile profile;
    assert_fails(scratch->ctx, profile_apply(PROFILE_ADM, scratch->ctx, pixels, 2, 2, 3, 2, 1, out),
                 KINDIT_ERROR_ARGUMENT, "reads 1 channels, the picture has 3");
    assert_fails(scratch->ctx, profile_apply(PROFILE_DGM_EVAL, scratch->ctx, pixels, 2, 2, 1, 2, 1, out),
                 KINDIT_ERROR_ARGUMENT, "coloured");
    assert_fails(scratch->ctx, profile_apply(PROFILE_ADM, scratch->ctx, pixels, 0, 2, 3, 2, 3, out),
                 KINDIT_ERROR_ARGUMENT, "sides");
    assert_fails(scratch->ctx, profile_parse(&profile, scratch->ctx, "clean"), KINDIT_ERROR_ARGUMENT, "dgm-eval");
    for (int i = 0; i < PROFILE_COUNT; i++) {
        assert_ok(scratch->ctx, profile_parse(&profile, scratch->ctx, profile_name((VisionProfile)i)));
        assert_int_equal(profile, i);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        scratch_test(test_profiles_equal_the_reference_programs),
        scratch_test(test_grey_is_repeated),
        scratch_test(test_native_is_the_training_scale),
        scratch_test(test_misfits_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
