#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <omp.h>

#include "data/import_tools.h"

enum { DECODE_BLOCK = 64 }; // images decoded at once; each keeps its own message, since a context is one thread's

typedef struct Decoded {
    KinditContext ctx; // for the message
    KinditStatus status;
    Image image;
} Decoded;

typedef struct FolderImport {
    KinditContext *ctx;
    const ImportSettings *settings;
    FileList files;
    ModelClass *classes; // one a sub-folder, in order
    int *class_of;       // sub-folder -> class of the data set, -1: not wanted
    size_t *folder_of;   // [files.n]
    bool *heldout;       // [files.n]
    DatasetWriter *writer;
    int64_t n_broken, n_outside, n_unwanted, n_added;
} FolderImport;

static void decode(const FolderImport *import, size_t i, Decoded *out) {
    const ImportSettings *settings = import->settings;
    *out = (Decoded){.status = KINDIT_OK};
    const char *path = import->files.paths[i];
    out->status = image_read(&out->image, &out->ctx, path);
    // Colour first, as ADM's convert("RGB") comes before its crop; resizing then never sees alpha.
    if (!out->status) out->status = image_convert(&out->image, &out->ctx, settings->channels, 0);
    if (!out->status) out->status = resize_center_crop(&out->image, &out->ctx, settings->size);
}

static KinditStatus add_block(FolderImport *import, size_t first, size_t n, Decoded *decoded) {
    int threads = import->ctx->settings.threads ? import->ctx->settings.threads : omp_get_max_threads();
    bool wanted[DECODE_BLOCK] = {0};
    for (size_t i = 0; i < n; i++) {
        size_t folder = import->folder_of[first + i];
        wanted[i] = folder < import->files.n_folders && import->class_of[folder] >= 0;
        if (folder < import->files.n_folders) import->n_unwanted += !wanted[i];
    }
#pragma omp parallel for num_threads(threads) schedule(dynamic)
    for (size_t i = 0; i < n; i++)
        if (wanted[i]) decode(import, first + i, &decoded[i]);
    KinditStatus status = KINDIT_OK;
    for (size_t i = 0; i < n; i++) {
        if (!wanted[i]) continue;
        if (!status && decoded[i].status) {
            status = context_fail(import->ctx, decoded[i].status, "%s", kindit_context_message(&decoded[i].ctx));
            status = import_skip(import->ctx, status, import->settings->strict, &import->n_broken);
        } else if (!status) {
            status = dataset_writer_add(import->writer, import->class_of[import->folder_of[first + i]],
                                        import->heldout[first + i], decoded[i].image.pixels);
            import->n_added++;
        }
        image_close(&decoded[i].image);
    }
    return status;
}

static KinditStatus add_images(FolderImport *import) {
    Decoded *decoded;
    TRY(memory_alloc(import->ctx, DECODE_BLOCK, sizeof *decoded, &decoded));
    KinditStatus status = KINDIT_OK;
    for (size_t first = 0; first < import->files.n && !status; first += DECODE_BLOCK) {
        size_t left = import->files.n - first;
        status = import_report(import->ctx, first, import->files.n, "decoding");
        if (!status) status = add_block(import, first, left < DECODE_BLOCK ? left : DECODE_BLOCK, decoded);
    }
    memory_free(&decoded);
    return status;
}

static int compare_name(const void *key, const void *element) {
    return strcmp(key, *(const char *const *)element);
}

// The sub-folder a file lies in; n_folders when it lies in none.
static size_t find_folder(const FileList *files, const char *path) {
    char name[1024];
    snprintf(name, sizeof name, "%s", path + files->root);
    char *slash = strchr(name, '/');
    if (!slash) return files->n_folders;
    *slash = '\0';
    const char **found = bsearch(name, files->folders, files->n_folders, sizeof *files->folders, compare_name);
    return found ? (size_t)(found - files->folders) : files->n_folders;
}

// Each folder's files stand together in the list, so a class's held-out share is drawn over one range.
static KinditStatus assign_files(FolderImport *import) {
    const FileList *files = &import->files;
    TRY(memory_alloc(import->ctx, files->n, sizeof *import->folder_of, &import->folder_of));
    TRY(memory_alloc(import->ctx, files->n, sizeof *import->heldout, &import->heldout));
    for (size_t i = 0; i < files->n; i++) {
        import->folder_of[i] = find_folder(files, files->paths[i]);
        import->n_outside += import->folder_of[i] == files->n_folders;
    }
    for (size_t first = 0, end; first < files->n; first = end) {
        size_t folder = import->folder_of[first];
        for (end = first; end < files->n && import->folder_of[end] == folder;) end++;
        TRY(import_choose_heldout(import->ctx, import->settings->seed, folder, import->settings->heldout, end - first,
                                  import->heldout + first));
    }
    return KINDIT_OK;
}

static KinditStatus name_classes(FolderImport *import, const char *folder) {
    size_t n = import->files.n_folders;
    if (n == 0)
        return context_fail(import->ctx, KINDIT_ERROR_FORMAT, "%s: expected one folder a class inside, found none",
                            folder);
    TRY(memory_alloc(import->ctx, n, sizeof *import->classes, &import->classes));
    TRY(memory_alloc(import->ctx, n, sizeof *import->class_of, &import->class_of));
    for (size_t i = 0; i < n; i++) {
        const char *name = import->files.folders[i];
        if (strlen(name) >= DIT_CLASS_NAME_SIZE)
            return context_fail(import->ctx, KINDIT_ERROR_UNSUPPORTED,
                                "%s/%s: a class's name can have %d bytes at most", folder, name,
                                DIT_CLASS_NAME_SIZE - 1);
        memcpy(import->classes[i].name, name, strlen(name) + 1);
        import_class_id(import->classes[i].id, name);
    }
    return import_map_classes(import->ctx, import->writer, import->settings, import->classes, n, true,
                              import->class_of);
}

static KinditStatus finish(FolderImport *import) {
    cJSON *details = cJSON_CreateObject(), *counts = cJSON_CreateObject();
    cJSON_AddStringToObject(details, "importer", "folder");
    cJSON_AddStringToObject(details, "resize", "ADM centre crop (box halving, bicubic)");
    cJSON_AddNumberToObject(details, "heldout", import->settings->heldout);
    cJSON_AddNumberToObject(details, "seed", (double)import->settings->seed);
    cJSON_AddNumberToObject(counts, "images", (double)import->n_added);
    cJSON_AddNumberToObject(counts, "broken", (double)import->n_broken);
    cJSON_AddNumberToObject(counts, "outside_class_folders", (double)import->n_outside);
    cJSON_AddNumberToObject(counts, "unwanted_class", (double)import->n_unwanted);
    cJSON_AddNumberToObject(counts, "other_files", (double)import->files.n_other);
    context_log(
        import->ctx, KINDIT_LOG_INFO,
        "%lld images; skipped: %lld broken, %lld outside class folders, %lld of unwanted classes, %zu other files",
        (long long)import->n_added, (long long)import->n_broken, (long long)import->n_outside,
        (long long)import->n_unwanted, import->files.n_other);
    KinditStatus status = dataset_writer_finish(&import->writer, details, counts, import->settings->drop_empty);
    cJSON_Delete(details);
    cJSON_Delete(counts);
    return status;
}

KinditStatus import_folder(KinditContext *ctx, const ImportSettings *settings, const char *folder) {
    static const char *const extensions[] = {".png", ".jpg", ".jpeg", ".webp", NULL};
    TRY(import_settings_check(settings, ctx));
    FolderImport import = {.ctx = ctx, .settings = settings};
    KinditStatus status = file_list_collect(&import.files, ctx, folder, extensions);
    if (!status)
        status =
            dataset_writer_create(&import.writer, ctx, settings->output, folder, settings->size, settings->channels);
    if (!status) status = name_classes(&import, folder);
    if (!status) status = assign_files(&import);
    if (!status) status = add_images(&import);
    if (!status) status = finish(&import);
    dataset_writer_abandon(&import.writer);
    file_list_close(&import.files);
    memory_free(&import.classes);
    memory_free(&import.class_of);
    memory_free(&import.folder_of);
    memory_free(&import.heldout);
    return status;
}
