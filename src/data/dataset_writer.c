#include "data/dataset.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "model/model_folder.h"

typedef struct WriterSample {
    int32_t class_index;
    bool heldout;
} WriterSample;

struct DatasetWriter {
    KinditContext *ctx;
    FolderWriter folder;
    char spool_path[1024];
    char name[256];
    int size, channels;
    size_t sample_bytes;
    FILE *spool; // samples as they came
    ModelClass *classes;
    int n_classes;
    size_t class_capacity;
    WriterSample *samples;
    size_t n_samples, sample_capacity;
};

// Makes room for one more element behind `n`, doubling.
static KinditStatus grow(KinditContext *ctx, size_t n, size_t *capacity, size_t size, void *array_pointer) {
    if (n < *capacity) return KINDIT_OK;
    size_t bigger = *capacity ? *capacity * 2 : 64;
    void *old, *array;
    memcpy(&old, array_pointer, sizeof old);
    TRY(memory_alloc(ctx, bigger, size, &array));
    if (n) memcpy(array, old, n * size);
    memory_free(&old);
    memcpy(array_pointer, &array, sizeof array);
    *capacity = bigger;
    return KINDIT_OK;
}

static KinditStatus writer_open(DatasetWriter *writer, const char *path, const char *name) {
    KinditContext *ctx = writer->ctx;
    TRY(folder_begin(&writer->folder, ctx, path, false));
    snprintf(writer->name, sizeof writer->name, "%s", name);
    TRY(file_path(writer->spool_path, ctx, "%s/spool", writer->folder.temporary));
    writer->spool = fopen(writer->spool_path, "wb");
    if (!writer->spool)
        return context_fail(ctx, KINDIT_ERROR_IO, "%s: cannot write: %s", writer->spool_path, strerror(errno));
    return KINDIT_OK;
}

KinditStatus dataset_writer_create(DatasetWriter **out, KinditContext *ctx, const char *path, const char *name,
                                   int size, int channels) {
    *out = NULL;
    if (size < 1 || size > 16384 || (channels != 1 && channels != 3))
        return context_fail(ctx, KINDIT_ERROR_ARGUMENT, "%s: cannot hold images of side %d with %d channels", path,
                            size, channels);
    TRY(memory_alloc(ctx, 1, sizeof **out, out));
    **out = (DatasetWriter){.ctx = ctx, .size = size, .channels = channels};
    (*out)->sample_bytes = (size_t)size * (size_t)size * (size_t)channels;
    KinditStatus status = writer_open(*out, path, name);
    if (status) dataset_writer_abandon(out);
    return status;
}

KinditStatus dataset_writer_class(DatasetWriter *writer, const char *id, const char *name, int *index) {
    KinditContext *ctx = writer->ctx;
    for (int i = 0; i < writer->n_classes; i++) {
        const ModelClass *other = &writer->classes[i];
        if (strcasecmp(other->id, id) != 0) continue;
        if (strcmp(other->id, id) != 0)
            return context_fail(ctx, KINDIT_ERROR_ARGUMENT, "%s: class ids \"%s\" and \"%s\" differ in case only",
                                writer->folder.path, other->id, id);
        if (strcmp(other->name, name) != 0)
            return context_fail(ctx, KINDIT_ERROR_ARGUMENT, "%s: class id \"%s\" stands for both \"%s\" and \"%s\"",
                                writer->folder.path, id, other->name, name);
        *index = i;
        return KINDIT_OK;
    }
    if (!dataset_class_id_valid(id))
        return context_fail(ctx, KINDIT_ERROR_ARGUMENT,
                            "%s: class id \"%s\" is not made of 1..%d letters, digits, - _ .", writer->folder.path, id,
                            DIT_CLASS_NAME_SIZE - 1);
    if (strlen(name) >= DIT_CLASS_NAME_SIZE || writer->n_classes >= DIT_MAX_CLASSES)
        return context_fail(ctx, KINDIT_ERROR_ARGUMENT,
                            "%s: class \"%s\": its name exceeds %d bytes, or there are over %d", writer->folder.path,
                            name, DIT_CLASS_NAME_SIZE - 1, DIT_MAX_CLASSES);
    TRY(grow(ctx, (size_t)writer->n_classes, &writer->class_capacity, sizeof *writer->classes, &writer->classes));
    ModelClass *added = &writer->classes[writer->n_classes];
    memcpy(added->id, id, strlen(id) + 1);
    memcpy(added->name, name, strlen(name) + 1);
    *index = writer->n_classes++;
    return KINDIT_OK;
}

KinditStatus dataset_writer_add(DatasetWriter *writer, int class_index, bool heldout, const uint8_t *pixels) {
    KinditContext *ctx = writer->ctx;
    if (class_index < 0 || class_index >= writer->n_classes)
        return context_fail(ctx, KINDIT_ERROR_ARGUMENT, "%s: class %d of %d does not exist", writer->folder.path,
                            class_index, writer->n_classes);
    TRY(grow(ctx, writer->n_samples, &writer->sample_capacity, sizeof *writer->samples, &writer->samples));
    if (fwrite(pixels, 1, writer->sample_bytes, writer->spool) != writer->sample_bytes)
        return context_fail(ctx, KINDIT_ERROR_IO, "%s: cannot write: %s", writer->spool_path, strerror(errno));
    writer->samples[writer->n_samples++] = (WriterSample){.class_index = class_index, .heldout = heldout};
    return KINDIT_OK;
}

void dataset_writer_abandon(DatasetWriter **writer) {
    if (!writer || !*writer) return;
    DatasetWriter *w = *writer;
    if (w->spool) fclose(w->spool);
    folder_abandon(&w->folder);
    memory_free(&w->classes);
    memory_free(&w->samples);
    memory_free(writer);
}

// Drops or refuses classes without a training sample; samples then carry the numbers of the classes that stay, or -1.
static KinditStatus remove_empty_classes(DatasetWriter *writer, bool drop_empty) {
    KinditContext *ctx = writer->ctx;
    int32_t *renumbered;
    TRY(memory_alloc(ctx, (size_t)writer->n_classes, sizeof *renumbered, &renumbered));
    for (size_t i = 0; i < writer->n_samples; i++)
        if (!writer->samples[i].heldout) renumbered[writer->samples[i].class_index] = 1;
    char list[600] = "";
    size_t used = 0;
    int n_kept = 0, n_empty = 0;
    for (int i = 0; i < writer->n_classes; i++) {
        const char *id = writer->classes[i].id;
        if (renumbered[i]) {
            writer->classes[n_kept] = writer->classes[i];
            renumbered[i] = n_kept++;
        } else {
            renumbered[i] = -1;
            if (used + strlen(id) + 8 < sizeof list)
                used += (size_t)snprintf(list + used, sizeof list - used, "%s%s", n_empty ? ", " : "", id);
            n_empty++;
        }
    }
    KinditStatus status = KINDIT_OK;
    if (n_empty && !drop_empty)
        status = context_fail(ctx, KINDIT_ERROR_FORMAT,
                              "%d of %d classes have no training sample: %s (--drop-empty leaves "
                              "them out)",
                              n_empty, writer->n_classes, list);
    else if (n_empty)
        context_log(ctx, KINDIT_LOG_WARNING, "%d classes have no training sample and are left out: %s", n_empty, list);
    for (size_t i = 0; i < writer->n_samples; i++)
        writer->samples[i].class_index = renumbered[writer->samples[i].class_index];
    writer->n_classes = n_kept;
    memory_free(&renumbered);
    return status;
}

// order = the samples by split, class and arrival (a counting sort); *n_train, *n = how many there are.
static KinditStatus sort_samples(const DatasetWriter *writer, size_t *order, size_t *n_train, size_t *n) {
    size_t n_bins = 2 * (size_t)writer->n_classes, *start;
    TRY(memory_alloc(writer->ctx, n_bins + 1, sizeof *start, &start));
    for (int pass = 0; pass < 2; pass++) {
        for (size_t i = 0; i < writer->n_samples; i++) {
            const WriterSample *sample = &writer->samples[i];
            if (sample->class_index < 0) continue;
            size_t bin = (size_t)sample->class_index + (sample->heldout ? (size_t)writer->n_classes : 0);
            if (pass == 0)
                start[bin + 1]++;
            else
                order[start[bin]++] = i;
        }
        if (pass == 0)
            for (size_t bin = 0; bin < n_bins; bin++) start[bin + 1] += start[bin];
    }
    *n_train = start[(size_t)writer->n_classes - 1]; // after the second pass a bin's start has become its end
    *n = start[n_bins - 1];
    memory_free(&start);
    return KINDIT_OK;
}

// hash = SHA-256 over (hash so far, SHA-256 of the pixels, label, split), so that memory for one sample is enough.
static void chain_hash(char hash[65], const uint8_t *pixels, size_t n_bytes, const WriterSample *sample) {
    char link[64 + 64 + 5];
    char digest[65];
    file_sha256(pixels, n_bytes, digest);
    memcpy(link, hash, 64);
    memcpy(link + 64, digest, 64);
    for (int i = 0; i < 4; i++) link[128 + i] = (char)((uint32_t)sample->class_index >> (8 * i));
    link[132] = (char)sample->heldout;
    file_sha256(link, sizeof link, hash);
}

static KinditStatus write_arrays(DatasetWriter *writer, const size_t *order, size_t n, const uint8_t *spool,
                                 char hash[65]) {
    KinditContext *ctx = writer->ctx;
    NpyStream images = {0}, labels = {0};
    char path[1024];
    int64_t shape[4] = {0, writer->size, writer->size, writer->channels};
    memset(hash, '0', 64);
    hash[64] = '\0';
    TRY(file_path(path, ctx, "%s/images.npy", writer->folder.temporary));
    TRY(npy_stream_begin(&images, ctx, path, DTYPE_U8, 4, shape));
    KinditStatus status = file_path(path, ctx, "%s/labels.npy", writer->folder.temporary);
    if (!status) status = npy_stream_begin(&labels, ctx, path, DTYPE_I32, 1, shape);
    for (size_t i = 0; i < n && !status; i++) {
        const uint8_t *pixels = spool + order[i] * writer->sample_bytes;
        const WriterSample *sample = &writer->samples[order[i]];
        chain_hash(hash, pixels, writer->sample_bytes, sample);
        status = npy_stream_append(&images, ctx, pixels, 1);
        if (!status) status = npy_stream_append(&labels, ctx, &sample->class_index, 1);
    }
    if (!status) status = npy_stream_commit(&images, ctx);
    if (!status) status = npy_stream_commit(&labels, ctx);
    if (status) {
        npy_stream_abandon(&images);
        npy_stream_abandon(&labels);
    }
    return status;
}

static void add_range(cJSON *splits, const char *name, size_t first, size_t count) {
    cJSON *range = cJSON_AddArrayToObject(splits, name);
    cJSON_AddItemToArray(range, cJSON_CreateNumber((double)first));
    cJSON_AddItemToArray(range, cJSON_CreateNumber((double)count));
}

static KinditStatus write_json(DatasetWriter *writer, size_t n_train, size_t n, const char *hash, const cJSON *details,
                               const cJSON *counts) {
    cJSON *json = cJSON_CreateObject();
    cJSON_AddNumberToObject(json, "format", 1);
    cJSON_AddStringToObject(json, "name", writer->name);
    cJSON_AddNumberToObject(json, "image_size", writer->size);
    cJSON_AddNumberToObject(json, "channels", writer->channels);
    cJSON *classes = cJSON_AddArrayToObject(json, "classes");
    for (int i = 0; i < writer->n_classes; i++) {
        cJSON *item = cJSON_CreateObject();
        cJSON_AddStringToObject(item, "id", writer->classes[i].id);
        cJSON_AddStringToObject(item, "name", writer->classes[i].name);
        cJSON_AddItemToArray(classes, item);
    }
    cJSON *splits = cJSON_AddObjectToObject(json, "splits");
    add_range(splits, "train", 0, n_train);
    if (n > n_train) add_range(splits, "heldout", n_train, n - n_train);
    cJSON_AddStringToObject(json, "source_sha256", hash);
    if (details) cJSON_AddItemToObject(json, "preprocessing", cJSON_Duplicate(details, true));
    if (counts) cJSON_AddItemToObject(json, "counts", cJSON_Duplicate(counts, true));
    char path[1024];
    KinditStatus status = file_path(path, writer->ctx, "%s/dataset.json", writer->folder.temporary);
    if (!status) status = json_write(writer->ctx, path, json);
    cJSON_Delete(json);
    return status;
}

static KinditStatus close_spool(DatasetWriter *writer) {
    bool failed = fflush(writer->spool) != 0 || ferror(writer->spool);
    failed = fclose(writer->spool) != 0 || failed;
    writer->spool = NULL;
    if (failed)
        return context_fail(writer->ctx, KINDIT_ERROR_IO, "%s: cannot write: the disk may be full", writer->spool_path);
    return KINDIT_OK;
}

static KinditStatus write_samples(DatasetWriter *writer, const cJSON *details, const cJSON *counts) {
    size_t *order, n_train = 0, n = 0;
    char hash[65];
    FileMap spool = {0};
    TRY(memory_alloc(writer->ctx, writer->n_samples, sizeof *order, &order));
    KinditStatus status = sort_samples(writer, order, &n_train, &n);
    if (!status) status = file_map(&spool, writer->ctx, writer->spool_path);
    if (!status) status = write_arrays(writer, order, n, spool.data, hash);
    file_unmap(&spool);
    if (!status) status = write_json(writer, n_train, n, hash, details, counts);
    if (!status)
        context_log(writer->ctx, KINDIT_LOG_INFO, "%s: %zu training and %zu held-out images of %d classes",
                    writer->folder.path, n_train, n - n_train, writer->n_classes);
    memory_free(&order);
    return status;
}

static KinditStatus writer_finish(DatasetWriter *writer, const cJSON *details, const cJSON *counts, bool drop_empty) {
    if (writer->n_samples == 0)
        return context_fail(writer->ctx, KINDIT_ERROR_FORMAT, "%s: the source holds no usable image",
                            writer->folder.path);
    TRY(close_spool(writer));
    TRY(remove_empty_classes(writer, drop_empty));
    if (writer->n_classes == 0)
        return context_fail(writer->ctx, KINDIT_ERROR_FORMAT, "%s: no class has a training sample",
                            writer->folder.path);
    TRY(write_samples(writer, details, counts));
    if (unlink(writer->spool_path) != 0)
        return context_fail(writer->ctx, KINDIT_ERROR_IO, "%s: cannot remove: %s", writer->spool_path, strerror(errno));
    return folder_commit(&writer->folder, writer->ctx);
}

KinditStatus dataset_writer_finish(DatasetWriter **writer, const cJSON *details, const cJSON *counts, bool drop_empty) {
    KinditStatus status = writer_finish(*writer, details, counts, drop_empty);
    dataset_writer_abandon(writer);
    return status;
}
