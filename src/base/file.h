// Files: read by mapping, written whole or not at all.
#ifndef BASE_FILE_H
#define BASE_FILE_H

#include <stdio.h>

#include "base/context.h"

typedef struct FileMap {
    const uint8_t *data; // NULL when size is 0
    size_t size;
} FileMap;

// Read-only; regular files only. The file must not shrink while it is mapped: what is written here is replaced, never
// cut.
KinditStatus file_map(FileMap *out, KinditContext *ctx, const char *path);
void file_unmap(FileMap *map);
// What was read so far need not stay in memory: it is read again when it is looked at.
void file_forget(const FileMap *map);

// Atomic write: a temporary name in the same folder, flushed and fsynced, then renamed over `path` (and the folder
// synced). Between file_begin and file_commit write to `stream`; on any failure call file_abandon. A failed write
// leaves the old file as it was and no temporary behind.
typedef struct FileWriter {
    FILE *stream;
    char path[1024], temporary[1088];
} FileWriter;
KinditStatus file_begin(FileWriter *out, KinditContext *ctx, const char *path);
KinditStatus file_commit(FileWriter *writer, KinditContext *ctx); // reports full disks: checks every stage
void file_abandon(FileWriter *writer);

// file_begin + fwrite + file_commit.
KinditStatus file_write(KinditContext *ctx, const char *path, const void *data, size_t size);
KinditStatus file_make_folder(KinditContext *ctx, const char *path); // with its parents; fine if it exists
KinditStatus file_remove_tree(KinditContext *ctx, const char *path); // fine if absent; follows no link
// Makes a folder that was written under another name appear, whole and for good: synced, renamed, the parent synced.
// `to` must be absent or an empty folder.
KinditStatus file_rename_folder(KinditContext *ctx, const char *from, const char *to);
bool file_exists(const char *path);
bool file_is_folder(const char *path);

// printf into a bounded path; an error when it does not fit.
KinditStatus file_path(char out[1024], KinditContext *ctx, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

// SHA-256 of a buffer as 64 hex digits and a NUL: names what a decomposed model was made of.
void file_sha256(const void *data, size_t size, char out[65]);

#endif
