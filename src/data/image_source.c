#include "data/image_source.h"

#include <string.h>

#include "data/import_tools.h"

struct ImageSource {
    char path[1024];
    int64_t n, chosen; // images; those of them that count, evenly spread
    int n_classes;
    ModelClass *classes; // [n_classes], owned
    int *labels;         // [n], owned, or NULL
    // one of two:
    const uint8_t *pixels; // (n, height, width, channels), in one of the two below
    int height, width, channels;
    Dataset *dataset;
    Npy batch;
    FileList files;
};

void image_source_close(ImageSource **source) {
    if (!source || !*source) return;
    memory_free(&(*source)->classes);
    memory_free(&(*source)->labels);
    dataset_close(&(*source)->dataset);
    npy_close(&(*source)->batch);
    file_list_close(&(*source)->files);
    memory_free(source);
}

// ---- data sets -----------------------------------------------------------------------------------------------------

static KinditStatus open_dataset(ImageSource *source, KinditContext *ctx, SourceSplit split) {
    TRY(dataset_open(&source->dataset, ctx, source->path));
    const Dataset *dataset = source->dataset;
    const DatasetSplit part = split == SOURCE_HELDOUT ? dataset->heldout : dataset->train;
    if (dataset->latents)
        return context_fail(ctx, KINDIT_ERROR_UNSUPPORTED, "%s: holds latents, where images are to be measured",
                            source->path);
    if (part.count < 1)
        return context_fail(ctx, KINDIT_ERROR_ARGUMENT, "%s: has no %s images", source->path,
                            split == SOURCE_HELDOUT ? "held-out" : "training");
    source->n = part.count;
    source->height = source->width = dataset->size;
    source->channels = dataset->channels;
    const size_t image = (size_t)dataset->size * (size_t)dataset->size * (size_t)dataset->channels;
    source->pixels = (const uint8_t *)dataset->images.array.data + (size_t)part.first * image;
    source->n_classes = dataset->n_classes;
    TRY(memory_alloc(ctx, (size_t)dataset->n_classes, sizeof *source->classes, &source->classes));
    memcpy(source->classes, dataset->classes, (size_t)dataset->n_classes * sizeof *source->classes);
    TRY(memory_alloc(ctx, (size_t)part.count, sizeof *source->labels, &source->labels));
    for (int64_t i = 0; i < part.count; i++) source->labels[i] = dataset_label(dataset, part.first + i);
    return KINDIT_OK;
}

// ---- batches -------------------------------------------------------------------------------------------------------

static bool has_array(const char *path, const char *name) {
    Npy npy;
    if (npz_read(&npy, NULL, path, name)) return false;
    npy_close(&npy);
    return true;
}

static KinditStatus read_labels(ImageSource *source, KinditContext *ctx, int n_classes, const Tensor *labels) {
    if (labels->dtype != DTYPE_I64 || labels->n_dims != 1 || labels->shape[0] != source->n)
        return context_fail(ctx, KINDIT_ERROR_FORMAT, "%s: arr_1: expected int64 labels (%lld)", source->path,
                            (long long)source->n);
    TRY(memory_alloc(ctx, (size_t)source->n, sizeof *source->labels, &source->labels));
    for (int64_t i = 0; i < source->n; i++) {
        int64_t label;
        memcpy(&label, (const char *)labels->data + (size_t)i * sizeof label, sizeof label);
        if (label < 0 || label >= n_classes)
            return context_fail(ctx, KINDIT_ERROR_FORMAT, "%s: arr_1: expected labels 0..%d, found %lld", source->path,
                                n_classes - 1, (long long)label);
        source->labels[i] = (int)label;
        if (label >= source->n_classes) source->n_classes = (int)label + 1;
    }
    return KINDIT_OK;
}

// Without ids, numbers; `ids` may be NULL.
static KinditStatus name_classes(ImageSource *source, KinditContext *ctx, const Tensor *ids) {
    if (ids) source->n_classes = (int)ids->shape[0];
    TRY(memory_alloc(ctx, (size_t)source->n_classes, sizeof *source->classes, &source->classes));
    for (int c = 0; c < source->n_classes; c++) {
        char *id = source->classes[c].id;
        if (ids)
            memcpy(id, (const char *)ids->data + (size_t)c * DIT_CLASS_NAME_SIZE, DIT_CLASS_NAME_SIZE - 1);
        else
            snprintf(id, DIT_CLASS_NAME_SIZE, "%d", c);
        memcpy(source->classes[c].name, id, DIT_CLASS_NAME_SIZE);
    }
    return KINDIT_OK;
}

static KinditStatus open_batch_classes(ImageSource *source, KinditContext *ctx) {
    Npy labels = {0}, ids = {0};
    const bool named = has_array(source->path, "class_ids");
    if (!has_array(source->path, "arr_1")) return KINDIT_OK;
    KinditStatus status = npz_read(&labels, ctx, source->path, "arr_1");
    if (!status && named) status = npz_read(&ids, ctx, source->path, "class_ids");
    if (!status && named &&
        (ids.array.dtype != DTYPE_U8 || ids.array.n_dims != 2 || ids.array.shape[1] != DIT_CLASS_NAME_SIZE ||
         ids.array.shape[0] > DIT_MAX_CLASSES))
        status = context_fail(ctx, KINDIT_ERROR_FORMAT, "%s: class_ids: expected uint8 (K, %d)", source->path,
                              DIT_CLASS_NAME_SIZE);
    const int most = !status && named ? (int)ids.array.shape[0] : DIT_MAX_CLASSES;
    if (!status) status = read_labels(source, ctx, most, &labels.array);
    if (!status) status = name_classes(source, ctx, named ? &ids.array : NULL);
    npy_close(&labels);
    npy_close(&ids);
    return status;
}

static KinditStatus read_batch(ImageSource *source, KinditContext *ctx) {
    KinditStatus status = npz_read(&source->batch, ctx, source->path, "arr_0");
    if (!status ||
        !(has_array(source->path, "mu") || has_array(source->path, "sigma") || has_array(source->path, "mu_s")))
        return status;
    return context_fail(ctx, KINDIT_ERROR_FORMAT,
                        "%s: holds statistics where images (arr_0) are wanted; as a reference it needs mu and sigma",
                        source->path);
}

static KinditStatus open_batch(ImageSource *source, KinditContext *ctx) {
    char shape[TENSOR_SHAPE_TEXT];
    TRY(read_batch(source, ctx));
    const Tensor *array = &source->batch.array;
    bool good = array->dtype == DTYPE_U8 && array->n_dims == 4 && (array->shape[3] == 1 || array->shape[3] == 3);
    for (int i = 0; i < 3 && good; i++) good = array->shape[i] > 0 && (i == 0 || array->shape[i] <= IMAGE_MAX_SIDE);
    if (!good)
        return context_fail(ctx, KINDIT_ERROR_FORMAT,
                            "%s: arr_0: expected at least one uint8 image (N, H, W, 1 or 3), found %s %s", source->path,
                            dtype_name(array->dtype), tensor_shape_text(shape, array->n_dims, array->shape));
    source->n = array->shape[0];
    source->height = (int)array->shape[1];
    source->width = (int)array->shape[2];
    source->channels = (int)array->shape[3];
    source->pixels = array->data;
    return open_batch_classes(source, ctx);
}

// ---- folders -------------------------------------------------------------------------------------------------------

// The sub-folder that file i lies in, as an index; -1: in none.
static int folder_of(const FileList *files, size_t i) {
    const char *name = files->paths[i] + files->root;
    const size_t length = strcspn(name, "/");
    if (!name[length]) return -1;
    for (size_t f = 0; f < files->n_folders; f++)
        if (strlen(files->folders[f]) == length && memcmp(files->folders[f], name, length) == 0) return (int)f;
    return -1;
}

static KinditStatus open_folder_classes(ImageSource *source, KinditContext *ctx) {
    const FileList *files = &source->files;
    int last = -1;
    TRY(memory_alloc(ctx, files->n, sizeof *source->labels, &source->labels));
    TRY(memory_alloc(ctx, files->n_folders + 1, sizeof *source->classes, &source->classes));
    for (size_t i = 0; i < files->n; i++) {
        const int folder = folder_of(files, i);
        if (folder < 0) { // not a class each: none has one
            source->n_classes = 0;
            memory_free(&source->labels);
            return KINDIT_OK;
        }
        if (folder != last) { // files of a folder stand together
            ModelClass *class = &source->classes[source->n_classes++];
            import_class_id(class->id, files->folders[folder]);
            snprintf(class->name, sizeof class->name, "%.*s", DIT_CLASS_NAME_SIZE - 1, files->folders[folder]);
        }
        last = folder;
        source->labels[i] = source->n_classes - 1;
    }
    return KINDIT_OK;
}

static KinditStatus open_folder(ImageSource *source, KinditContext *ctx) {
    static const char *const extensions[] = {".png", ".jpg", ".jpeg", ".webp", NULL};
    TRY(file_list_collect(&source->files, ctx, source->path, extensions));
    source->n = (int64_t)source->files.n;
    if (source->n == 0)
        return context_fail(ctx, KINDIT_ERROR_FORMAT,
                            "%s: neither a data set (dataset.json) nor a folder with .png, .jpg or .webp files",
                            source->path);
    return open_folder_classes(source, ctx);
}

// ---- all -----------------------------------------------------------------------------------------------------------

static KinditStatus open_any(ImageSource *source, KinditContext *ctx, const char *path, SourceSplit split) {
    char json[1024];
    TRY(file_path(source->path, ctx, "%s", path));
    if (!file_is_folder(path)) return open_batch(source, ctx);
    TRY(file_path(json, ctx, "%s/dataset.json", path));
    return file_exists(json) ? open_dataset(source, ctx, split) : open_folder(source, ctx);
}

KinditStatus image_source_open(ImageSource **out, KinditContext *ctx, const char *path, SourceSplit split) {
    TRY(memory_alloc(ctx, 1, sizeof **out, out));
    KinditStatus status = open_any(*out, ctx, path, split);
    (*out)->chosen = (*out)->n;
    if (status) image_source_close(out);
    return status;
}

int64_t image_source_count(const ImageSource *source) {
    return source->chosen;
}

KinditStatus image_source_choose(ImageSource *source, KinditContext *ctx, int64_t n) {
    if (n < 1 || n > source->n)
        return context_fail(ctx, KINDIT_ERROR_ARGUMENT, "%s: has %lld images, and %lld are asked for", source->path,
                            (long long)source->n, (long long)n);
    source->chosen = n;
    return KINDIT_OK;
}

// Which of all images is the i-th that counts.
static int64_t place_of(const ImageSource *source, int64_t i) {
    const int64_t whole = source->n / source->chosen, rest = source->n % source->chosen;
    return i * whole + i * rest / source->chosen;
}

void image_source_name(const ImageSource *source, int64_t i, char out[IMAGE_SOURCE_NAME_SIZE]) {
    const int64_t at = place_of(source, i);
    if (source->pixels)
        snprintf(out, IMAGE_SOURCE_NAME_SIZE, "%s: image %lld", source->path, (long long)at);
    else
        snprintf(out, IMAGE_SOURCE_NAME_SIZE, "%s", source->files.paths[at]);
}

const ModelClass *image_source_classes(const ImageSource *source, int *n) {
    *n = source->n_classes;
    return source->classes;
}

int image_source_label(const ImageSource *source, int64_t i) {
    return source->labels ? source->labels[place_of(source, i)] : -1;
}

KinditStatus image_source_read(const ImageSource *source, KinditContext *ctx, int64_t i, Image *out) {
    const int64_t at = place_of(source, i);
    *out = (Image){0};
    if (source->pixels) {
        TRY(image_alloc(out, ctx, source->width, source->height, source->channels));
        const size_t size = (size_t)source->width * (size_t)source->height * (size_t)source->channels;
        memcpy(out->pixels, source->pixels + (size_t)at * size, size);
        return KINDIT_OK;
    }
    TRY(image_read(out, ctx, source->files.paths[at]));
    KinditStatus status = out->channels == 4 ? image_convert(out, ctx, 3, 0) : KINDIT_OK;
    if (status) image_close(out);
    return status;
}

KinditStatus image_source_hash(const ImageSource *source, KinditContext *ctx, char out[65]) {
    if (!source->pixels) return file_list_hash(&source->files, ctx, out);
    const size_t image = (size_t)source->width * (size_t)source->height * (size_t)source->channels;
    file_sha256(source->pixels, (size_t)source->n * image, out);
    return KINDIT_OK;
}
