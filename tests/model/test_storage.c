// Storage types: the bytes of a file, counted before anything is written.
#include "model/storage.h"

#include "model/model_params_file.h"
#include "model/models.h"

// The model of models.h by hand: D 12, hidden 48, depth 2, N_G 5, N_T 3, patches of 2x2x3 in and 2x2x6 out.
static void test_bytes_by_hand(void **state) {
    Scratch *scratch = *state;
    DitConfig config = models_config(true);
    Dit *dit;
    assert_ok(scratch->ctx, dit_create(&dit, scratch->ctx, &config));
    // Matrices (rows, row), per kind of row: U and V of q, k, v, o; of in and out; time; adaLN; final adaLN.
    const size_t depth = 2, narrow = 12, wide = 48;
    const size_t component_rows[] = {10, 2}; // of `narrow` and of `wide` numbers, per component and block
    const size_t narrow_rows = 12 + 2 * 12 + depth * 6 * 12; // t_out, final adaLN, adaLN
    const size_t floats = 12 * 12 + 12 /* x */ + 12 + 12 /* t */ + 12 /* null row */ + 2 * 12 + 24 * 12 +
                          24 /* final */ + depth * (6 * 12 + 5 * 12 + 48);
    const struct {
        StorageType type;
        size_t narrow, wide, times, number; // bytes of a row of 12, of 48, of 256; of any other number
    } rows[] = {{STORAGE_F32, 4 * narrow, 4 * wide, 4 * 256, 4},
                {STORAGE_BF16, 2 * narrow, 2 * wide, 2 * 256, 2},
                {STORAGE_INT8, narrow + 2, wide + 2, 256 + 2, 2},
                {STORAGE_INT4, narrow / 2 + 2, wide / 2 + 2 * 2, 128 + 8 * 2, 2}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        size_t component = component_rows[0] * rows[i].narrow + component_rows[1] * rows[i].wide + 6 * rows[i].number;
        size_t shared =
            floats * rows[i].number + narrow_rows * rows[i].narrow + 12 * rows[i].times + depth * 5 * component;
        size_t tailor = depth * 3 * component + 12 * rows[i].number;
        const ParamLayout *layout = &dit->layout;
        assert_int_equal(model_params_bytes(layout, MODEL_PART_SHARED, 0, rows[i].type), shared);
        assert_int_equal(model_params_bytes(layout, MODEL_PART_TAILOR, 0, rows[i].type), tailor);
        assert_int_equal(model_params_bytes(layout, MODEL_PART_WHOLE, 3, rows[i].type), shared + 3 * tailor);
    }
    dit_close(&dit);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        scratch_test(test_bytes_by_hand),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
