#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "data/import_tools.h"
#include "formats/idx.h"

typedef struct IdxPart {
    Idx images, labels; // (n, H, W) and (n)
} IdxPart;

static void part_close(IdxPart *part) {
    idx_close(&part->images);
    idx_close(&part->labels);
}

static KinditStatus part_read(IdxPart *out, KinditContext *ctx, const char *images, const char *labels) {
    TRY(idx_read(&out->images, ctx, images));
    TRY(idx_read(&out->labels, ctx, labels));
    const Idx *i = &out->images, *l = &out->labels;
    if (i->n_dims != 3 || i->shape[1] < 1 || i->shape[2] < 1 || i->shape[1] > IMAGE_MAX_SIDE ||
        i->shape[2] > IMAGE_MAX_SIDE)
        return context_fail(ctx, KINDIT_ERROR_FORMAT, "%s: expected images (n, height, width), found %d dimensions",
                            images, i->n_dims);
    if (l->n_dims != 1 || l->shape[0] != i->shape[0])
        return context_fail(ctx, KINDIT_ERROR_FORMAT, "%s: expected %lld labels, one an image of %s, found %lld",
                            labels, (long long)i->shape[0], images, (long long)l->shape[0]);
    return KINDIT_OK;
}

// To settings->size: as it is, centred in a black frame, or by the centre crop when the source is larger.
static KinditStatus fit_image(Image *image, KinditContext *ctx, const ImportSettings *settings) {
    int size = settings->size;
    if (image->width > size || image->height > size) {
        TRY(resize_center_crop(image, ctx, size));
    } else if (image->width < size || image->height < size) {
        Image frame;
        TRY(image_alloc(&frame, ctx, size, size, 1));
        size_t left = (size_t)(size - image->width) / 2, top = (size_t)(size - image->height) / 2;
        for (size_t y = 0; y < (size_t)image->height; y++)
            memcpy(frame.pixels + (top + y) * (size_t)size + left, image->pixels + y * (size_t)image->width,
                   (size_t)image->width);
        image_close(image);
        *image = frame;
    }
    return image_convert(image, ctx, settings->channels, 0);
}

static KinditStatus part_add_image(const IdxPart *part, KinditContext *ctx, const ImportSettings *settings, size_t i,
                                   int class_index, bool heldout, DatasetWriter *writer) {
    Image image;
    int height = (int)part->images.shape[1], width = (int)part->images.shape[2];
    size_t n_bytes = (size_t)height * (size_t)width;
    TRY(image_alloc(&image, ctx, width, height, 1));
    memcpy(image.pixels, part->images.data + i * n_bytes, n_bytes);
    KinditStatus status = fit_image(&image, ctx, settings);
    if (!status) status = dataset_writer_add(writer, class_index, heldout, image.pixels);
    image_close(&image);
    return status;
}

// heldout: one flag an image, or NULL to hold out all of them.
static KinditStatus part_add(const IdxPart *part, KinditContext *ctx, const ImportSettings *settings,
                             const int *class_of, const bool *heldout, DatasetWriter *writer) {
    size_t n = (size_t)part->images.shape[0];
    for (size_t i = 0; i < n; i++) {
        if (i % 1024 == 0) TRY(import_report(ctx, i, n, heldout ? "training part" : "test part"));
        int class_index = class_of[part->labels.data[i]];
        if (class_index >= 0)
            TRY(part_add_image(part, ctx, settings, i, class_index, heldout ? heldout[i] : true, writer));
    }
    return KINDIT_OK;
}

static int part_max_label(const IdxPart *part) {
    int max = -1;
    for (size_t i = 0; i < part->labels.n_elements; i++)
        if (part->labels.data[i] > max) max = part->labels.data[i];
    return max;
}

// classes[0..*n-1] from the comma-separated names, or as many numbers as there are labels.
static KinditStatus name_classes(KinditContext *ctx, const char *names, int max_label, ModelClass classes[256],
                                 int *n) {
    *n = 0;
    for (const char *name = names; name && *n < 256;) {
        size_t length = strcspn(name, ",");
        if (length == 0 || length >= DIT_CLASS_NAME_SIZE)
            return context_fail(ctx, KINDIT_ERROR_ARGUMENT, "names \"%s\": each must have 1..%d bytes", names,
                                DIT_CLASS_NAME_SIZE - 1);
        memcpy(classes[*n].name, name, length);
        classes[*n].name[length] = '\0';
        import_class_id(classes[*n].id, classes[*n].name);
        ++*n;
        name = name[length] == ',' ? name + length + 1 : NULL;
    }
    if (names && max_label >= *n)
        return context_fail(ctx, KINDIT_ERROR_ARGUMENT,
                            "the labels go up to %d, but there are names for %d classes only", max_label, *n);
    for (; *n <= max_label; ++*n) {
        snprintf(classes[*n].id, sizeof classes[*n].id, "%d", *n);
        snprintf(classes[*n].name, sizeof classes[*n].name, "%d", *n);
    }
    return KINDIT_OK;
}

static KinditStatus add_parts(KinditContext *ctx, const ImportSettings *settings, const IdxPart *train,
                              const IdxPart *test, const char *names, DatasetWriter *writer) {
    ModelClass classes[256];
    int n_classes, class_of[256], max_label = part_max_label(train);
    if (test && part_max_label(test) > max_label) max_label = part_max_label(test);
    TRY(name_classes(ctx, names, max_label, classes, &n_classes));
    TRY(import_map_classes(ctx, writer, settings, classes, (size_t)n_classes, false, class_of));
    bool *heldout;
    size_t n = (size_t)train->images.shape[0];
    TRY(memory_alloc(ctx, n, sizeof *heldout, &heldout));
    KinditStatus status =
        test ? KINDIT_OK : import_choose_heldout(ctx, settings->seed, 0, settings->heldout, n, heldout);
    if (!status) status = part_add(train, ctx, settings, class_of, heldout, writer);
    if (!status && test) status = part_add(test, ctx, settings, class_of, NULL, writer);
    memory_free(&heldout);
    return status;
}

static KinditStatus finish(DatasetWriter **writer, const ImportSettings *settings, const IdxPart *train) {
    cJSON *details = cJSON_CreateObject();
    cJSON_AddStringToObject(details, "importer", "idx");
    cJSON_AddNumberToObject(details, "source_height", (double)train->images.shape[1]);
    cJSON_AddNumberToObject(details, "source_width", (double)train->images.shape[2]);
    cJSON_AddStringToObject(details, "fit", "black frame when smaller, ADM centre crop when larger");
    KinditStatus status = dataset_writer_finish(writer, details, NULL, settings->drop_empty);
    cJSON_Delete(details);
    return status;
}

KinditStatus import_idx(KinditContext *ctx, const ImportSettings *settings, const char *images, const char *labels,
                        const char *test_images, const char *test_labels, const char *names) {
    TRY(import_settings_check(settings, ctx));
    IdxPart train = {0}, test = {0};
    DatasetWriter *writer = NULL;
    KinditStatus status = part_read(&train, ctx, images, labels);
    if (!status && test_images) status = part_read(&test, ctx, test_images, test_labels);
    if (!status)
        status = dataset_writer_create(&writer, ctx, settings->output, images, settings->size, settings->channels);
    if (!status) status = add_parts(ctx, settings, &train, test_images ? &test : NULL, names, writer);
    if (!status) status = finish(&writer, settings, &train);
    dataset_writer_abandon(&writer);
    part_close(&train);
    part_close(&test);
    return status;
}
