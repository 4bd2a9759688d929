// What the importers share.
#ifndef DATA_IMPORT_TOOLS_H
#define DATA_IMPORT_TOOLS_H

#include "data/import.h"
#include "data/resize.h"

// The regular files below a folder whose names end in one of some extensions, in an order that depends on names alone.
typedef struct FileList {
    Arena arena;
    const char **paths; // full paths; within each folder sorted as strings
    size_t n, capacity;
    const char **folders; // names of the immediate sub-folders, sorted as strings
    size_t n_folders, folder_capacity;
    size_t n_other; // files with another extension
    size_t root;    // paths[i] + root is the path below the folder
} FileList;

// extensions: NULL-terminated, lower case, with the dot; matched whatever the case. Symbolic links are followed.
KinditStatus file_list_collect(FileList *out, KinditContext *ctx, const char *folder, const char *const *extensions);
void file_list_close(FileList *list);
// SHA-256 over the names below the folder and the contents of all of them, as 64 hex digits and a NUL.
KinditStatus file_list_hash(const FileList *list, KinditContext *ctx, char out[65]);

// A class id from any text: bytes that an id cannot hold become '_', a leading '.' too; cut to the size of an id.
void import_class_id(char out[DIT_CLASS_NAME_SIZE], const char *name);

// heldout[0..n-1] = true for round(share * n) entries chosen by (seed, stream). At least one entry stays false.
KinditStatus import_choose_heldout(KinditContext *ctx, uint64_t seed, uint64_t stream, double share, size_t n,
                                   bool *heldout);

// Checks size, channels and share.
KinditStatus import_settings_check(const ImportSettings *settings, KinditContext *ctx);

// A broken or unusable source file: with `strict` the failure that just happened stands; otherwise it is logged as a
// warning, *count rises and the answer is OK. Failures that are not the file's (memory, cancelling) stand always.
KinditStatus import_skip(KinditContext *ctx, KinditStatus failure, bool strict, int64_t *count);

// Progress and the cancel callback, once a block of work.
KinditStatus import_report(KinditContext *ctx, size_t done, size_t total, const char *text);

// The class numbers of an importer's source classes after filter and merging: out[i] = number in the writer, or -1.
// Targets get numbers in the order of their first source class, or sorted by id when `sorted`.
KinditStatus import_map_classes(KinditContext *ctx, DatasetWriter *writer, const ImportSettings *settings,
                                const ModelClass *sources, size_t n, bool sorted, int *out);

#endif
