// npy (versions 1-3, C order, little-endian |u1 <i4 <i8 <f4 <f8 <f2) and npz (zip, stored or deflated): what numpy
// writes.
#ifndef FORMATS_NPY_H
#define FORMATS_NPY_H

#include "formats/safetensors.h" // Tensor, Dtype

typedef struct Npy {
    FileMap map; // empty when the array lies in `owned`
    void *owned;
    Tensor array; // array.data stays valid until npy_close
} Npy;

KinditStatus npy_open(Npy *out, KinditContext *ctx, const char *path); // memory-mapped
KinditStatus npy_parse(Tensor *out, KinditContext *ctx, const char *name, const void *data, size_t size);
void npy_close(Npy *npy);
KinditStatus npy_write(KinditContext *ctx, const char *path, const Tensor *array); // atomic

// The header of every array written here, of one width so that a count can be filled in afterwards. BF16 has no name in
// npy and is refused.
enum { NPY_HEADER_SIZE = 256 };
KinditStatus npy_header(char out[NPY_HEADER_SIZE], KinditContext *ctx, const char *path, Dtype dtype, int n_dims,
                        const int64_t *shape);

// Streaming write of rows whose count is known only at the end: npy_stream_begin reserves a fixed-width header.
typedef struct NpyStream {
    FileWriter file;
    Dtype dtype;
    int n_dims;
    int64_t shape[TENSOR_MAX_DIMS]; // shape[0] counts the rows appended so far
} NpyStream;
KinditStatus npy_stream_begin(NpyStream *out, KinditContext *ctx, const char *path, Dtype dtype, int n_dims,
                              const int64_t *shape);
KinditStatus npy_stream_append(NpyStream *stream, KinditContext *ctx, const void *rows, int64_t n_rows);
KinditStatus npy_stream_commit(NpyStream *stream, KinditContext *ctx);
void npy_stream_abandon(NpyStream *stream);

// Writes one member `<arrays[i].name>.npy` an array (an ADM sample batch is arr_0 = images (N,H,W,C) uint8, arr_1 =
// labels (N,) int64).
KinditStatus npz_write(KinditContext *ctx, const char *path, const Tensor *arrays, int n_arrays);
// Reads member `name` ("arr_0"); zip64 and deflate understood, sizes bounded by the real file.
KinditStatus npz_read(Npy *out, KinditContext *ctx, const char *path, const char *name);
// The same over bytes in memory, which must outlive *out; `file` stands for the path in messages.
KinditStatus npz_parse(Npy *out, KinditContext *ctx, const char *file, const void *data, size_t size, const char *name);

#endif
