#include "train/checkpoint.h"

#include <inttypes.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "model/model_run.h"

static bool is_leftover(const char *name) {
    const char *suffix = strrchr(name, '.');
    return strncmp(name, "step-", 5) == 0 && suffix && strcmp(suffix, ".tmp") == 0;
}

// ---- writing -------------------------------------------------------------------------------------------------------

static KinditStatus write_state(KinditContext *ctx, const char *folder, const Optimizer *optimizer) {
    const int64_t n_classes = optimizer->m.n_classes;
    Tensor tensors[] = {
        {.name = "step", .dtype = DTYPE_I64, .n_dims = 1, .shape = {1}, .data = &optimizer->step},
        {.name = "tailor_steps",
         .dtype = DTYPE_I64,
         .n_dims = 1,
         .shape = {n_classes},
         .data = optimizer->tailor_steps},
        {.name = "tailor_last", .dtype = DTYPE_I64, .n_dims = 1, .shape = {n_classes}, .data = optimizer->tailor_last},
    };
    char path[1024];
    TRY(file_path(path, ctx, "%s/state.safetensors", folder));
    return safetensors_write(ctx, path, tensors, 3, NULL, 0);
}

static KinditStatus write_params(KinditContext *ctx, const char *folder, const char *name, const ParamLayout *layout,
                                 const ParamSet *params) {
    char path[1024];
    TRY(file_path(path, ctx, "%s/%s.safetensors", folder, name));
    return model_params_write(ctx, path, layout, params, MODEL_PART_TRAINED, -1, STORAGE_F32, NULL, 0);
}

// The model's config with what it was trained by, and for how long.
static KinditStatus build_config(cJSON **out, KinditContext *ctx, const Model *model, const Optimizer *optimizer,
                                 const cJSON *record) {
    cJSON *config = cJSON_Duplicate(model->config, true);
    cJSON *training = cJSON_Duplicate(cJSON_GetObjectItemCaseSensitive(record, "settings"), true);
    cJSON_DeleteItemFromObjectCaseSensitive(config, "training");
    if (!training || !cJSON_AddNumberToObject(training, "step", (double)optimizer->step) ||
        !cJSON_AddItemToObject(config, "training", training)) {
        cJSON_Delete(training);
        cJSON_Delete(config);
        return context_fail(ctx, KINDIT_ERROR_MEMORY, "out of memory for the config of a checkpoint");
    }
    *out = config;
    return KINDIT_OK;
}

static KinditStatus write_ema_model(KinditContext *ctx, const char *folder, const Model *model,
                                    const Optimizer *optimizer, const cJSON *record) {
    Model average = *model; // a view: the same structure and names, other weights
    TRY(build_config(&average.config, ctx, model, optimizer, record));
    KinditStatus status = params_alloc(&average.params, model->engine, ctx, optimizer->layout, optimizer->m.n_classes);
    if (!status) {
        optimizer_read_ema(optimizer, &model->params, &average.params);
        status = model_write(&average, folder, STORAGE_F32, false);
    }
    params_close(&average.params);
    cJSON_Delete(average.config);
    return status;
}

static KinditStatus write_folder(KinditContext *ctx, const char *folder, const Model *model, const Optimizer *optimizer,
                                 const cJSON *record) {
    const ParamLayout *layout = optimizer->layout;
    char path[1024];
    TRY(file_path(path, ctx, "%s/run.json", folder));
    TRY(write_ema_model(ctx, folder, model, optimizer, record)); // first: it makes the folder
    TRY(write_params(ctx, folder, "weights", layout, &model->params));
    TRY(write_params(ctx, folder, "m", layout, &optimizer->m));
    TRY(write_params(ctx, folder, "v", layout, &optimizer->v));
    TRY(write_params(ctx, folder, "ema", layout, &optimizer->ema));
    TRY(write_state(ctx, folder, optimizer));
    return json_write(ctx, path, record);
}

KinditStatus checkpoint_write(KinditContext *ctx, const char *run, const Model *model, const Optimizer *optimizer,
                              const cJSON *record) {
    char path[1024], temporary[1024];
    TRY(model_run_path(path, ctx, run, optimizer->step));
    if (file_is_folder(path)) return KINDIT_OK;
    TRY(file_path(temporary, ctx, "%s/checkpoints", run));
    TRY(file_make_folder(ctx, temporary));
    TRY(file_path(temporary, ctx, "%s.tmp", path));
    TRY(file_remove_tree(ctx, temporary));
    KinditStatus status = write_folder(ctx, temporary, model, optimizer, record);
    if (!status) status = file_rename_folder(ctx, temporary, path);
    if (status) file_remove_tree(NULL, temporary); // the message to keep is the first one
    return status;
}

// ---- removing ------------------------------------------------------------------------------------------------------

static KinditStatus remove_leftover(KinditContext *ctx, const char *name, const char *path, void *unused) {
    (void)unused;
    return is_leftover(name) ? file_remove_tree(ctx, path) : KINDIT_OK;
}

// The newest steps, newest first.
typedef struct Newest {
    int64_t *steps;
    int n, capacity;
} Newest;

static KinditStatus insert_step(KinditContext *ctx, const char *name, const char *path, void *data) {
    (void)ctx, (void)path;
    Newest *newest = data;
    const int64_t step = model_run_step(name);
    if (step < 0) return KINDIT_OK;
    int at = newest->n < newest->capacity ? newest->n++ : newest->capacity;
    for (; at > 0 && newest->steps[at - 1] < step; at--)
        if (at < newest->capacity) newest->steps[at] = newest->steps[at - 1];
    if (at < newest->capacity) newest->steps[at] = step;
    return KINDIT_OK;
}

// Renamed first: a removal that is interrupted must not leave half a checkpoint under a good name.
static KinditStatus remove_older(KinditContext *ctx, const char *name, const char *path, void *oldest_kept) {
    const int64_t step = model_run_step(name);
    if (step < 0 || step >= *(int64_t *)oldest_kept) return KINDIT_OK;
    char temporary[1024];
    TRY(file_path(temporary, ctx, "%s.tmp", path));
    TRY(file_remove_tree(ctx, temporary));
    TRY(file_rename_folder(ctx, path, temporary));
    return file_remove_tree(ctx, temporary);
}

KinditStatus checkpoint_prune(KinditContext *ctx, const char *run, int keep) {
    TRY(model_run_visit(ctx, run, remove_leftover, NULL));
    if (keep == 0) return KINDIT_OK;
    Newest newest = {.capacity = keep};
    TRY(memory_alloc(ctx, (size_t)keep, sizeof *newest.steps, &newest.steps));
    KinditStatus status = model_run_visit(ctx, run, insert_step, &newest);
    if (!status && newest.n == keep) status = model_run_visit(ctx, run, remove_older, &newest.steps[keep - 1]);
    memory_free(&newest.steps);
    return status;
}

// ---- reading -------------------------------------------------------------------------------------------------------

static KinditStatus read_counts(const Safetensors *file, KinditContext *ctx, const char *name, int64_t n, int64_t most,
                                int64_t *out) {
    const Tensor *tensor;
    TRY(safetensors_require(file, ctx, name, 1, &n, &tensor));
    if (tensor->dtype != DTYPE_I64)
        return context_fail(ctx, KINDIT_ERROR_FORMAT, "%s: tensor '%s': expected I64, found %s", file->path, name,
                            dtype_name(tensor->dtype));
    if (n > 0) memcpy(out, tensor->data, tensor->n_bytes);
    for (int64_t i = 0; i < n; i++)
        if (out[i] < 0 || out[i] > most)
            return context_fail(ctx, KINDIT_ERROR_FORMAT,
                                "%s: %s[%" PRId64 "]: expected 0 to %" PRId64 ", found %" PRId64, file->path, name, i,
                                most, out[i]);
    return KINDIT_OK;
}

static KinditStatus read_state(KinditContext *ctx, const char *folder, int64_t step, Optimizer *optimizer) {
    const int64_t n_classes = optimizer->m.n_classes;
    char path[1024];
    TRY(file_path(path, ctx, "%s/state.safetensors", folder));
    Safetensors file;
    TRY(safetensors_open(&file, ctx, path));
    KinditStatus status = read_counts(&file, ctx, "step", 1, INT64_MAX, &optimizer->step);
    if (!status) status = read_counts(&file, ctx, "tailor_steps", n_classes, step, optimizer->tailor_steps);
    if (!status) status = read_counts(&file, ctx, "tailor_last", n_classes, step, optimizer->tailor_last);
    if (!status && optimizer->step != step)
        status = context_fail(ctx, KINDIT_ERROR_FORMAT, "%s: expected step %" PRId64 ", found %" PRId64, path, step,
                              optimizer->step);
    safetensors_close(&file);
    return status;
}

static KinditStatus read_params(KinditContext *ctx, const char *folder, const char *name, const ParamLayout *layout,
                                ParamSet *params, ModelPart part) {
    char path[1024];
    TRY(file_path(path, ctx, "%s/%s.safetensors", folder, name));
    return model_params_read(ctx, path, layout, params, part, -1);
}

KinditStatus checkpoint_read(KinditContext *ctx, const char *run, int64_t step, Model *model, Optimizer *optimizer) {
    const ParamLayout *layout = optimizer->layout;
    char folder[1024];
    TRY(model_run_path(folder, ctx, run, step));
    if (layout->n_frozen) TRY(read_params(ctx, folder, "model", layout, &model->params, MODEL_PART_WHOLE));
    TRY(read_params(ctx, folder, "weights", layout, &model->params, MODEL_PART_TRAINED));
    TRY(read_params(ctx, folder, "m", layout, &optimizer->m, MODEL_PART_TRAINED));
    TRY(read_params(ctx, folder, "v", layout, &optimizer->v, MODEL_PART_TRAINED));
    TRY(read_params(ctx, folder, "ema", layout, &optimizer->ema, MODEL_PART_TRAINED));
    return read_state(ctx, folder, step, optimizer);
}
