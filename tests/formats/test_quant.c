// Few bits: every number within half a step, the same bytes again for what was read, and no number that is none.
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
// cmocka needs some of the above
#include <cmocka.h>

#include "base/bf16.h"
#include "base/rng.h"
#include "formats/quant.h"

enum { LONGEST = 1030 };

typedef struct Row {
    uint8_t q[LONGEST];
    uint16_t scales[LONGEST];
    float w[LONGEST];
} Row;

// Guards beyond the end show what is written past it.
static void encode(int bits, const float *w, size_t n, Row *out) {
    memset(out, 0xa5, sizeof *out);
    assert_true(quant_encode_row(bits, w, n, out->q, out->scales));
    assert_int_equal(out->q[quant_row_bytes(bits, n)], 0xa5);
    assert_int_equal(out->scales[quant_row_scales(bits, n)], 0xa5a5);
    assert_true(quant_decode_row(bits, out->q, out->scales, n, out->w));
    uint32_t guard;
    memcpy(&guard, &out->w[n], sizeof guard);
    assert_int_equal(guard, 0xa5a5a5a5);
}

static void check_row(int bits, const float *w, size_t n) {
    Row first, again;
    encode(bits, w, n, &first);
    size_t group = bits == 8 ? n : QUANT_GROUP_4;
    for (size_t i = 0; i < n; i++) {
        double scale = bf16_to_float(first.scales[i / group]);
        double error = fabs((double)first.w[i] - (double)w[i]);
        // Zero for a group that is too small to have a scale. The quotient is rounded to float before it is to an
        // integer: 1e-5 of a step.
        if (error > (scale > 0 ? scale * (0.5 + 1e-5) : 127 * (double)FLT_MIN))
            fail_msg("%d bits, %zu numbers: %g becomes %g, scale %g", bits, n, (double)w[i], (double)first.w[i], scale);
    }
    encode(bits, first.w, n, &again);
    assert_memory_equal(again.q, first.q, sizeof first.q);
    assert_memory_equal(again.scales, first.scales, sizeof first.scales);
}

static void test_random_rows(void **state) {
    (void)state;
    static const size_t lengths[] = {0, 1, 2, 3, 31, 32, 33, 64, 65, 127, 1024, 1025};
    static const float sizes[] = {1, 0x1p-30f, 0x1p100f, 0x1p-118f, 0x1p-126f, 0x1p-140f};
    float w[LONGEST];
    for (int bits = 4; bits <= 8; bits += 4)
        for (size_t l = 0; l < sizeof lengths / sizeof *lengths; l++)
            for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++)
                for (uint64_t seed = 0; seed < 8; seed++) {
                    RngKey key = {.seed = seed, .sample = 10 * l + s, .purpose = RNG_TEST};
                    rng_fill_normal(key, w, lengths[l]);
                    for (size_t i = 0; i < lengths[l]; i++) w[i] *= sizes[s];
                    check_row(bits, w, lengths[l]);
                }
}

// The scale's rounding is at its worst somewhere: the largest number of a row still becomes +-127 or +-7.
static void test_every_scale(void **state) {
    (void)state;
    for (int bits = 4; bits <= 8; bits += 4)
        for (uint32_t i = 0; i < 4096; i++) {
            uint32_t pattern = 0x3f800000u + (i << 11); // 1 to 2
            float w[2];
            memcpy(&w[0], &pattern, sizeof w[0]);
            w[1] = -w[0];
            Row row;
            encode(bits, w, 2, &row);
            if (bits == 8)
                assert_true(row.q[0] == 127 && (int8_t)row.q[1] == -127);
            else
                assert_int_equal(row.q[0], 15 | 1 << 4);
            check_row(bits, w, 2);
        }
}

static void test_layout_by_hand(void **state) {
    (void)state;
    const float w[] = {127, -127, 0.5f, 1.5f, -2.5f}; // scale 1: halves go to the even neighbour
    Row row;
    encode(8, w, 5, &row);
    assert_memory_equal(row.q, ((uint8_t[]){127, 0x81, 0, 2, 0xfe}), 5);
    assert_int_equal(row.scales[0], 0x3f80);
    float four[33] = {7, -7, 0.5f, 1.5f, -2.5f, -1};
    four[32] = -14; // a group to itself, of scale 2
    encode(4, four, 33, &row);
    assert_memory_equal(row.q, ((uint8_t[]){0x1f, 0xa8, 0x76, 0x88}), 4);
    assert_int_equal(row.q[16], 0x81);
    assert_int_equal(row.scales[0], 0x3f80);
    assert_int_equal(row.scales[1], 0x4000);
    assert_int_equal(quant_row_bytes(4, 33), 17);
    assert_int_equal(quant_row_scales(4, 33), 2);
    assert_int_equal(quant_row_scales(8, 33), 1);

    // What others may write: the lowest q, and scales where they happen to lie.
    const uint8_t low = 0x80, packed[] = {0, 0x80, 0x3f};
    float read[2];
    assert_true(quant_decode_row(8, &low, packed + 1, 1, read));
    assert_true(read[0] == -128);
    assert_true(quant_decode_row(4, packed, packed + 1, 2, read));
    assert_true(read[0] == -8 && read[1] == -8);
}

static void test_zeros(void **state) {
    (void)state;
    float w[64] = {0};
    w[3] = -0.0f;
    for (int bits = 4; bits <= 8; bits += 4) {
        Row row;
        encode(bits, w, 64, &row);
        for (int i = 0; i < 64; i++) assert_true(row.w[i] == 0);
        assert_int_equal(row.scales[0], 0);
    }
}

static void test_refusals(void **state) {
    (void)state;
    const float bad[] = {NAN, INFINITY, -INFINITY, FLT_MAX, 0x1.000002p120f};
    Row row;
    for (int bits = 4; bits <= 8; bits += 4) {
        for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
            for (size_t at = 0; at < 40; at += 39) {
                float w[40] = {0};
                w[at] = bad[i];
                assert_false(quant_encode_row(bits, w, 40, row.q, row.scales));
            }
        check_row(bits, (float[]){QUANT_LARGEST, -1}, 2);           // the last that is taken
        const uint16_t scales[] = {0x7f80, 0x7fc0, 0xbf80, 0x7f00}; // infinity, NaN, -1, 2^127
        for (size_t i = 0; i < sizeof scales / sizeof *scales; i++)
            assert_false(quant_decode_row(bits, row.q, &scales[i], 1, row.w));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_rows), cmocka_unit_test(test_every_scale), cmocka_unit_test(test_layout_by_hand),
        cmocka_unit_test(test_zeros),       cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
