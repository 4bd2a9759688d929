#include "formats/idx.h"

#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "formats/inflate.h"

enum { IDX_UINT8 = 0x08, IDX_MAX_BYTES = 1 << 30, GZIP_TRAILER = 8 };

static KinditStatus parse_plain(Idx *out, KinditContext *ctx, const char *name, const uint8_t *data, size_t size) {
    if (size < 4 || data[0] != 0 || data[1] != 0)
        return context_fail(ctx, KINDIT_ERROR_FORMAT, "%s: not an IDX file", name);
    if (data[2] != IDX_UINT8)
        return context_fail(ctx, KINDIT_ERROR_UNSUPPORTED, "%s: expected IDX type 0x08 (uint8), found 0x%02x", name,
                            data[2]);
    out->n_dims = data[3];
    size_t start = 4 + 4 * (size_t)out->n_dims;
    if (out->n_dims < 1 || out->n_dims > 4 || size < start)
        return context_fail(ctx, KINDIT_ERROR_FORMAT,
                            "%s: expected 1 to 4 dimensions and their sizes, found %d in %zu bytes", name, out->n_dims,
                            size);
    size_t n = 1;
    for (int i = 0; i < out->n_dims; i++) {
        const uint8_t *field = data + 4 + 4 * i;
        uint32_t count = (uint32_t)field[0] << 24 | (uint32_t)field[1] << 16 | (uint32_t)field[2] << 8 | field[3];
        out->shape[i] = count;
        if (!memory_multiply(n, count, &n))
            return context_fail(ctx, KINDIT_ERROR_FORMAT, "%s: the sizes overflow", name);
    }
    if (n != size - start || n > IDX_MAX_BYTES)
        return context_fail(ctx, KINDIT_ERROR_FORMAT, "%s: expected %zu bytes of data (at most 1 GiB), found %zu", name,
                            n, size - start);
    out->n_elements = n;
    TRY(memory_alloc(ctx, n, 1, &out->data));
    memcpy(out->data, data + start, n);
    return KINDIT_OK;
}

KinditStatus idx_parse(Idx *out, KinditContext *ctx, const char *name, const uint8_t *data, size_t size) {
    *out = (Idx){0};
    if (size < GZIP_TRAILER || data[0] != 0x1f || data[1] != 0x8b) return parse_plain(out, ctx, name, data, size);
    const uint8_t *field = data + size - 4; // gzip ends in the size of what it holds
    size_t plain_size = field[0] | (size_t)field[1] << 8 | (size_t)field[2] << 16 | (size_t)field[3] << 24;
    if (plain_size > IDX_MAX_BYTES + 20u)
        return context_fail(ctx, KINDIT_ERROR_FORMAT, "%s: truncated, or more than 1 GiB: gzip promises %zu bytes",
                            name, plain_size);
    uint8_t *plain;
    TRY(inflate_bytes(&plain, plain_size, ctx, name, data, size, INFLATE_GZIP));
    KinditStatus status = parse_plain(out, ctx, name, plain, plain_size);
    memory_free(&plain);
    return status;
}

KinditStatus idx_read(Idx *out, KinditContext *ctx, const char *path) {
    *out = (Idx){0};
    FileMap map;
    TRY(file_map(&map, ctx, path));
    KinditStatus status = idx_parse(out, ctx, path, map.data, map.size);
    file_unmap(&map);
    return status;
}

void idx_close(Idx *idx) {
    memory_free(&idx->data);
    *idx = (Idx){0};
}
