#include "metrics/feature_set.h"

#include <string.h>

#include "base/memory.h"

enum { PART = 512 }; // images

static const char *const kind_names[FEATURE_KINDS] = {"features", "spatial", "logits"};

// A part: in memory of its own, or mapped from its file.
typedef struct Part {
    int64_t first;
    int n;
    float *own[FEATURE_KINDS]; // (PART, width) while the part is being filled
    int *own_labels;
    Safetensors file;
    const float *values[FEATURE_KINDS];
    const int32_t *labels;
} Part;

struct FeatureSet {
    KinditContext *ctx;
    int widths[FEATURE_KINDS];
    char folder[1024]; // "" in memory
    char *recipe;
    int64_t n;
    Part *parts;
    int n_parts, capacity;
    bool open; // is the last part being filled?
};

static void close_part(Part *part) {
    for (int k = 0; k < FEATURE_KINDS; k++) memory_free(&part->own[k]);
    memory_free(&part->own_labels);
    safetensors_close(&part->file);
    *part = (Part){0};
}

void feature_set_close(FeatureSet **set) {
    if (!set || !*set) return;
    for (int p = 0; p < (*set)->n_parts; p++) close_part(&(*set)->parts[p]);
    memory_free(&(*set)->parts);
    memory_free(&(*set)->recipe);
    memory_free(set);
}

static KinditStatus push_part(FeatureSet *set, Part **out) {
    if (set->n_parts == set->capacity) {
        Part *grown;
        const int capacity = set->capacity ? 2 * set->capacity : 16;
        TRY(memory_alloc(set->ctx, (size_t)capacity, sizeof *grown, &grown));
        if (set->n_parts) memcpy(grown, set->parts, (size_t)set->n_parts * sizeof *grown);
        memory_free(&set->parts);
        set->parts = grown;
        set->capacity = capacity;
    }
    *out = &set->parts[set->n_parts++];
    **out = (Part){.first = set->n};
    return KINDIT_OK;
}

// ---- files ---------------------------------------------------------------------------------------------------------

static KinditStatus part_path(char out[1024], const FeatureSet *set, int part) {
    return file_path(out, set->ctx, "%s/part-%05d.safetensors", set->folder, part);
}

static KinditStatus map_values(Part *part, const FeatureSet *set) {
    const Tensor *tensor;
    int64_t shape[2] = {part->n, 0};
    for (int k = 0; k < FEATURE_KINDS; k++) {
        if (!set->widths[k]) continue;
        shape[1] = set->widths[k];
        TRY(safetensors_require(&part->file, set->ctx, kind_names[k], 2, shape, &tensor));
        part->values[k] = tensor->data;
        if (tensor->dtype != DTYPE_F32 || (uintptr_t)tensor->data % sizeof(float))
            return context_fail(set->ctx, KINDIT_ERROR_FORMAT, "%s: %s: expected F32 at a multiple of 4 bytes",
                                part->file.path, kind_names[k]);
    }
    return KINDIT_OK;
}

static KinditStatus read_part(FeatureSet *set, const char *path) {
    Part *part;
    TRY(push_part(set, &part));
    TRY(safetensors_open(&part->file, set->ctx, path));
    const Tensor *labels = safetensors_find(&part->file, "labels");
    const char *recipe = safetensors_metadata(&part->file, "recipe");
    if (!recipe || strcmp(recipe, set->recipe) != 0)
        return context_fail(set->ctx, KINDIT_ERROR_FORMAT,
                            "%s: features of other images or another network; choose another folder or remove this one",
                            path);
    if (!labels || labels->dtype != DTYPE_I32 || labels->n_dims != 1 || labels->shape[0] < 1 ||
        labels->shape[0] > PART || (uintptr_t)labels->data % sizeof(int32_t))
        return context_fail(set->ctx, KINDIT_ERROR_FORMAT, "%s: labels: expected I32 (1 to %d)", path, PART);
    part->n = (int)labels->shape[0];
    part->labels = labels->data;
    TRY(map_values(part, set));
    set->n += part->n;
    return KINDIT_OK;
}

static KinditStatus read_parts(FeatureSet *set) {
    char path[1024];
    TRY(file_make_folder(set->ctx, set->folder));
    for (;;) {
        TRY(part_path(path, set, set->n_parts));
        if (!file_exists(path)) return KINDIT_OK;
        TRY(read_part(set, path));
    }
}

static KinditStatus write_part(const FeatureSet *set, const Part *part, const char *path) {
    Tensor tensors[FEATURE_KINDS + 1];
    int n = 0;
    const char *const metadata[1][2] = {{"recipe", set->recipe}};
    tensors[n++] =
        (Tensor){.name = "labels", .dtype = DTYPE_I32, .n_dims = 1, .shape = {part->n}, .data = part->own_labels};
    for (int k = 0; k < FEATURE_KINDS; k++)
        if (set->widths[k])
            tensors[n++] = (Tensor){.name = kind_names[k],
                                    .dtype = DTYPE_F32,
                                    .n_dims = 2,
                                    .shape = {part->n, set->widths[k]},
                                    .data = part->own[k]};
    return safetensors_write(set->ctx, path, tensors, n, metadata, 1);
}

// The part moves from memory into its file, and is read from there from now on.
KinditStatus feature_set_save(FeatureSet *set) {
    char path[1024];
    if (!set->open || !set->folder[0]) return KINDIT_OK;
    Part *part = &set->parts[set->n_parts - 1];
    TRY(part_path(path, set, set->n_parts - 1));
    TRY(write_part(set, part, path));
    set->n -= part->n;
    set->n_parts--;
    set->open = false;
    close_part(part);
    return read_part(set, path);
}

// ---- calls ---------------------------------------------------------------------------------------------------------

KinditStatus feature_set_open(FeatureSet **out, KinditContext *ctx, const int widths[FEATURE_KINDS], const char *folder,
                              const char *recipe) {
    FeatureSet *set;
    TRY(memory_alloc(ctx, 1, sizeof *set, out));
    set = *out;
    set->ctx = ctx;
    memcpy(set->widths, widths, sizeof set->widths);
    KinditStatus status = memory_alloc(ctx, strlen(recipe) + 1, 1, &set->recipe);
    if (!status) memcpy(set->recipe, recipe, strlen(recipe) + 1);
    if (!status && folder) status = file_path(set->folder, ctx, "%s", folder);
    if (!status && folder) status = read_parts(set);
    if (status) feature_set_close(out);
    return status;
}

int64_t feature_set_count(const FeatureSet *set) {
    return set->n;
}

int feature_set_width(const FeatureSet *set, FeatureKind kind) {
    return set->widths[kind];
}

// Parts differ in size where work was cut short.
static const Part *find_part(const FeatureSet *set, int64_t i) {
    int low = 0, high = set->n_parts - 1;
    while (low < high) {
        const int middle = (low + high + 1) / 2;
        if (set->parts[middle].first <= i)
            low = middle;
        else
            high = middle - 1;
    }
    return &set->parts[low];
}

int feature_set_label(const FeatureSet *set, int64_t i) {
    const Part *part = find_part(set, i);
    return part->labels[i - part->first];
}

static KinditStatus begin_part(FeatureSet *set) {
    Part *part;
    TRY(push_part(set, &part));
    set->open = true;
    TRY(memory_alloc(set->ctx, PART, sizeof *part->own_labels, &part->own_labels));
    part->labels = part->own_labels;
    for (int k = 0; k < FEATURE_KINDS; k++) {
        if (!set->widths[k]) continue;
        TRY(memory_alloc(set->ctx, PART, (size_t)set->widths[k] * sizeof(float), &part->own[k]));
        part->values[k] = part->own[k];
    }
    return KINDIT_OK;
}

KinditStatus feature_set_add(FeatureSet *set, int n, const VisionOutput *values, const int *labels) {
    const float *const from[FEATURE_KINDS] = {values->features, values->spatial, values->logits};
    for (int i = 0; i < n; i++) {
        if (set->open && set->parts[set->n_parts - 1].n == PART) {
            TRY(feature_set_save(set));
            set->open = false;
        }
        if (!set->open) TRY(begin_part(set));
        Part *part = &set->parts[set->n_parts - 1];
        for (int k = 0; k < FEATURE_KINDS; k++) {
            const size_t width = (size_t)set->widths[k];
            if (width)
                memcpy(part->own[k] + (size_t)part->n * width, from[k] + (size_t)i * width, width * sizeof(float));
        }
        part->own_labels[part->n++] = labels[i];
        set->n++;
    }
    return KINDIT_OK;
}

KinditStatus feature_set_rows(FeatureRows *out, const FeatureSet *set, FeatureKind kind, const int64_t *order,
                              int64_t n) {
    const float **row;
    *out = (FeatureRows){.n = n, .width = set->widths[kind]};
    TRY(memory_alloc(set->ctx, (size_t)n + 1, sizeof *row, &row));
    for (int64_t i = 0; i < n; i++) {
        const int64_t image = order ? order[i] : i;
        const Part *part = find_part(set, image);
        row[i] = part->values[kind] + (size_t)(image - part->first) * (size_t)set->widths[kind];
    }
    out->row = row;
    return KINDIT_OK;
}

void feature_rows_close(FeatureRows *rows) {
    const float **row = (const float **)rows->row;
    memory_free(&row);
    *rows = (FeatureRows){0};
}
