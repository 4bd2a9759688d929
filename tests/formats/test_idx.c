#include <zlib.h>

#include "formats/idx.h"
#include "scratch.h"

static KinditStatus parse(KinditContext *ctx, const void *data, size_t size) {
    uint8_t *copy = malloc(size ? size : 1); // of the exact size, so that ASan sees any overread
    memcpy(copy, data, size);
    Idx idx;
    KinditStatus status = idx_parse(&idx, ctx, "file", copy, size);
    idx_close(&idx);
    free(copy);
    return status;
}

static void test_reads_plain_and_packed(void **state) {
    Scratch *scratch = *state;
    const char *names[] = {"formats/plain.idx", "formats/packed.idx.gz"};
    for (int k = 0; k < 2; k++) {
        Idx idx;
        assert_ok(scratch->ctx, idx_read(&idx, scratch->ctx, scratch_golden(scratch, names[k])));
        assert_true(idx.n_dims == 3 && idx.shape[0] == 2 && idx.shape[1] == 3 && idx.shape[2] == 4);
        assert_int_equal(idx.n_elements, 24);
        for (int i = 0; i < 24; i++) assert_int_equal(idx.data[i], i);
        idx_close(&idx);
        FileMap map;
        assert_ok(scratch->ctx, file_map(&map, scratch->ctx, scratch_golden(scratch, names[k])));
        for (size_t size = 0; size < map.size; size++)
            assert_int_equal(parse(scratch->ctx, map.data, size), KINDIT_ERROR_FORMAT);
        file_unmap(&map);
    }
}

// IDX bytes gzip-compressed; `claim` replaces the size in the trailer unless negative.
static size_t pack(const void *data, size_t size, int64_t claim, uint8_t *out, size_t capacity) {
    z_stream stream = {.next_in = (z_const Bytef *)(uintptr_t)data,
                       .avail_in = (uInt)size,
                       .next_out = out,
                       .avail_out = (uInt)capacity};
    assert_int_equal(deflateInit2(&stream, 9, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
    assert_int_equal(deflate(&stream, Z_FINISH), Z_STREAM_END);
    deflateEnd(&stream);
    for (int i = 0; i < 4 && claim >= 0; i++) out[stream.total_out - 4 + (unsigned)i] = (uint8_t)(claim >> (8 * i));
    return stream.total_out;
}

static void test_counts_that_lie(void **state) {
    KinditContext *ctx = ((Scratch *)*state)->ctx;
    static const uint8_t good[] = {0, 0, 8, 1, 0, 0, 0, 3, 1, 2, 3};
    assert_ok(ctx, parse(ctx, good, sizeof good));
    static const struct {
        uint8_t bytes[24];
        size_t size;
        KinditStatus status;
    } cases[] = {
        {{0, 0, 8, 1, 0, 0, 0, 4, 1, 2, 3}, 11, KINDIT_ERROR_FORMAT}, // one too many
        {{0, 0, 8, 1, 0, 0, 0, 2, 1, 2, 3}, 11, KINDIT_ERROR_FORMAT}, // one too few
        {{0, 0, 8, 1, 0xff, 0xff, 0xff, 0xff, 1}, 9, KINDIT_ERROR_FORMAT},
        {{0, 0, 8, 3, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, 16, KINDIT_ERROR_FORMAT},
        {{0, 0, 8, 0, 1}, 5, KINDIT_ERROR_FORMAT},
        {{0, 0, 8, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, 24, KINDIT_ERROR_FORMAT},
        {{0, 0, 0x0d, 1, 0, 0, 0, 1, 0, 0, 0, 0}, 12, KINDIT_ERROR_UNSUPPORTED}, // float
        {{0, 1, 8, 1, 0, 0, 0, 1, 1}, 9, KINDIT_ERROR_FORMAT},
    };
    uint8_t packed[256];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(parse(ctx, cases[i].bytes, cases[i].size), cases[i].status);
        size_t size = pack(cases[i].bytes, cases[i].size, -1, packed, sizeof packed);
        assert_int_equal(parse(ctx, packed, size), cases[i].status);
    }
}

static void test_gzip_trailer_lies(void **state) {
    KinditContext *ctx = ((Scratch *)*state)->ctx;
    static const uint8_t good[] = {0, 0, 8, 1, 0, 0, 0, 3, 1, 2, 3};
    uint8_t packed[256];
    size_t size = pack(good, sizeof good, -1, packed, sizeof packed);
    assert_ok(ctx, parse(ctx, packed, size));
    const int64_t claims[] = {0, 10, 12, 1000};
    for (size_t i = 0; i < sizeof claims / sizeof *claims; i++) {
        size = pack(good, sizeof good, claims[i], packed, sizeof packed);
        assert_fails(ctx, parse(ctx, packed, size), KINDIT_ERROR_FORMAT, "corrupt");
    }
    size = pack(good, sizeof good, 1 << 30, packed, sizeof packed);
    assert_fails(ctx, parse(ctx, packed, size), KINDIT_ERROR_FORMAT, "cannot hold");
    size = pack(good, sizeof good, 0xffffffff, packed, sizeof packed);
    assert_fails(ctx, parse(ctx, packed, size), KINDIT_ERROR_FORMAT, "1 GiB");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        scratch_test(test_reads_plain_and_packed),
        scratch_test(test_counts_that_lie),
        scratch_test(test_gzip_trailer_lies),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
