// Writing zip archives: see zip.h.
#include <stdio.h>
#include <string.h>
#include <zlib.h>

#include "base/file.h"
#include "base/memory.h"
#include "formats/zip.h"
#include "formats/zip_layout.h"

enum {
    VERSION_ZIP64 = 45,
    DATE_1980 = 0x21 // 1 January 1980: the same members give the same file
};

typedef struct Record {
    uint8_t bytes[96];
    size_t size;
} Record;

static void put(Record *record, uint64_t value, int n) {
    for (int i = 0; i < n; i++) record->bytes[record->size++] = (uint8_t)(value >> (8 * i));
}

typedef struct Written {
    const ZipSource *source;
    uint64_t crc, size, offset;
} Written;

static Written measure(const ZipSource *source) {
    Written out = {.source = source};
    for (int i = 0; i < ZIP_PIECES; i++) {
        const ZipPiece *piece = &source->pieces[i];
        out.size += piece->size;
        if (piece->size) out.crc = crc32_z(out.crc, piece->data, piece->size);
    }
    return out;
}

// What the local header and the directory entry have in common, from "version needed" to the length of the name.
static void put_common(Record *record, const Written *member) {
    put(record, VERSION_ZIP64, 2);
    put(record, 0, 2); // flags
    put(record, ZIP_STORED, 2);
    put(record, 0, 2); // time
    put(record, DATE_1980, 2);
    put(record, member->crc, 4);
    put(record, UINT32_MAX, 4); // both sizes are in the zip64 field
    put(record, UINT32_MAX, 4);
    put(record, strlen(member->source->name), 2);
}

static void write_member(FILE *stream, const Written *member) {
    Record record = {0}, extra = {0};
    put(&extra, ZIP_EXTRA_ZIP64, 2);
    put(&extra, 16, 2);
    put(&extra, member->size, 8);
    put(&extra, member->size, 8);
    put(&record, ZIP_LOCAL_SIGNATURE, 4);
    put_common(&record, member);
    put(&record, extra.size, 2);
    fwrite(record.bytes, 1, record.size, stream);
    fputs(member->source->name, stream);
    fwrite(extra.bytes, 1, extra.size, stream);
    for (int i = 0; i < ZIP_PIECES; i++) {
        const ZipPiece *piece = &member->source->pieces[i];
        if (piece->size) fwrite(piece->data, 1, piece->size, stream);
    }
}

static void write_directory_entry(FILE *stream, const Written *member) {
    Record record = {0}, extra = {0};
    put(&extra, ZIP_EXTRA_ZIP64, 2);
    put(&extra, 24, 2);
    put(&extra, member->size, 8);
    put(&extra, member->size, 8);
    put(&extra, member->offset, 8);
    put(&record, ZIP_CENTRAL_SIGNATURE, 4);
    put(&record, VERSION_ZIP64, 2); // made by
    put_common(&record, member);
    put(&record, extra.size, 2);
    put(&record, 0, 2); // comment
    put(&record, 0, 2); // disk
    put(&record, 0, 2); // internal attributes
    put(&record, 0, 4); // external attributes
    put(&record, UINT32_MAX, 4);
    fwrite(record.bytes, 1, record.size, stream);
    fputs(member->source->name, stream);
    fwrite(extra.bytes, 1, extra.size, stream);
}

static void write_end(FILE *stream, int n_members, uint64_t offset, uint64_t size) {
    Record record = {0};
    put(&record, ZIP_END64_SIGNATURE, 4);
    put(&record, ZIP_END64_SIZE - 12, 8);
    put(&record, VERSION_ZIP64, 2);
    put(&record, VERSION_ZIP64, 2);
    put(&record, 0, 8); // disk numbers
    put(&record, (uint64_t)n_members, 8);
    put(&record, (uint64_t)n_members, 8);
    put(&record, size, 8);
    put(&record, offset, 8);
    put(&record, ZIP_LOCATOR64_SIGNATURE, 4);
    put(&record, 0, 4);
    put(&record, offset + size, 8);
    put(&record, 1, 4);
    fwrite(record.bytes, 1, record.size, stream);
    record.size = 0;
    put(&record, ZIP_END_SIGNATURE, 4);
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
        offset += ZIP_LOCAL_SIZE + strlen(members[i].source->name) + 20 + members[i].size;
    }
    for (int i = 0; i < n_members; i++) {
        write_directory_entry(writer.stream, &members[i]);
        directory_size += ZIP_CENTRAL_SIZE + strlen(members[i].source->name) + 28;
    }
    write_end(writer.stream, n_members, offset, directory_size);
    return file_commit(&writer, ctx);
}

KinditStatus zip_write(KinditContext *ctx, const char *path, const ZipSource *sources, int n) {
    Written *members;
    TRY(memory_alloc(ctx, (size_t)n, sizeof *members, &members));
    for (int i = 0; i < n; i++) members[i] = measure(&sources[i]);
    KinditStatus status = write_archive(ctx, path, members, n);
    memory_free(&members);
    return status;
}
