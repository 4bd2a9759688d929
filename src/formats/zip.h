// zip archives (APPNOTE 6.3): read stored or deflated, with or without zip64, every offset and length checked against
// the real file; written stored, with the zip64 fields always present as numpy does, so that there is one layout for
// all sizes.
#ifndef FORMATS_ZIP_H
#define FORMATS_ZIP_H

#include "base/context.h"

// An archive in memory that outlives it, of which the directory is known to lie inside.
typedef struct Zip {
    KinditContext *ctx;
    const char *file; // stands for the path in messages
    const uint8_t *data;
    size_t size;
    size_t position, end; // of the directory entries still to come: zip_next
} Zip;

typedef struct ZipMember {
    const char *name; // in the archive, not ended by NUL
    size_t name_size;
    uint64_t method, flags, crc, packed_size, size, offset;
} ZipMember;

KinditStatus zip_open(Zip *out, KinditContext *ctx, const char *file, const void *data, size_t size);
// The next member in the order of the directory; *more is false when there is none left.
KinditStatus zip_next(Zip *zip, ZipMember *out, bool *more);
bool zip_member_is(const ZipMember *member, const char *name);
// *bytes = the member's content, its CRC-32 checked: inside the archive when stored, else in *owned, which the caller
// frees with memory_free (it is NULL otherwise). Encrypted members are refused.
KinditStatus zip_read(const Zip *zip, const ZipMember *member, const uint8_t **bytes, uint8_t **owned);

// A member to write: its content in up to two pieces.
enum { ZIP_NAME_MAX = 255, ZIP_PIECES = 2 };
typedef struct ZipPiece {
    const void *data;
    size_t size;
} ZipPiece;
typedef struct ZipSource {
    char name[ZIP_NAME_MAX + 1];
    ZipPiece pieces[ZIP_PIECES];
} ZipSource;

// Writes atomically; the same members give the same bytes.
KinditStatus zip_write(KinditContext *ctx, const char *path, const ZipSource *sources, int n);

#endif
