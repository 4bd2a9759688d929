#include "formats/inflate.h"

#include <limits.h>
#include <zlib.h>

#include "base/memory.h"

enum { DEFLATE_MAX_RATIO = 1032 }; // zlib technical details: no stream expands further

static uInt chunk_of(size_t size) {
    return size < UINT_MAX ? (uInt)size : UINT_MAX;
} // zlib counts in 32 bits

static bool inflate_all(z_stream *stream, const uint8_t *in, size_t in_size, uint8_t *out, size_t out_size) {
    int result = Z_OK;
    while (result == Z_OK) {
        stream->next_in = (z_const Bytef *)in;
        stream->avail_in = chunk_of(in_size);
        stream->next_out = out;
        stream->avail_out = chunk_of(out_size);
        result = inflate(stream, Z_NO_FLUSH);
        in_size -= (size_t)(stream->next_in - in);
        in = stream->next_in;
        out_size -= (size_t)(stream->next_out - out);
        out = stream->next_out;
    }
    return result == Z_STREAM_END && in_size == 0 && out_size == 0;
}

KinditStatus inflate_bytes(uint8_t **out, size_t out_size, KinditContext *ctx, const char *name, const uint8_t *in,
                           size_t in_size, InflateWrapper wrapper) {
    *out = NULL;
    if (out_size / DEFLATE_MAX_RATIO > in_size)
        return context_fail(ctx, KINDIT_ERROR_FORMAT, "%s: %zu compressed bytes cannot hold the %zu promised", name,
                            in_size, out_size);
    TRY(memory_alloc(ctx, out_size, 1, out));
    z_stream stream = {0};
    bool ready = inflateInit2(&stream, (int)wrapper) == Z_OK;
    bool good = ready && inflate_all(&stream, in, in_size, *out, out_size);
    if (ready) inflateEnd(&stream);
    if (good) return KINDIT_OK;
    memory_free(out);
    return context_fail(ctx, KINDIT_ERROR_FORMAT, "%s: the compressed data are corrupt or not the %zu bytes promised",
                        name, out_size);
}
