// npz: a zip archive of .npy members (APPNOTE 6.3). Written stored, with the zip64 fields always present as numpy does,
// so that there is one layout for all sizes. Read stored or deflated, with or without zip64.
#include <string.h>
#include <zlib.h>

#include "formats/inflate.h"
#include "formats/npy.h"

enum {
    LOCAL_SIGNATURE = 0x04034b50,
    CENTRAL_SIGNATURE = 0x02014b50,
    END_SIGNATURE = 0x06054b50,
    END64_SIGNATURE = 0x06064b50,
    LOCATOR64_SIGNATURE = 0x07064b50,
    LOCAL_SIZE = 30,
    CENTRAL_SIZE = 46,
    END_SIZE = 22,
    END64_SIZE = 56,
    LOCATOR64_SIZE = 20,
    COMMENT_MAX = 65535,
    VERSION_ZIP64 = 45,
    EXTRA_ZIP64 = 1,
    METHOD_STORED = 0,
    METHOD_DEFLATED = 8,
    DATE_1980 = 0x21, // 1 January 1980: the same arrays give the same file
    NAME_MAX_BYTES = 255
};

static uint64_t load(const uint8_t *bytes, int n) {
    uint64_t value = 0;
    for (int i = n - 1; i >= 0; i--) value = value << 8 | bytes[i];
    return value;
}

// ---- Reading -------------------------------------------------------------------------------------------------------

typedef struct Zip {
    KinditContext *ctx;
    const char *file;
    const uint8_t *data;
    size_t size;
} Zip;

typedef struct Member {
    uint64_t method, flags, crc, packed_size, size, offset;
} Member;

static KinditStatus zip_fail(const Zip *zip, const char *what) {
    return context_fail(zip->ctx, KINDIT_ERROR_FORMAT, "%s: not a sound npz file: %s", zip->file, what);
}

static bool zip_holds(const Zip *zip, uint64_t offset, uint64_t n) {
    return offset <= zip->size && n <= zip->size - offset;
}

// The central directory, found from the end record that closes the file.
static KinditStatus find_directory(const Zip *zip, uint64_t *offset, uint64_t *size) {
    const uint8_t *end = NULL;
    for (size_t back = END_SIZE; back <= zip->size && back <= END_SIZE + COMMENT_MAX && !end; back++)
        if (load(zip->data + zip->size - back, 4) == END_SIGNATURE) end = zip->data + zip->size - back;
    if (!end) return zip_fail(zip, "no end record; is it truncated?");
    *size = load(end + 12, 4);
    *offset = load(end + 16, 4);
    size_t end_offset = (size_t)(end - zip->data);
    if (end_offset >= LOCATOR64_SIZE && load(end - LOCATOR64_SIZE, 4) == LOCATOR64_SIGNATURE) {
        uint64_t end64_offset = load(end - LOCATOR64_SIZE + 8, 8);
        if (!zip_holds(zip, end64_offset, END64_SIZE) || load(zip->data + end64_offset, 4) != END64_SIGNATURE)
            return zip_fail(zip, "bad zip64 end record");
        *size = load(zip->data + end64_offset + 40, 8);
        *offset = load(zip->data + end64_offset + 48, 8);
    }
    return zip_holds(zip, *offset, *size) ? KINDIT_OK : zip_fail(zip, "the directory lies outside the file");
}

// Fields of a directory entry that are all ones have their value in the zip64 extra field, in this order.
static bool read_zip64_extra(Member *member, const uint8_t *extra, size_t size) {
    uint64_t *fields[3] = {&member->size, &member->packed_size, &member->offset};
    while (size >= 4) {
        size_t tag = (size_t)load(extra, 2), n = (size_t)load(extra + 2, 2);
        extra += 4, size -= 4;
        if (n > size) return false;
        if (tag == EXTRA_ZIP64) {
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

static KinditStatus find_member(const Zip *zip, const char *name, Member *out) {
    uint64_t offset = 0, size = 0;
    TRY(find_directory(zip, &offset, &size));
    const uint8_t *entry = zip->data + offset;
    size_t wanted = strlen(name);
    while (size > 0) {
        if (size < CENTRAL_SIZE || load(entry, 4) != CENTRAL_SIGNATURE) return zip_fail(zip, "bad directory");
        size_t name_size = (size_t)load(entry + 28, 2), extra_size = (size_t)load(entry + 30, 2);
        size_t entry_size = CENTRAL_SIZE + name_size + extra_size + (size_t)load(entry + 32, 2);
        if (size < entry_size) return zip_fail(zip, "bad directory");
        const uint8_t *entry_name = entry + CENTRAL_SIZE;
        if (name_size == wanted + 4 && memcmp(entry_name, name, wanted) == 0 &&
            !memcmp(entry_name + wanted, ".npy", 4)) {
            *out = (Member){.flags = load(entry + 8, 2),
                            .method = load(entry + 10, 2),
                            .crc = load(entry + 16, 4),
                            .packed_size = load(entry + 20, 4),
                            .size = load(entry + 24, 4),
                            .offset = load(entry + 42, 4)};
            return read_zip64_extra(out, entry_name + name_size, extra_size) ? KINDIT_OK
                                                                             : zip_fail(zip, "bad zip64 field");
        }
        entry += entry_size, size -= entry_size;
    }
    return context_fail(zip->ctx, KINDIT_ERROR_FORMAT, "%s: no array \"%s\"", zip->file, name);
}

// Where the bytes of a member lie: after a local header whose lengths are its own.
static KinditStatus locate_data(const Zip *zip, const Member *member, const uint8_t **out) {
    if (!zip_holds(zip, member->offset, LOCAL_SIZE) || load(zip->data + member->offset, 4) != LOCAL_SIGNATURE)
        return zip_fail(zip, "a member is not where the directory says");
    uint64_t start = member->offset + LOCAL_SIZE + load(zip->data + member->offset + 26, 2) +
                     load(zip->data + member->offset + 28, 2);
    if (!zip_holds(zip, start, member->packed_size)) return zip_fail(zip, "a member reaches past the end of the file");
    if (member->flags & 1) return zip_fail(zip, "a member is encrypted");
    *out = zip->data + start;
    return KINDIT_OK;
}

KinditStatus npz_parse(Npy *out, KinditContext *ctx, const char *file, const void *data, size_t size,
                       const char *name) {
    *out = (Npy){0};
    Zip zip = {ctx, file, data, size};
    Member member;
    const uint8_t *bytes = NULL;
    TRY(find_member(&zip, name, &member));
    TRY(locate_data(&zip, &member, &bytes));
    if (member.method == METHOD_DEFLATED) {
        uint8_t *unpacked;
        TRY(inflate_bytes(&unpacked, member.size, ctx, file, bytes, member.packed_size, INFLATE_RAW));
        out->owned = unpacked;
        bytes = unpacked;
    } else if (member.method != METHOD_STORED || member.size != member.packed_size) {
        return zip_fail(&zip, "a member is neither stored nor deflated");
    }
    char where[1400];
    snprintf(where, sizeof where, "%s: %.255s.npy", file, name);
    KinditStatus status = crc32_z(0, bytes, member.size) == member.crc ? KINDIT_OK : zip_fail(&zip, "wrong CRC-32");
    if (!status) status = npy_parse(&out->array, ctx, where, bytes, member.size);
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

// ---- Writing -------------------------------------------------------------------------------------------------------

typedef struct Record {
    uint8_t bytes[96];
    size_t size;
} Record;

static void put(Record *record, uint64_t value, int n) {
    for (int i = 0; i < n; i++) record->bytes[record->size++] = (uint8_t)(value >> (8 * i));
}

typedef struct Written {
    Tensor array;
    char name[NAME_MAX_BYTES + 1], header[NPY_HEADER_SIZE];
    uint64_t crc, size, offset;
} Written;

static KinditStatus prepare(Written *out, KinditContext *ctx, const char *path, const Tensor *array) {
    out->array = *array;
    if (!array->name || snprintf(out->name, sizeof out->name, "%s.npy", array->name) >= (int)sizeof out->name)
        return context_fail(ctx, KINDIT_ERROR_ARGUMENT, "%s: an array needs a name of 1 to 251 bytes", path);
    TRY(tensor_measure(&out->array, ctx, path));
    TRY(npy_header(out->header, ctx, path, array->dtype, array->n_dims, array->shape));
    out->size = NPY_HEADER_SIZE + out->array.n_bytes;
    out->crc = crc32_z(0, (const Bytef *)out->header, NPY_HEADER_SIZE);
    if (out->array.n_bytes) out->crc = crc32_z(out->crc, array->data, out->array.n_bytes);
    return KINDIT_OK;
}

// What the local header and the directory entry have in common, from "version needed" to the length of the name.
static void put_common(Record *record, const Written *member) {
    put(record, VERSION_ZIP64, 2);
    put(record, 0, 2); // flags
    put(record, METHOD_STORED, 2);
    put(record, 0, 2); // time
    put(record, DATE_1980, 2);
    put(record, member->crc, 4);
    put(record, UINT32_MAX, 4); // both sizes are in the zip64 field
    put(record, UINT32_MAX, 4);
    put(record, strlen(member->name), 2);
}

static void write_member(FILE *stream, const Written *member) {
    Record record = {0}, extra = {0};
    put(&extra, EXTRA_ZIP64, 2);
    put(&extra, 16, 2);
    put(&extra, member->size, 8);
    put(&extra, member->size, 8);
    put(&record, LOCAL_SIGNATURE, 4);
    put_common(&record, member);
    put(&record, extra.size, 2);
    fwrite(record.bytes, 1, record.size, stream);
    fputs(member->name, stream);
    fwrite(extra.bytes, 1, extra.size, stream);
    fwrite(member->header, 1, sizeof member->header, stream);
    if (member->array.n_bytes) fwrite(member->array.data, 1, member->array.n_bytes, stream);
}

static void write_directory_entry(FILE *stream, const Written *member) {
    Record record = {0}, extra = {0};
    put(&extra, EXTRA_ZIP64, 2);
    put(&extra, 24, 2);
    put(&extra, member->size, 8);
    put(&extra, member->size, 8);
    put(&extra, member->offset, 8);
    put(&record, CENTRAL_SIGNATURE, 4);
    put(&record, VERSION_ZIP64, 2); // made by
    put_common(&record, member);
    put(&record, extra.size, 2);
    put(&record, 0, 2); // comment
    put(&record, 0, 2); // disk
    put(&record, 0, 2); // internal attributes
    put(&record, 0, 4); // external attributes
    put(&record, UINT32_MAX, 4);
    fwrite(record.bytes, 1, record.size, stream);
    fputs(member->name, stream);
    fwrite(extra.bytes, 1, extra.size, stream);
}

static void write_end(FILE *stream, int n_members, uint64_t offset, uint64_t size) {
    Record record = {0};
    put(&record, END64_SIGNATURE, 4);
    put(&record, END64_SIZE - 12, 8);
    put(&record, VERSION_ZIP64, 2);
    put(&record, VERSION_ZIP64, 2);
    put(&record, 0, 8); // disk numbers
    put(&record, (uint64_t)n_members, 8);
    put(&record, (uint64_t)n_members, 8);
    put(&record, size, 8);
    put(&record, offset, 8);
    put(&record, LOCATOR64_SIGNATURE, 4);
    put(&record, 0, 4);
    put(&record, offset + size, 8);
    put(&record, 1, 4);
    fwrite(record.bytes, 1, record.size, stream);
    record.size = 0;
    put(&record, END_SIGNATURE, 4);
    put(&record, 0, 4);          // disk numbers
    put(&record, UINT64_MAX, 4); // counts,
    put(&record, UINT64_MAX, 8); // size and offset of the directory: in the zip64 record
    put(&record, 0, 2);          // comment
    fwrite(record.bytes, 1, record.size, stream);
}

static KinditStatus write_archive(KinditContext *ctx, const char *path, Written *members, int n_members) {
    FileWriter writer;
    TRY(file_begin(&writer, ctx, path)); // the stream remembers a failed write, file_commit reports it
    uint64_t offset = 0, directory_size = 0;
    for (int i = 0; i < n_members; i++) {
        members[i].offset = offset;
        write_member(writer.stream, &members[i]);
        offset += LOCAL_SIZE + strlen(members[i].name) + 20 + members[i].size;
    }
    for (int i = 0; i < n_members; i++) {
        write_directory_entry(writer.stream, &members[i]);
        directory_size += CENTRAL_SIZE + strlen(members[i].name) + 28;
    }
    write_end(writer.stream, n_members, offset, directory_size);
    return file_commit(&writer, ctx);
}

KinditStatus npz_write(KinditContext *ctx, const char *path, const Tensor *arrays, int n_arrays) {
    Written *members;
    TRY(memory_alloc(ctx, (size_t)n_arrays, sizeof *members, &members));
    KinditStatus status = KINDIT_OK;
    for (int i = 0; i < n_arrays && !status; i++) status = prepare(&members[i], ctx, path, &arrays[i]);
    if (!status) status = write_archive(ctx, path, members, n_arrays);
    memory_free(&members);
    return status;
}
