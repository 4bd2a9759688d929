// A tensor of a file is a row of segments: the rows of each class, then the shared rows. A part's file has only its own
// segments, and no tensor that would have no rows.
#include "model/model_params_file.h"

#include <string.h>

#include "model/storage_file.h"

enum { STAGE_FLOATS = MODEL_PARAMS_STAGE_BYTES / sizeof(float) }; // what passes through host memory at a time

typedef struct Segment {
    size_t first, n; // rows of the file's tensor
    float *vector;   // engine memory of those n rows
} Segment;

// Rows per class of tensor i, and rows that follow them.
static int64_t rows_per_class(const ParamLayout *layout, const ParamsRows *rows, int i) {
    return i == rows->class_table ? 1 : layout->specs[i].tailor_rows;
}

static int64_t rows_shared(const ParamLayout *layout, const ParamsRows *rows, int i) {
    if (rows->part == MODEL_PART_TRAINED && layout->specs[i].frozen) return 0;
    return layout->specs[i].shape[0] - (i == rows->class_table ? rows->n_classes : 0);
}

static int64_t rows_in_file(const ParamLayout *layout, const ParamsRows *rows, int i) {
    if (rows->part == MODEL_PART_TAILOR) return rows_per_class(layout, rows, i);
    if (rows->part == MODEL_PART_SHARED) return rows_shared(layout, rows, i);
    return rows->n_file_classes * rows_per_class(layout, rows, i) + rows_shared(layout, rows, i);
}

static int segment_count(const ParamsRows *rows) {
    const bool is_one = rows->part == MODEL_PART_TAILOR || rows->part == MODEL_PART_SHARED;
    return is_one ? 1 : rows->n_classes + !rows->tailors_only;
}

// Without rows there may be no array either.
static Segment segment_at(size_t row, size_t n, float *from, size_t offset) {
    return (Segment){row, n, n ? from + offset : NULL};
}

// Segment k of tensor i: a class each, the shared rows last.
static Segment segment_get(const ParamLayout *layout, const ParamsRows *rows, const ParamSet *params, int i, int k) {
    const ParamSpec *spec = &layout->specs[i];
    const size_t per_class = (size_t)rows_per_class(layout, rows, i), n_shared = (size_t)rows_shared(layout, rows, i);
    const size_t offset = spec->shared_offset - params->first, of_class = per_class * spec->row;
    const bool in_shared = i == rows->class_table;
    if (rows->part == MODEL_PART_TAILOR)
        return segment_at(0, per_class, params->tailor[rows->class_index], spec->tailor_offset);
    if (rows->part == MODEL_PART_SHARED) return segment_at(0, n_shared, params->shared, offset);
    if (k == rows->n_classes)
        return segment_at((size_t)rows->n_file_classes * per_class, n_shared, params->shared,
                          offset + (in_shared ? (size_t)k * of_class : 0));
    const size_t in_file = (size_t)(rows->classes ? rows->classes[k] : k) * per_class;
    if (in_shared) return segment_at(in_file, per_class, params->shared, offset + (size_t)k * of_class);
    return segment_at(in_file, per_class, params->tailor[k], spec->tailor_offset);
}

// Room for a row of any tensor, however long.
static size_t stage_size(const ParamLayout *layout) {
    size_t n = STAGE_FLOATS;
    for (int i = 0; i < layout->n_specs; i++)
        if (layout->specs[i].row > n) n = layout->specs[i].row;
    return n;
}

// Rows of the segment from `done` on that pass through the stage at once.
static size_t segment_next(const Segment *segment, const ParamSpec *spec, size_t done) {
    size_t left = segment->n - done, most = spec->row < STAGE_FLOATS ? STAGE_FLOATS / spec->row : 1;
    return left < most ? left : most;
}

// The rows of a file that holds a part of a model with n_classes classes.
static ParamsRows rows_of_part(ModelPart part, int class_index, int n_classes) {
    return (ParamsRows){.part = part,
                        .class_index = class_index,
                        .n_classes = n_classes,
                        .n_file_classes = n_classes,
                        .class_table = -1};
}

size_t model_params_count(const ParamLayout *layout, ModelPart part, int n_classes) {
    ParamsRows rows = rows_of_part(part, 0, n_classes);
    size_t n = 0;
    for (int i = 0; i < layout->n_specs; i++) n += (size_t)rows_in_file(layout, &rows, i) * layout->specs[i].row;
    return n;
}

size_t model_params_bytes(const ParamLayout *layout, ModelPart part, int n_classes, StorageType type) {
    ParamsRows rows = rows_of_part(part, 0, n_classes);
    size_t n = 0;
    for (int i = 0; i < layout->n_specs; i++)
        n += (size_t)rows_in_file(layout, &rows, i) * storage_row_bytes(type, &layout->specs[i]);
    return n;
}

// ---- reading -------------------------------------------------------------------------------------------------------

static bool is_expected(const Safetensors *file, const ParamLayout *layout, const ParamsRows *rows, const char *name) {
    for (int i = 0; i < layout->n_specs; i++)
        if (storage_has_name(file, &layout->specs[i], name)) return rows_in_file(layout, rows, i) > 0;
    return false;
}

// Names are unique in a file, so among more tensors than expected a stranger comes early: no header makes this slow.
static KinditStatus refuse_strangers(const Safetensors *file, KinditContext *ctx, const ParamLayout *layout,
                                     const ParamsRows *rows) {
    for (int i = 0; i < file->n_tensors; i++)
        if (!is_expected(file, layout, rows, file->tensors[i].name))
            return context_fail(ctx, KINDIT_ERROR_FORMAT, "%s: tensor \"%.95s\" is not one this model's config has",
                                file->path, file->tensors[i].name);
    return KINDIT_OK;
}

KinditStatus model_params_check(const Safetensors *file, KinditContext *ctx, const ParamLayout *layout,
                                const ParamsRows *rows) {
    StoredTensor tensor;
    TRY(refuse_strangers(file, ctx, layout, rows));
    for (int i = 0; i < layout->n_specs; i++) {
        int64_t n = rows_in_file(layout, rows, i);
        if (n > 0) TRY(storage_find(&tensor, file, ctx, &layout->specs[i], n));
    }
    return KINDIT_OK;
}

static KinditStatus load_segment(const StoredTensor *tensor, KinditContext *ctx, Engine *engine, Segment segment,
                                 const ParamSpec *spec, float *stage) {
    for (size_t done = 0, n; done < segment.n; done += n) {
        n = segment_next(&segment, spec, done);
        TRY(storage_read(tensor, ctx, segment.first + done, n, stage));
        engine_upload(engine, segment.vector + done * spec->row, stage, n * spec->row);
    }
    return KINDIT_OK;
}

KinditStatus model_params_load(const Safetensors *file, KinditContext *ctx, const ParamLayout *layout,
                               const ParamsRows *rows, ParamSet *params) {
    TRY(model_params_check(file, ctx, layout, rows));
    float *stage;
    TRY(memory_alloc(ctx, stage_size(layout), sizeof *stage, &stage));
    KinditStatus status = KINDIT_OK;
    for (int i = 0; i < layout->n_specs && !status; i++) {
        const ParamSpec *spec = &layout->specs[i];
        StoredTensor tensor;
        int64_t n = rows_in_file(layout, rows, i);
        if (n == 0) continue;
        status = storage_find(&tensor, file, ctx, spec, n);
        for (int k = 0; k < segment_count(rows) && !status; k++)
            status = load_segment(&tensor, ctx, params->engine, segment_get(layout, rows, params, i, k), spec, stage);
        file_forget(&file->map);
    }
    memory_free(&stage);
    return status;
}

KinditStatus model_params_read(KinditContext *ctx, const char *path, const ParamLayout *layout, ParamSet *params,
                               ModelPart part, int class_index) {
    Safetensors file;
    TRY(safetensors_open(&file, ctx, path));
    ParamsRows rows = rows_of_part(part, class_index, params->n_classes);
    KinditStatus status = model_params_load(&file, ctx, layout, &rows, params);
    safetensors_close(&file);
    return status;
}

// ---- writing -------------------------------------------------------------------------------------------------------

static KinditStatus save_segment(StorageBuffer *to, KinditContext *ctx, const char *path, Engine *engine,
                                 Segment segment, float *stage) {
    for (size_t done = 0, n; done < segment.n; done += n) {
        n = segment_next(&segment, to->spec, done);
        engine_download(engine, stage, segment.vector + done * to->spec->row, n * to->spec->row);
        TRY(storage_write(to, ctx, path, segment.first + done, n, stage));
    }
    return KINDIT_OK;
}

// The tensors of `rows` in memory of the arena; *n of them.
static KinditStatus gather_tensors(Arena *arena, KinditContext *ctx, const char *path, const ParamLayout *layout,
                                   const ParamsRows *rows, const ParamSet *params, StorageType type, Tensor *tensors,
                                   int *n) {
    float *stage;
    TRY(arena_alloc(arena, ctx, stage_size(layout), sizeof *stage, &stage));
    for (int i = 0; i < layout->n_specs; i++) {
        StorageBuffer buffer;
        int64_t n_rows = rows_in_file(layout, rows, i);
        if (n_rows == 0) continue;
        TRY(storage_buffer_create(&buffer, arena, ctx, type, &layout->specs[i], n_rows));
        for (int k = 0; k < segment_count(rows); k++)
            TRY(save_segment(&buffer, ctx, path, params->engine, segment_get(layout, rows, params, i, k), stage));
        for (int k = 0; k < buffer.n_tensors; k++) tensors[(*n)++] = buffer.tensors[k];
    }
    return KINDIT_OK;
}

KinditStatus model_params_write(KinditContext *ctx, const char *path, const ParamLayout *layout, const ParamSet *params,
                                ModelPart part, int class_index, StorageType type, const char *const (*metadata)[2],
                                int n_metadata) {
    ParamsRows rows = rows_of_part(part, class_index, params->n_classes);
    Arena arena = {0};
    Tensor *tensors;
    int n = 0;
    KinditStatus status = arena_alloc(&arena, ctx, 2 * (size_t)layout->n_specs, sizeof *tensors, &tensors);
    if (!status) status = gather_tensors(&arena, ctx, path, layout, &rows, params, type, tensors, &n);
    if (!status) status = safetensors_write(ctx, path, tensors, n, metadata, n_metadata);
    arena_close(&arena);
    return status;
}
