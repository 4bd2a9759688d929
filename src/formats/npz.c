// npz: a zip archive of .npy members.
#include <string.h>

#include "formats/npy.h"
#include "formats/zip.h"

static KinditStatus find_member(ZipMember *out, KinditContext *ctx, Zip *zip, const char *name) {
    char file_name[ZIP_NAME_MAX + 1];
    int length = snprintf(file_name, sizeof file_name, "%s.npy", name);
    bool more = length > 0 && length <= ZIP_NAME_MAX;
    while (more) {
        TRY(zip_next(zip, out, &more));
        if (more && zip_member_is(out, file_name)) return KINDIT_OK;
    }
    return context_fail(ctx, KINDIT_ERROR_FORMAT, "%s: no array \"%s\"", zip->file, name);
}

KinditStatus npz_parse(Npy *out, KinditContext *ctx, const char *file, const void *data, size_t size,
                       const char *name) {
    *out = (Npy){0};
    Zip zip;
    ZipMember member;
    const uint8_t *bytes = NULL;
    uint8_t *owned = NULL;
    char where[1400];
    TRY(zip_open(&zip, ctx, file, data, size));
    TRY(find_member(&member, ctx, &zip, name));
    TRY(zip_read(&zip, &member, &bytes, &owned));
    out->owned = owned;
    snprintf(where, sizeof where, "%s: %.255s.npy", file, name);
    KinditStatus status = npy_parse(&out->array, ctx, where, bytes, member.size);
    if (status) npy_close(out);
    return status;
}

KinditStatus npz_read(Npy *out, KinditContext *ctx, const char *path, const char *name) {
    *out = (Npy){0};
    FileMap map;
    TRY(file_map(&map, ctx, path));
    KinditStatus status = npz_parse(out, ctx, path, map.data, map.size, name);
    if (status || out->owned)
        file_unmap(&map);
    else
        out->map = map;
    return status;
}

// The array as a member: its header, which lies in *header, and its data.
static KinditStatus prepare(ZipSource *out, char header[NPY_HEADER_SIZE], KinditContext *ctx, const char *path,
                            const Tensor *array) {
    Tensor measured = *array;
    if (!array->name || snprintf(out->name, sizeof out->name, "%s.npy", array->name) >= (int)sizeof out->name)
        return context_fail(ctx, KINDIT_ERROR_ARGUMENT, "%s: an array needs a name of 1 to 251 bytes", path);
    TRY(tensor_measure(&measured, ctx, path));
    TRY(npy_header(header, ctx, path, array->dtype, array->n_dims, array->shape));
    out->pieces[0] = (ZipPiece){header, NPY_HEADER_SIZE};
    out->pieces[1] = (ZipPiece){array->data, measured.n_bytes};
    return KINDIT_OK;
}

KinditStatus npz_write(KinditContext *ctx, const char *path, const Tensor *arrays, int n_arrays) {
    ZipSource *members = NULL;
    char(*headers)[NPY_HEADER_SIZE] = NULL;
    KinditStatus status = memory_alloc(ctx, (size_t)n_arrays, sizeof *members, &members);
    if (!status) status = memory_alloc(ctx, (size_t)n_arrays, sizeof *headers, &headers);
    for (int i = 0; i < n_arrays && !status; i++) status = prepare(&members[i], headers[i], ctx, path, &arrays[i]);
    if (!status) status = zip_write(ctx, path, members, n_arrays);
    memory_free(&headers);
    memory_free(&members);
    return status;
}
