#include "formats/npy.h"

#include <string.h>

static const char magic[6] = "\x93NUMPY";

// The names numpy gives the types; bf16 has none.
static const struct {
    const char *descr;
    Dtype dtype;
} descrs[] = {{"|u1", DTYPE_U8},  {"<i4", DTYPE_I32}, {"<i8", DTYPE_I64},
              {"<f2", DTYPE_F16}, {"<f4", DTYPE_F32}, {"<f8", DTYPE_F64}};
enum { N_DESCRS = sizeof descrs / sizeof *descrs };

// The header is the text of a Python dictionary: {'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }
typedef struct Cursor {
    const char *at, *end;
} Cursor;

// Skips blanks, then `text` if it comes next.
static bool take(Cursor *cursor, const char *text) {
    while (cursor->at < cursor->end && (*cursor->at == ' ' || *cursor->at == '\n')) cursor->at++;
    size_t length = strlen(text);
    if ((size_t)(cursor->end - cursor->at) < length || memcmp(cursor->at, text, length) != 0) return false;
    cursor->at += length;
    return true;
}

static bool take_size(Cursor *cursor, int64_t *out) {
    take(cursor, "");
    const char *start = cursor->at;
    for (*out = 0; cursor->at < cursor->end && *cursor->at >= '0' && *cursor->at <= '9'; cursor->at++)
        if (__builtin_mul_overflow(*out, 10, out) || __builtin_add_overflow(*out, *cursor->at - '0', out)) return false;
    return cursor->at > start;
}

static bool take_shape(Cursor *cursor, Tensor *out) {
    if (!take(cursor, "(")) return false;
    for (out->n_dims = 0; !take(cursor, ")"); out->n_dims++) {
        if (out->n_dims == TENSOR_MAX_DIMS || !take_size(cursor, &out->shape[out->n_dims])) return false;
        if (!take(cursor, ",")) return out->n_dims++ > 0 && take(cursor, ")");
    }
    return true;
}

static bool take_dtype(Cursor *cursor, Tensor *out) {
    char quoted[8];
    for (int i = 0; i < N_DESCRS; i++) {
        snprintf(quoted, sizeof quoted, "'%s'", descrs[i].descr);
        if (!take(cursor, quoted)) continue;
        out->dtype = descrs[i].dtype;
        return true;
    }
    return false;
}

static KinditStatus parse_header(Tensor *out, KinditContext *ctx, const char *name, Cursor cursor) {
    bool has_descr = false, has_order = false, has_shape = false;
    bool good = take(&cursor, "{");
    while (good && !take(&cursor, "}")) {
        if (!has_descr && take(&cursor, "'descr':")) {
            has_descr = true;
            if (!take_dtype(&cursor, out)) {
                int n = 0; // of the bytes of the unknown type
                while (n < 40 && cursor.at + n < cursor.end && !strchr(",}", cursor.at[n])) n++;
                return context_fail(ctx, KINDIT_ERROR_UNSUPPORTED,
                                    "%s: expected dtype |u1, <i4, <i8, <f2, <f4 or <f8, found %.*s", name, n,
                                    cursor.at);
            }
        } else if (!has_order && take(&cursor, "'fortran_order':")) {
            has_order = true;
            if (take(&cursor, "True"))
                return context_fail(ctx, KINDIT_ERROR_UNSUPPORTED, "%s: expected C order, found Fortran order", name);
            good = take(&cursor, "False");
        } else if (!has_shape && take(&cursor, "'shape':")) {
            good = has_shape = take_shape(&cursor, out);
        } else {
            good = false;
        }
        if (!take(&cursor, ",")) {
            good = good && take(&cursor, "}");
            break;
        }
    }
    take(&cursor, "");
    if (!good || !has_descr || !has_order || !has_shape || cursor.at != cursor.end)
        return context_fail(ctx, KINDIT_ERROR_FORMAT, "%s: the npy header is not {descr, fortran_order, shape}", name);
    return KINDIT_OK;
}

KinditStatus npy_parse(Tensor *out, KinditContext *ctx, const char *name, const void *data, size_t size) {
    *out = (Tensor){.name = "array"};
    const uint8_t *bytes = data;
    if (size < 10 || memcmp(bytes, magic, sizeof magic) != 0 || bytes[6] < 1 || bytes[6] > 3)
        return context_fail(ctx, KINDIT_ERROR_FORMAT, "%s: not an npy file of version 1, 2 or 3", name);
    size_t start = bytes[6] == 1 ? 10 : 12;
    size_t length = bytes[8] | (size_t)bytes[9] << 8;
    if (start == 12 && size >= 12) length |= (size_t)bytes[10] << 16 | (size_t)bytes[11] << 24;
    if (size < start || length > size - start)
        return context_fail(ctx, KINDIT_ERROR_FORMAT, "%s: an npy header of %zu bytes in %zu: truncated", name, length,
                            size);
    const char *text = (const char *)bytes + start;
    TRY(parse_header(out, ctx, name, (Cursor){text, text + length}));
    TRY(tensor_measure(out, ctx, name));
    if (out->n_bytes != size - start - length)
        return context_fail(ctx, KINDIT_ERROR_FORMAT, "%s: the npy header promises %zu bytes of data, found %zu", name,
                            out->n_bytes, size - start - length);
    out->data = bytes + start + length;
    return KINDIT_OK;
}

KinditStatus npy_open(Npy *out, KinditContext *ctx, const char *path) {
    *out = (Npy){0};
    TRY(file_map(&out->map, ctx, path));
    KinditStatus status = npy_parse(&out->array, ctx, path, out->map.data, out->map.size);
    if (status) npy_close(out);
    return status;
}

void npy_close(Npy *npy) {
    file_unmap(&npy->map);
    memory_free(&npy->owned);
    *npy = (Npy){0};
}

KinditStatus npy_header(char out[NPY_HEADER_SIZE], KinditContext *ctx, const char *path, Dtype dtype, int n_dims,
                        const int64_t *shape) {
    Tensor measured = {.name = "array", .dtype = dtype, .n_dims = n_dims};
    if (n_dims > 0 && n_dims <= TENSOR_MAX_DIMS) memcpy(measured.shape, shape, (size_t)n_dims * sizeof *shape);
    TRY(tensor_measure(&measured, ctx, path));
    const char *descr = NULL;
    for (int i = 0; i < N_DESCRS; i++)
        if (descrs[i].dtype == dtype) descr = descrs[i].descr;
    if (!descr) return context_fail(ctx, KINDIT_ERROR_UNSUPPORTED, "%s: npy has no type %s", path, dtype_name(dtype));
    memset(out, ' ', NPY_HEADER_SIZE);
    memcpy(out, magic, sizeof magic);
    const size_t start = 10, length = NPY_HEADER_SIZE - start;
    const uint8_t version_and_length[4] = {1, 0, (uint8_t)length, (uint8_t)(length >> 8)};
    memcpy(out + sizeof magic, version_and_length, sizeof version_and_length);
    char shape_text[TENSOR_SHAPE_TEXT], text[NPY_HEADER_SIZE];
    tensor_shape_text(shape_text, n_dims, shape);
    if (n_dims == 1) memcpy(strchr(shape_text, ')'), ",)", 3); // a Python tuple of one
    int n = snprintf(text, sizeof text, "{'descr': '%s', 'fortran_order': False, 'shape': %s, }", descr, shape_text);
    memcpy(out + start, text, (size_t)n);
    out[NPY_HEADER_SIZE - 1] = '\n';
    return KINDIT_OK;
}

KinditStatus npy_write(KinditContext *ctx, const char *path, const Tensor *array) {
    Tensor measured = *array;
    TRY(tensor_measure(&measured, ctx, path));
    char header[NPY_HEADER_SIZE];
    TRY(npy_header(header, ctx, path, array->dtype, array->n_dims, array->shape));
    FileWriter writer;
    TRY(file_begin(&writer, ctx, path)); // the stream remembers a failed write, file_commit reports it
    fwrite(header, 1, sizeof header, writer.stream);
    if (measured.n_bytes) fwrite(array->data, 1, measured.n_bytes, writer.stream);
    return file_commit(&writer, ctx);
}

KinditStatus npy_stream_begin(NpyStream *out, KinditContext *ctx, const char *path, Dtype dtype, int n_dims,
                              const int64_t *shape) {
    *out = (NpyStream){.dtype = dtype, .n_dims = n_dims};
    if (n_dims < 1 || n_dims > TENSOR_MAX_DIMS)
        return context_fail(ctx, KINDIT_ERROR_ARGUMENT, "%s: expected 1 to %d dimensions, found %d", path,
                            TENSOR_MAX_DIMS, n_dims);
    memcpy(out->shape, shape, (size_t)n_dims * sizeof *shape);
    out->shape[0] = 0;
    char header[NPY_HEADER_SIZE];
    TRY(npy_header(header, ctx, path, dtype, n_dims, out->shape));
    TRY(file_begin(&out->file, ctx, path));
    fwrite(header, 1, sizeof header, out->file.stream);
    return KINDIT_OK;
}

KinditStatus npy_stream_append(NpyStream *stream, KinditContext *ctx, const void *rows, int64_t n_rows) {
    Tensor block = {.dtype = stream->dtype, .n_dims = stream->n_dims};
    memcpy(block.shape, stream->shape, sizeof block.shape);
    block.shape[0] = n_rows;
    TRY(tensor_measure(&block, ctx, stream->file.path));
    if (block.n_bytes && fwrite(rows, 1, block.n_bytes, stream->file.stream) != block.n_bytes)
        return context_fail(ctx, KINDIT_ERROR_IO, "%s: cannot write: is the disk full?", stream->file.path);
    stream->shape[0] += n_rows;
    return KINDIT_OK;
}

KinditStatus npy_stream_commit(NpyStream *stream, KinditContext *ctx) {
    char header[NPY_HEADER_SIZE];
    KinditStatus status = npy_header(header, ctx, stream->file.path, stream->dtype, stream->n_dims, stream->shape);
    if (!status && fseek(stream->file.stream, 0, SEEK_SET) != 0)
        status = context_fail(ctx, KINDIT_ERROR_IO, "%s: cannot write the header", stream->file.path);
    if (status) {
        npy_stream_abandon(stream);
        return status;
    }
    fwrite(header, 1, sizeof header, stream->file.stream);
    return file_commit(&stream->file, ctx);
}

void npy_stream_abandon(NpyStream *stream) {
    file_abandon(&stream->file);
}
