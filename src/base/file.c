#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdarg.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static KinditStatus fail_errno(KinditContext *ctx, const char *path, const char *what) {
    return context_fail(ctx, KINDIT_ERROR_IO, "%s: %s: %s", path, what, strerror(errno));
}

KinditStatus file_map(FileMap *out, KinditContext *ctx, const char *path) {
    *out = (FileMap){0};
    int descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); // a FIFO must not make us wait
    if (descriptor < 0) return fail_errno(ctx, path, "cannot open");
    KinditStatus status = KINDIT_OK;
    struct stat info;
    if (fstat(descriptor, &info) != 0) {
        status = fail_errno(ctx, path, "cannot read its size");
    } else if (!S_ISREG(info.st_mode)) {
        status = context_fail(ctx, KINDIT_ERROR_IO, "%s: expected a regular file, found %s", path,
                              S_ISDIR(info.st_mode) ? "a folder" : "something else");
    } else if (info.st_size > 0) {
        void *data = mmap(NULL, (size_t)info.st_size, PROT_READ, MAP_PRIVATE, descriptor, 0);
        if (data == MAP_FAILED)
            status = fail_errno(ctx, path, "cannot map");
        else
            *out = (FileMap){.data = data, .size = (size_t)info.st_size};
    }
    close(descriptor);
    return status;
}

void file_unmap(FileMap *map) {
    if (map->data) munmap((void *)(uintptr_t)map->data, map->size);
    *map = (FileMap){0};
}

void file_forget(const FileMap *map) {
    if (map->data) madvise((void *)(uintptr_t)map->data, map->size, MADV_DONTNEED); // of a mapped file: nothing is lost
}

KinditStatus file_begin(FileWriter *out, KinditContext *ctx, const char *path) {
    *out = (FileWriter){0};
    TRY(file_path(out->path, ctx, "%s", path));
    struct stat info;
    if (stat(path, &info) == 0 && !S_ISREG(info.st_mode)) // renaming over a device or a folder helps nobody
        return context_fail(ctx, KINDIT_ERROR_IO, "%s: cannot write: exists and is not a regular file", path);
    int descriptor = -1;
    for (int attempt = 0; attempt < 100 && descriptor < 0; attempt++) {
        snprintf(out->temporary, sizeof out->temporary, "%s.%ld-%d.tmp", path, (long)getpid(), attempt);
        descriptor = open(out->temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (descriptor < 0 && errno != EEXIST) break;
    }
    if (descriptor < 0) {
        out->temporary[0] = '\0';
        return fail_errno(ctx, path, "cannot write");
    }
    out->stream = fdopen(descriptor, "wb");
    if (!out->stream) {
        KinditStatus status = fail_errno(ctx, path, "cannot write"); // before close can change errno
        close(descriptor);
        file_abandon(out);
        return status;
    }
    return KINDIT_OK;
}

static void sync_folder(const char *folder) {
    int descriptor = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (descriptor < 0) return;
    fsync(descriptor);
    close(descriptor);
}

// A rename is safe against a power cut only once its folder is on the disk; some file systems cannot sync a folder.
static void sync_folder_of(const char *path) {
    char folder[1024];
    snprintf(folder, sizeof folder, "%s", path);
    char *slash = strrchr(folder, '/');
    if (!slash)
        snprintf(folder, sizeof folder, ".");
    else
        slash[slash == folder] = '\0';
    sync_folder(folder);
}

KinditStatus file_commit(FileWriter *writer, KinditContext *ctx) {
    errno = EIO; // of an earlier failed fwrite only the stream's error flag is left
    bool written = fflush(writer->stream) == 0 && !ferror(writer->stream) && fsync(fileno(writer->stream)) == 0;
    int first_error = errno;
    bool closed = fclose(writer->stream) == 0;
    writer->stream = NULL;
    if (!written) errno = first_error;
    if (!written || !closed || rename(writer->temporary, writer->path) != 0) {
        KinditStatus status = fail_errno(ctx, writer->path, "cannot write");
        file_abandon(writer);
        return status;
    }
    sync_folder_of(writer->path);
    writer->temporary[0] = '\0';
    return KINDIT_OK;
}

void file_abandon(FileWriter *writer) {
    if (writer->stream) fclose(writer->stream);
    if (writer->temporary[0]) unlink(writer->temporary);
    writer->stream = NULL;
    writer->temporary[0] = '\0';
}

KinditStatus file_write(KinditContext *ctx, const char *path, const void *data, size_t size) {
    FileWriter writer;
    TRY(file_begin(&writer, ctx, path));
    if (size && fwrite(data, 1, size, writer.stream) != size) {
        KinditStatus status = fail_errno(ctx, path, "cannot write");
        file_abandon(&writer);
        return status;
    }
    return file_commit(&writer, ctx);
}

KinditStatus file_make_folder(KinditContext *ctx, const char *path) {
    char partial[1024];
    TRY(file_path(partial, ctx, "%s", path));
    for (char *end = partial; *end;) {
        end += strspn(end, "/");
        end += strcspn(end, "/");
        char kept = *end;
        *end = '\0';
        int error = mkdir(partial, 0777) == 0 ? 0 : errno; // kept: the look at the folder may change errno
        if (error && !file_is_folder(partial)) {
            errno = error == EEXIST ? ENOTDIR : error;
            return fail_errno(ctx, partial, "cannot make the folder");
        }
        *end = kept;
    }
    return KINDIT_OK;
}

static int remove_entry(const char *path, const struct stat *info, int kind, struct FTW *position) {
    (void)info, (void)kind, (void)position;
    return remove(path);
}

KinditStatus file_remove_tree(KinditContext *ctx, const char *path) {
    if (nftw(path, remove_entry, 16, FTW_DEPTH | FTW_PHYS) != 0 && errno != ENOENT)
        return fail_errno(ctx, path, "cannot remove");
    return KINDIT_OK;
}

KinditStatus file_rename_folder(KinditContext *ctx, const char *from, const char *to) {
    sync_folder(from);
    if (rename(from, to) != 0) return fail_errno(ctx, to, "cannot rename the finished folder to this");
    sync_folder_of(to);
    return KINDIT_OK;
}

bool file_exists(const char *path) {
    return access(path, F_OK) == 0;
}

bool file_is_folder(const char *path) {
    struct stat info;
    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

KinditStatus file_path(char out[1024], KinditContext *ctx, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(out, 1024, format, arguments);
    va_end(arguments);
    if (length < 0 || length >= 1024)
        return context_fail(ctx, KINDIT_ERROR_ARGUMENT, "%.60s...: the path is longer than 1023 bytes", out);
    return KINDIT_OK;
}
