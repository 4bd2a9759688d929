#include "formats/zip.h"

#include <string.h>
#include <zlib.h>

#include "base/memory.h"
#include "formats/inflate.h"
#include "formats/zip_layout.h"

static uint64_t load(const uint8_t *bytes, int n) {
    uint64_t value = 0;
    for (int i = n - 1; i >= 0; i--) value = value << 8 | bytes[i];
    return value;
}

static KinditStatus zip_fail(const Zip *zip, const char *what) {
    return context_fail(zip->ctx, KINDIT_ERROR_FORMAT, "%s: not a sound zip archive: %s", zip->file, what);
}

static bool zip_holds(const Zip *zip, uint64_t offset, uint64_t n) {
    return offset <= zip->size && n <= zip->size - offset;
}

// The central directory, found from the end record that closes the file.
static KinditStatus find_directory(const Zip *zip, uint64_t *offset, uint64_t *size) {
    const uint8_t *end = NULL;
    for (size_t back = ZIP_END_SIZE; back <= zip->size && back <= ZIP_END_SIZE + ZIP_COMMENT_MAX && !end; back++)
        if (load(zip->data + zip->size - back, 4) == ZIP_END_SIGNATURE) end = zip->data + zip->size - back;
    if (!end) return zip_fail(zip, "no end record; is it truncated?");
    *size = load(end + 12, 4);
    *offset = load(end + 16, 4);
    size_t end_offset = (size_t)(end - zip->data);
    if (end_offset >= ZIP_LOCATOR64_SIZE && load(end - ZIP_LOCATOR64_SIZE, 4) == ZIP_LOCATOR64_SIGNATURE) {
        uint64_t end64_offset = load(end - ZIP_LOCATOR64_SIZE + 8, 8);
        if (!zip_holds(zip, end64_offset, ZIP_END64_SIZE) || load(zip->data + end64_offset, 4) != ZIP_END64_SIGNATURE)
            return zip_fail(zip, "bad zip64 end record");
        *size = load(zip->data + end64_offset + 40, 8);
        *offset = load(zip->data + end64_offset + 48, 8);
    }
    return zip_holds(zip, *offset, *size) ? KINDIT_OK : zip_fail(zip, "the directory lies outside the file");
}

// Fields of a directory entry that are all ones have their value in the zip64 extra field, in this order.
static bool read_zip64_extra(ZipMember *member, const uint8_t *extra, size_t size) {
    uint64_t *fields[3] = {&member->size, &member->packed_size, &member->offset};
    while (size >= 4) {
        size_t tag = (size_t)load(extra, 2), n = (size_t)load(extra + 2, 2);
        extra += 4, size -= 4;
        if (n > size) return false;
        if (tag == ZIP_EXTRA_ZIP64) {
            for (int i = 0; i < 3; i++) {
                if (*fields[i] != UINT32_MAX) continue;
                if (n < 8) return false;
                *fields[i] = load(extra, 8);
                extra += 8, size -= 8, n -= 8;
            }
            return true;
        }
        extra += n, size -= n;
    }
    return true;
}

KinditStatus zip_open(Zip *out, KinditContext *ctx, const char *file, const void *data, size_t size) {
    uint64_t offset = 0, directory_size = 0;
    *out = (Zip){.ctx = ctx, .file = file, .data = data, .size = size};
    TRY(find_directory(out, &offset, &directory_size));
    out->position = (size_t)offset;
    out->end = (size_t)(offset + directory_size);
    return KINDIT_OK;
}

KinditStatus zip_next(Zip *zip, ZipMember *out, bool *more) {
    size_t left = zip->end - zip->position;
    const uint8_t *entry = zip->data + zip->position;
    *more = left > 0;
    if (left == 0) return KINDIT_OK;
    if (left < ZIP_CENTRAL_SIZE || load(entry, 4) != ZIP_CENTRAL_SIGNATURE) return zip_fail(zip, "bad directory");
    size_t name_size = (size_t)load(entry + 28, 2), extra_size = (size_t)load(entry + 30, 2);
    size_t entry_size = ZIP_CENTRAL_SIZE + name_size + extra_size + (size_t)load(entry + 32, 2);
    if (left < entry_size) return zip_fail(zip, "bad directory");
    *out = (ZipMember){.name = (const char *)entry + ZIP_CENTRAL_SIZE,
                       .name_size = name_size,
                       .flags = load(entry + 8, 2),
                       .method = load(entry + 10, 2),
                       .crc = load(entry + 16, 4),
                       .packed_size = load(entry + 20, 4),
                       .size = load(entry + 24, 4),
                       .offset = load(entry + 42, 4)};
    zip->position += entry_size;
    return read_zip64_extra(out, entry + ZIP_CENTRAL_SIZE + name_size, extra_size) ? KINDIT_OK
                                                                                   : zip_fail(zip, "bad zip64 field");
}

bool zip_member_is(const ZipMember *member, const char *name) {
    return member->name_size == strlen(name) && memcmp(member->name, name, member->name_size) == 0;
}

// Where the bytes of a member lie: after a local header whose lengths are its own.
static KinditStatus locate_data(const Zip *zip, const ZipMember *member, const uint8_t **out) {
    if (!zip_holds(zip, member->offset, ZIP_LOCAL_SIZE) || load(zip->data + member->offset, 4) != ZIP_LOCAL_SIGNATURE)
        return zip_fail(zip, "a member is not where the directory says");
    uint64_t start = member->offset + ZIP_LOCAL_SIZE + load(zip->data + member->offset + 26, 2) +
                     load(zip->data + member->offset + 28, 2);
    if (!zip_holds(zip, start, member->packed_size)) return zip_fail(zip, "a member reaches past the end of the file");
    if (member->flags & 1) return zip_fail(zip, "a member is encrypted");
    *out = zip->data + start;
    return KINDIT_OK;
}

KinditStatus zip_read(const Zip *zip, const ZipMember *member, const uint8_t **bytes, uint8_t **owned) {
    *owned = NULL;
    TRY(locate_data(zip, member, bytes));
    if (member->method == ZIP_DEFLATED) {
        TRY(inflate_bytes(owned, member->size, zip->ctx, zip->file, *bytes, member->packed_size, INFLATE_RAW));
        *bytes = *owned;
    } else if (member->method != ZIP_STORED || member->size != member->packed_size) {
        return zip_fail(zip, "a member is neither stored nor deflated");
    }
    if (crc32_z(0, *bytes, member->size) == member->crc) return KINDIT_OK;
    memory_free(owned);
    return zip_fail(zip, "wrong CRC-32");
}
