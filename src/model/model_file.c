#include "model/model_file.h"

#include <string.h>

#include "base/json.h"
#include "model/model_folder.h"
#include "model/model_source.h"
#include "model/tailor_store.h"

static KinditStatus open_as(Model **out, KinditContext *ctx, Engine *engine, const char *path, const char *classes,
                            bool classifier) {
    ModelSource source;
    int *chosen = NULL, n_chosen;
    *out = NULL;
    TRY(model_source_open(&source, ctx, path));
    KinditStatus status = model_source_require(&source, ctx, classifier);
    if (!status) status = model_source_choose(&source, ctx, classes, &chosen, &n_chosen);
    if (!status) status = model_source_load(out, ctx, engine, &source, chosen, n_chosen);
    memory_free(&chosen);
    model_source_close(&source);
    return status;
}

KinditStatus model_open(Model **out, KinditContext *ctx, Engine *engine, const char *path, const char *classes) {
    return open_as(out, ctx, engine, path, classes, false);
}

KinditStatus model_open_classifier(Model **out, KinditContext *ctx, Engine *engine, const char *path) {
    return open_as(out, ctx, engine, path, NULL, true);
}

static KinditStatus create(Model *model, const DitConfig *config, const ModelClass *classes, const cJSON *base,
                           unsigned frozen) {
    TRY(dit_create(&model->dit, model->ctx, config));
    if (frozen) params_freeze(&model->dit->layout, frozen);
    TRY(model_config_merge(&model->config, model->ctx, base, &model->dit->config, classes));
    TRY(memory_alloc(model->ctx, (size_t)config->n_classes, sizeof *classes, &model->classes));
    if (config->n_classes) memcpy(model->classes, classes, (size_t)config->n_classes * sizeof *classes);
    return params_alloc(&model->params, model->engine, model->ctx, &model->dit->layout, config->n_classes);
}

KinditStatus model_create_blank(Model **out, KinditContext *ctx, Engine *engine, const DitConfig *config,
                                const ModelClass *classes, const cJSON *base, unsigned frozen) {
    Model *model;
    *out = NULL;
    TRY(memory_alloc(ctx, 1, sizeof *model, &model));
    *model = (Model){.ctx = ctx, .engine = engine, .form = MODEL_WHOLE};
    KinditStatus status = create(model, config, classes, base, frozen);
    if (status)
        model_close(&model);
    else
        *out = model;
    return status;
}

KinditStatus model_create(Model **out, KinditContext *ctx, Engine *engine, const DitConfig *config,
                          const ModelClass *classes, uint64_t seed) {
    TRY(model_create_blank(out, ctx, engine, config, classes, NULL, 0));
    KinditStatus status = dit_init((*out)->dit, &(*out)->params, seed);
    if (status) model_close(out);
    return status;
}

void model_close(Model **model) {
    if (!model || !*model) return;
    for (int c = 0; c < (*model)->n_tailors; c++) tailor_store_drop((*model)->store, &(*model)->tailors[c]);
    memory_free(&(*model)->tailors);
    tailor_store_leave(&(*model)->store);
    params_close(&(*model)->params);
    dit_close(&(*model)->dit);
    memory_free(&(*model)->classes);
    cJSON_Delete((*model)->config);
    memory_free(model);
}

static KinditStatus write_weights(const Model *model, const char *path, const cJSON *config, StorageType type) {
    char *text = cJSON_PrintUnformatted(config);
    if (!text) return context_fail(model->ctx, KINDIT_ERROR_MEMORY, "%s: out of memory for the config", path);
    const char *metadata[][2] = {{"kindit", text}};
    KinditStatus status = model_params_write(model->ctx, path, &model->dit->layout, &model->params, MODEL_PART_WHOLE, 0,
                                             type, metadata, 1);
    cJSON_free(text);
    return status;
}

static KinditStatus write_file(const Model *model, const char *path, const cJSON *config, StorageType type,
                               bool overwrite) {
    if (file_exists(path) && !overwrite)
        return context_fail(model->ctx, KINDIT_ERROR_ARGUMENT, "%s: exists; choose another name, or remove it first",
                            path);
    return write_weights(model, path, config, type);
}

static KinditStatus write_folder(const Model *model, const char *path, const cJSON *config, StorageType type,
                                 bool overwrite) {
    KinditContext *ctx = model->ctx;
    FolderWriter folder;
    char file[1024];
    TRY(folder_begin(&folder, ctx, path, overwrite));
    KinditStatus status = file_path(file, ctx, "%s/model.safetensors", folder.temporary);
    if (!status) status = write_weights(model, file, config, type);
    if (!status) status = file_path(file, ctx, "%s/config.json", folder.temporary);
    if (!status) status = json_write(ctx, file, config);
    if (!status) return folder_commit(&folder, ctx);
    folder_abandon(&folder);
    return status;
}

KinditStatus model_write(const Model *model, const char *path, StorageType type, bool overwrite) {
    static const char suffix[] = ".safetensors";
    size_t length = strlen(path), n = strlen(suffix);
    bool is_file = length > n && strcmp(path + length - n, suffix) == 0;
    cJSON *config;
    TRY(model_config_for_file(&config, model->ctx, model->config, &model->dit->config, model->classes, type));
    KinditStatus status =
        is_file ? write_file(model, path, config, type, overwrite) : write_folder(model, path, config, type, overwrite);
    cJSON_Delete(config);
    return status;
}
