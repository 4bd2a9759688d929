// A model's folder, written whole or not at all: filled under a temporary name beside its place, then renamed.
#ifndef MODEL_MODEL_FOLDER_H
#define MODEL_MODEL_FOLDER_H

#include "base/file.h"

typedef struct FolderWriter {
    char path[1024], temporary[1024];
    bool overwrite;
} FolderWriter;

// Makes the temporary folder, whose files the caller writes under writer->temporary. A `path` that exists is an
// argument error unless it is an empty folder, or with `overwrite` a folder with nothing in it but a model's files.
KinditStatus folder_begin(FolderWriter *out, KinditContext *ctx, const char *path, bool overwrite);
// Puts the folder in its place; what it replaces goes only once that is done. On failure the old one stays.
KinditStatus folder_commit(FolderWriter *writer, KinditContext *ctx);
void folder_abandon(FolderWriter *writer); // removes the temporary folder; nothing to do after a commit

#endif
