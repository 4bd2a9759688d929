#include "model/model_folder.h"

#include <dirent.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

static KinditStatus fail_errno(KinditContext *ctx, const char *path, const char *what) {
    return context_fail(ctx, KINDIT_ERROR_IO, "%s: %s: %s", path, what, strerror(errno));
}

static bool is_model_part(const char *name) {
    static const char *const parts[] = {"config.json", "model.safetensors", "learngene.safetensors", "tailors"};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        if (strcmp(name, parts[i]) == 0) return true;
    return false;
}

// Replacing removes: so only what a model is made of may be replaced.
static KinditStatus check_entries(KinditContext *ctx, const char *path, DIR *folder, bool overwrite) {
    const struct dirent *entry;
    while ((entry = readdir(folder))) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
        if (!overwrite)
            return context_fail(ctx, KINDIT_ERROR_ARGUMENT,
                                "%s: exists and is not empty; choose another name, or remove it first", path);
        if (!is_model_part(entry->d_name))
            return context_fail(ctx, KINDIT_ERROR_ARGUMENT,
                                "%s: will not overwrite: it holds \"%.100s\", which is no part of a model", path,
                                entry->d_name);
    }
    return KINDIT_OK;
}

static KinditStatus check_place(KinditContext *ctx, const char *path, bool overwrite) {
    DIR *folder = opendir(path);
    if (!folder && errno == ENOENT) return KINDIT_OK;
    if (!folder && errno == ENOTDIR)
        return context_fail(ctx, KINDIT_ERROR_ARGUMENT, "%s: exists and is not a folder", path);
    if (!folder) return fail_errno(ctx, path, "cannot open the folder");
    KinditStatus status = check_entries(ctx, path, folder, overwrite);
    closedir(folder);
    return status;
}

KinditStatus folder_begin(FolderWriter *out, KinditContext *ctx, const char *path, bool overwrite) {
    *out = (FolderWriter){.overwrite = overwrite};
    TRY(file_path(out->path, ctx, "%s", path));
    for (size_t n = strlen(out->path); n > 1 && out->path[n - 1] == '/'; n--) out->path[n - 1] = '\0';
    TRY(check_place(ctx, out->path, overwrite));
    char temporary[1024];
    TRY(file_path(temporary, ctx, "%s.%ld.tmp", out->path, (long)getpid()));
    TRY(file_remove_tree(ctx, temporary)); // of a process that had this number and died
    TRY(file_make_folder(ctx, temporary));
    strcpy(out->temporary, temporary);
    return KINDIT_OK;
}

// A folder cannot be renamed over one that is not empty: what is to be replaced steps aside, and back if that was in
// vain.
static KinditStatus replace(FolderWriter *writer, KinditContext *ctx) {
    char old[1024];
    TRY(file_path(old, ctx, "%s.%ld.old", writer->path, (long)getpid()));
    TRY(check_place(ctx, writer->path, true));
    if (rename(writer->path, old) != 0) return fail_errno(ctx, writer->path, "cannot replace");
    KinditStatus status = file_rename_folder(ctx, writer->temporary, writer->path);
    if (!status) return file_remove_tree(ctx, old);
    return rename(old, writer->path) == 0 ? status
                                          : context_prefix(ctx, status, old); // the message says where it is now
}

KinditStatus folder_commit(FolderWriter *writer, KinditContext *ctx) {
    KinditStatus status = writer->overwrite && file_exists(writer->path)
                              ? replace(writer, ctx)
                              : file_rename_folder(ctx, writer->temporary, writer->path);
    folder_abandon(writer); // finds nothing after a rename
    return status;
}

void folder_abandon(FolderWriter *writer) {
    if (writer->temporary[0]) file_remove_tree(NULL, writer->temporary);
    writer->temporary[0] = '\0';
}
