#include "model/tailor_folder.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "model/tailor_file.h"

typedef struct Found {
    ModelClass *classes; // [n]
    int n, capacity;
} Found;

static int compare_ids(const void *a, const void *b) {
    return strcmp(((const ModelClass *)a)->id, ((const ModelClass *)b)->id);
}

static KinditStatus append(Found *found, KinditContext *ctx, const ModelClass *class) {
    if (found->n == found->capacity) {
        int capacity = found->capacity ? 2 * found->capacity : 16;
        ModelClass *larger;
        if (found->n == DIT_MAX_CLASSES)
            return context_fail(ctx, KINDIT_ERROR_FORMAT, "more than %d tailor files", DIT_MAX_CLASSES);
        TRY(memory_alloc(ctx, (size_t)capacity, sizeof *larger, &larger));
        if (found->n) memcpy(larger, found->classes, (size_t)found->n * sizeof *larger);
        memory_free(&found->classes);
        found->classes = larger;
        found->capacity = capacity;
    }
    found->classes[found->n++] = *class;
    return KINDIT_OK;
}

// The name people see, from the file's own metadata; the id where there is none that may be shown.
static void read_name(const char *path, ModelClass *class) {
    Safetensors file;
    strcpy(class->name, class->id);
    if (safetensors_open(&file, NULL, path)) return;
    const char *name = safetensors_metadata(&file, "name");
    if (name && !model_class_check(NULL, "", class->id, name)) strcpy(class->name, name); // the check bounds it
    safetensors_close(&file);
}

// `listed` [n] is sorted by id.
static KinditStatus look_at(Found *found, KinditContext *ctx, const char *folder, const char *name,
                            const ModelClass *listed, int n) {
    ModelClass class = {0};
    char path[1024];
    if (!tailor_file_id(name, class.id)) return KINDIT_OK;
    if (n && bsearch(&class, listed, (size_t)n, sizeof *listed, compare_ids)) return KINDIT_OK;
    TRY(file_path(path, ctx, "%s/%s", folder, name));
    TRY(model_class_check(ctx, path, class.id, class.id));
    read_name(path, &class);
    return append(found, ctx, &class);
}

static KinditStatus look_at_all(Found *found, KinditContext *ctx, const char *folder, const ModelClass *listed, int n) {
    DIR *names = opendir(folder);
    if (!names && errno == ENOENT) return KINDIT_OK; // a learngene without tailors
    if (!names) return context_fail(ctx, KINDIT_ERROR_IO, "%s: cannot list: %s", folder, strerror(errno));
    KinditStatus status = KINDIT_OK;
    for (struct dirent *entry; !status && (entry = readdir(names));)
        status = look_at(found, ctx, folder, entry->d_name, listed, n);
    closedir(names);
    return status;
}

KinditStatus tailor_folder_find(KinditContext *ctx, const char *folder, ModelClass **classes, int *n) {
    Found listed = {0}, found = {0};
    char path[1024];
    TRY(file_path(path, ctx, "%s/tailors", folder));
    KinditStatus status = KINDIT_OK;
    for (int c = 0; c < *n && !status; c++) status = append(&listed, ctx, &(*classes)[c]);
    if (listed.n) qsort(listed.classes, (size_t)listed.n, sizeof *listed.classes, compare_ids);
    if (!status) status = look_at_all(&found, ctx, path, listed.classes, listed.n);
    memory_free(&listed.classes);
    if (found.n) qsort(found.classes, (size_t)found.n, sizeof *found.classes, compare_ids);
    if (!status && found.n > 0) {
        Found all = {*classes, *n, *n};
        for (int c = 0; c < found.n && !status; c++) status = append(&all, ctx, &found.classes[c]);
        *classes = all.classes;
        *n = all.n;
    }
    memory_free(&found.classes);
    return status;
}
