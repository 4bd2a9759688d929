#include <math.h>

#include "base/rng.h"
#include "scratch.h"

// Known answers of Random123's kat_vectors for philox4x32-10. rng_block mixes the purpose into the key's top byte, so
// the seed given here carries the same bits once more.
static void test_philox_known_answers(void **state) {
    (void)state;
    static const struct {
        uint32_t counter[4], key[2], expected[4];
    } vectors[] = {
        {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
         {0xffffffff, 0xffffffff},
         {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
         {0xa4093822, 0x299f31d0},
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    for (size_t i = 0; i < sizeof vectors / sizeof *vectors; i++) {
        const uint32_t *counter = vectors[i].counter, *key = vectors[i].key;
        RngKey stream = {.seed = key[0] | (uint64_t)(key[1] ^ (uint32_t)RNG_TEST << 24) << 32,
                         .sample = counter[2] | (uint64_t)counter[3] << 32,
                         .step = counter[1],
                         .purpose = RNG_TEST};
        uint32_t words[4];
        rng_block(stream, counter[0], words);
        assert_memory_equal(words, vectors[i].expected, sizeof words);
    }
}

static void test_streams_differ_in_each_part_of_the_key(void **state) {
    (void)state;
    const RngKey keys[] = {{1, 2, 3, RNG_TEST}, {2, 2, 3, RNG_TEST}, {1, 3, 3, RNG_TEST},
                           {1, 2, 4, RNG_TEST}, {1, 2, 3, RNG_DATA}, {1, 2 + (1ull << 32), 3, RNG_TEST}};
    enum { N = sizeof keys / sizeof *keys };
    uint32_t words[N][4];
    for (int i = 0; i < N; i++) {
        rng_block(keys[i], 0, words[i]);
        for (int j = 0; j < i; j++) assert_memory_not_equal(words[i], words[j], sizeof words[i]);
    }
}

static void test_uniform_is_indexed_and_in_range(void **state) {
    (void)state;
    RngKey key = {7, 1, 2, RNG_TEST};
    float filled[1003];
    rng_fill_uniform(key, filled, 1003);
    double sum = 0;
    for (uint32_t i = 0; i < 1003; i++) {
        assert_true(filled[i] == rng_uniform(key, i));
        assert_true(filled[i] >= 0 && filled[i] < 1);
        sum += filled[i];
    }
    assert_true(fabs(sum / 1003 - 0.5) < 0.03);
    float prefix[5];
    rng_fill_uniform(key, prefix, 5);
    assert_memory_equal(prefix, filled, sizeof prefix);
}

static void test_below_covers_its_range_evenly(void **state) {
    (void)state;
    RngKey key = {3, 0, 0, RNG_TEST};
    int counts[7] = {0};
    for (uint32_t i = 0; i < 70000; i++) counts[rng_below(key, i, 7)]++; // the array bound is the range check
    for (int i = 0; i < 7; i++) assert_in_range(counts[i], 9600, 10400); // 4 sigma
    assert_int_equal(rng_below(key, 0, 1), 0);
}

static void test_normal_moments(void **state) {
    (void)state;
    enum { N = 400001 };
    float *x = malloc(N * sizeof *x);
    rng_fill_normal((RngKey){11, 0, 0, RNG_NOISE}, x, N);
    double moments[5] = {0}, lag = 0;
    for (int i = 0; i < N; i++) {
        for (int k = 1; k <= 4; k++) moments[k] += pow(x[i], k) / N;
        if (i) lag += (double)x[i] * x[i - 1] / N;
    }
    assert_true(fabs(moments[1]) < 0.008);
    assert_true(fabs(moments[2] - 1) < 0.01);
    assert_true(fabs(moments[3]) < 0.03);
    assert_true(fabs(moments[4] - 3) < 0.08);
    assert_true(fabs(lag) < 0.008);
    float prefix[3]; // an odd length cuts a pair, not the values
    rng_fill_normal((RngKey){11, 0, 0, RNG_NOISE}, prefix, 3);
    assert_memory_equal(prefix, x, sizeof prefix);
    free(x);
}

static void test_permutation(void **state) {
    (void)state;
    enum { N = 5000 };
    static uint32_t order[N], again[N], other[N];
    static bool seen[N];
    rng_permute((RngKey){5, 0, 1, RNG_SHUFFLE}, order, N);
    rng_permute((RngKey){5, 0, 1, RNG_SHUFFLE}, again, N);
    rng_permute((RngKey){5, 0, 2, RNG_SHUFFLE}, other, N);
    int n_fixed = 0;
    for (uint32_t i = 0; i < N; i++) {
        assert_true(order[i] < N && !seen[order[i]]);
        seen[order[i]] = true;
        n_fixed += order[i] == i;
    }
    assert_true(n_fixed < 8); // one expected
    assert_memory_equal(order, again, sizeof order);
    assert_memory_not_equal(order, other, sizeof order);
    int counts[6] = {0}; // the 6 orders of 3 things are equally likely
    for (uint64_t i = 0; i < 6000; i++) {
        rng_permute((RngKey){5, i, 0, RNG_TEST}, order, 3);
        counts[order[0] * 2 + (order[1] > order[2])]++;
    }
    for (int i = 0; i < 6; i++) assert_in_range(counts[i], 880, 1120);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_philox_known_answers),
        cmocka_unit_test(test_streams_differ_in_each_part_of_the_key),
        cmocka_unit_test(test_uniform_is_indexed_and_in_range),
        cmocka_unit_test(test_below_covers_its_range_evenly),
        cmocka_unit_test(test_normal_moments),
        cmocka_unit_test(test_permutation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
