#include "data/import_tools.h"

#include <errno.h>
#include <fts.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/rng.h"

ImportSettings import_settings_default(void) {
    return (ImportSettings){.size = 32, .channels = 1, .heldout = 0.1};
}

KinditStatus import_settings_check(const ImportSettings *settings, KinditContext *ctx) {
    if (settings->size < 1 || settings->size > IMAGE_MAX_SIDE)
        return context_fail(ctx, KINDIT_ERROR_ARGUMENT, "size: expected 1..%d, found %d", IMAGE_MAX_SIDE,
                            settings->size);
    if (settings->channels != 1 && settings->channels != 3)
        return context_fail(ctx, KINDIT_ERROR_ARGUMENT, "channels: expected 1 or 3, found %d", settings->channels);
    if (!(settings->heldout >= 0.0 && settings->heldout < 1.0))
        return context_fail(ctx, KINDIT_ERROR_ARGUMENT, "heldout: expected a share from 0 to below 1, found %g",
                            settings->heldout);
    return KINDIT_OK;
}

static int compare_entries(const FTSENT **a, const FTSENT **b) {
    return strcmp((*a)->fts_name, (*b)->fts_name);
}

static bool has_extension(const char *name, const char *const *extensions) {
    size_t n = strlen(name);
    for (; *extensions; extensions++) {
        size_t length = strlen(*extensions);
        if (n > length && strcasecmp(name + n - length, *extensions) == 0) return true;
    }
    return false;
}

static KinditStatus append(FileList *list, KinditContext *ctx, const char *text, const char ***array, size_t *n,
                           size_t *capacity) {
    if (*n == *capacity) {
        size_t bigger = *capacity ? *capacity * 2 : 256;
        const char **grown;
        TRY(memory_alloc(ctx, bigger, sizeof *grown, &grown));
        if (*n) memcpy(grown, *array, *n * sizeof *grown);
        memory_free(array);
        *array = grown;
        *capacity = bigger;
    }
    char *copy;
    TRY(arena_copy_string(&list->arena, ctx, text, &copy));
    (*array)[(*n)++] = copy;
    return KINDIT_OK;
}

static KinditStatus take_entry(FileList *list, KinditContext *ctx, const FTSENT *entry, const char *const *extensions) {
    switch (entry->fts_info) {
    case FTS_D:
        if (entry->fts_level != 1) return KINDIT_OK;
        return append(list, ctx, entry->fts_name, &list->folders, &list->n_folders, &list->folder_capacity);
    case FTS_F:
        if (has_extension(entry->fts_name, extensions))
            return append(list, ctx, entry->fts_path, &list->paths, &list->n, &list->capacity);
        list->n_other++;
        return KINDIT_OK;
    case FTS_DC:
        return context_fail(ctx, KINDIT_ERROR_IO, "%s: the folder contains itself through a link", entry->fts_path);
    case FTS_DNR:
    case FTS_ERR:
    case FTS_NS:
        return context_fail(ctx, KINDIT_ERROR_IO, "%s: cannot read: %s", entry->fts_path, strerror(entry->fts_errno));
    case FTS_DP: return KINDIT_OK;              // a folder, on the way back
    default: list->n_other++; return KINDIT_OK; // dangling links, devices
    }
}

KinditStatus file_list_collect(FileList *out, KinditContext *ctx, const char *folder, const char *const *extensions) {
    *out = (FileList){0};
    char root[1024];
    TRY(file_path(root, ctx, "%s", folder));
    for (size_t n = strlen(root); n > 1 && root[n - 1] == '/'; n--) root[n - 1] = '\0';
    if (!file_is_folder(root)) return context_fail(ctx, KINDIT_ERROR_IO, "%s: no such folder", folder);
    out->root = strlen(root) + 1;
    char *const roots[] = {root, NULL};
    FTS *tree = fts_open(roots, FTS_LOGICAL | FTS_NOCHDIR, compare_entries);
    if (!tree) return context_fail(ctx, KINDIT_ERROR_IO, "%s: cannot read: %s", folder, strerror(errno));
    KinditStatus status = KINDIT_OK;
    const FTSENT *entry;
    errno = 0;
    while (!status && (entry = fts_read(tree))) status = take_entry(out, ctx, entry, extensions);
    if (!status && errno != 0)
        status = context_fail(ctx, KINDIT_ERROR_IO, "%s: cannot read: %s", folder, strerror(errno));
    fts_close(tree);
    if (status) file_list_close(out);
    return status;
}

void file_list_close(FileList *list) {
    arena_close(&list->arena);
    memory_free(&list->paths);
    memory_free(&list->folders);
    *list = (FileList){0};
}

KinditStatus file_list_hash(const FileList *list, KinditContext *ctx, char out[65]) {
    enum { DIGITS = 64 };
    char *text;
    size_t length = 0, at = 0;
    for (size_t i = 0; i < list->n; i++) length += strlen(list->paths[i] + list->root) + DIGITS + 1;
    TRY(memory_alloc(ctx, length + 1, 1, &text));
    KinditStatus status = KINDIT_OK;
    for (size_t i = 0; i < list->n && !status; i++) {
        FileMap map;
        char digest[DIGITS + 1];
        status = file_map(&map, ctx, list->paths[i]);
        if (status) break;
        file_sha256(map.data, map.size, digest);
        file_unmap(&map);
        at += (size_t)snprintf(text + at, length + 1 - at, "%s%s\n", list->paths[i] + list->root, digest);
    }
    if (!status) file_sha256(text, at, out);
    memory_free(&text);
    return status;
}

void import_class_id(char out[DIT_CLASS_NAME_SIZE], const char *name) {
    size_t n = strlen(name);
    if (n >= DIT_CLASS_NAME_SIZE) n = DIT_CLASS_NAME_SIZE - 1;
    for (size_t i = 0; i < n; i++) {
        char one[2] = {name[i], '\0'};
        out[i] = dataset_class_id_valid(one) || (i > 0 && name[i] == '.') ? name[i] : '_';
    }
    out[n] = '\0';
}

KinditStatus import_choose_heldout(KinditContext *ctx, uint64_t seed, uint64_t stream, double share, size_t n,
                                   bool *heldout) {
    if (n > UINT32_MAX) return context_fail(ctx, KINDIT_ERROR_UNSUPPORTED, "cannot split %zu entries", n);
    uint32_t *order;
    TRY(memory_alloc(ctx, n, sizeof *order, &order));
    rng_permute((RngKey){.seed = seed, .sample = stream, .purpose = RNG_DATA}, order, (uint32_t)n);
    size_t n_heldout = (size_t)llround(share * (double)n);
    if (n_heldout >= n && n > 0) n_heldout = n - 1;
    for (size_t i = 0; i < n; i++) heldout[order[i]] = i < n_heldout;
    memory_free(&order);
    return KINDIT_OK;
}

KinditStatus import_skip(KinditContext *ctx, KinditStatus failure, bool strict, int64_t *count) {
    if (strict || failure == KINDIT_ERROR_MEMORY || failure == KINDIT_CANCELLED) return failure;
    context_log(ctx, KINDIT_LOG_WARNING, "skipped: %s", kindit_context_message(ctx));
    ++*count;
    return KINDIT_OK;
}

KinditStatus import_report(KinditContext *ctx, size_t done, size_t total, const char *text) {
    KinditProgress progress = {.task = "data", .done = (int64_t)done, .total = (int64_t)total, .text = text};
    context_progress(ctx, &progress);
    if (context_cancelled(ctx)) return context_fail(ctx, KINDIT_CANCELLED, "cancelled: no data set was written");
    return KINDIT_OK;
}

static int compare_targets(const void *a, const void *b) {
    return strcmp(((const ClassTarget *)a)->id, ((const ClassTarget *)b)->id);
}

static KinditStatus number_targets(KinditContext *ctx, DatasetWriter *writer, const ClassTarget *targets, size_t n,
                                   bool sorted) {
    ClassTarget *order;
    int index;
    TRY(memory_alloc(ctx, n, sizeof *order, &order));
    if (n) memcpy(order, targets, n * sizeof *order);
    if (sorted) qsort(order, n, sizeof *order, compare_targets);
    KinditStatus status = KINDIT_OK;
    for (size_t i = 0; i < n && !status; i++) status = dataset_writer_class(writer, order[i].id, order[i].name, &index);
    memory_free(&order);
    return status;
}

static KinditStatus map_with_filter(KinditContext *ctx, DatasetWriter *writer, ClassFilter *filter,
                                    const ModelClass *sources, size_t n, bool sorted, ClassTarget *targets, int *out) {
    size_t n_wanted = 0;
    for (size_t i = 0; i < n; i++)
        out[i] = class_filter_target(filter, sources[i].id, sources[i].name, &targets[n_wanted]) ? (int)n_wanted++ : -1;
    TRY(class_filter_check_used(filter, ctx));
    TRY(number_targets(ctx, writer, targets, n_wanted, sorted));
    for (size_t i = 0; i < n; i++)
        if (out[i] >= 0) TRY(dataset_writer_class(writer, targets[out[i]].id, targets[out[i]].name, &out[i]));
    return KINDIT_OK;
}

KinditStatus import_map_classes(KinditContext *ctx, DatasetWriter *writer, const ImportSettings *settings,
                                const ModelClass *sources, size_t n, bool sorted, int *out) {
    ClassFilter *filter;
    ClassTarget *targets;
    TRY(class_filter_create(&filter, ctx, settings->classes, settings->merge));
    KinditStatus status = memory_alloc(ctx, n, sizeof *targets, &targets);
    if (!status) status = map_with_filter(ctx, writer, filter, sources, n, sorted, targets, out);
    memory_free(&targets);
    class_filter_close(&filter);
    return status;
}
