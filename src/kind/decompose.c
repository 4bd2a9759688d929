// Taking a model apart: the shared vector is the learngene file, each tailor vector a tailor file.
#include "kind/decompose.h"

#include <string.h>

#include "base/json.h"
#include "model/model_folder.h"

enum { MOST_METADATA = 5 };

typedef struct Parts {
    const Model *model;
    KinditContext *ctx;
    const char *folder; // being written
    StorageType type;
    cJSON *hashes; // {path in the folder: sha256}
} Parts;

// Writes one part, whose "kindit" config has n_classes classes, and notes its hash.
static KinditStatus write_part(Parts *parts, const char *file, ModelPart part, int class_index, int n_classes,
                               const char *(*metadata)[2], int n_metadata, char sha256[65]) {
    const Model *model = parts->model;
    KinditContext *ctx = parts->ctx;
    DitConfig config = model->dit->config;
    config.n_classes = n_classes;
    cJSON *document;
    char path[1024];
    TRY(file_path(path, ctx, "%s/%s", parts->folder, file));
    TRY(model_config_for_file(&document, ctx, model->config, &config, model->classes + class_index, parts->type));
    char *text = cJSON_PrintUnformatted(document);
    cJSON_Delete(document);
    if (!text) return context_fail(ctx, KINDIT_ERROR_MEMORY, "%s: out of memory for the config", file);
    metadata[n_metadata][0] = "kindit";
    metadata[n_metadata][1] = text;
    KinditStatus status = model_params_write(ctx, path, &model->dit->layout, &model->params, part, class_index,
                                             parts->type, (const char *const(*)[2])metadata, n_metadata + 1);
    cJSON_free(text);
    TRY(status);

    FileMap map;
    TRY(file_map(&map, ctx, path));
    file_sha256(map.data, map.size, sha256);
    file_unmap(&map);
    if (!cJSON_AddStringToObject(parts->hashes, file, sha256))
        return context_fail(ctx, KINDIT_ERROR_MEMORY, "%s: out of memory for its hash", file);
    return KINDIT_OK;
}

static KinditStatus write_tailor(Parts *parts, int class_index, const char *learngene_sha256) {
    const ModelClass *class = &parts->model->classes[class_index];
    const char *metadata[MOST_METADATA][2] = {
        {"part", "tailor"}, {"class", class->id}, {"name", class->name}, {"learngene_sha256", learngene_sha256}};
    char file[DIT_CLASS_NAME_SIZE + 32], sha256[65];
    snprintf(file, sizeof file, "tailors/%s.safetensors", class->id);
    return write_part(parts, file, MODEL_PART_TAILOR, class_index, 1, metadata, 4, sha256);
}

static KinditStatus write_config(Parts *parts) {
    const Model *model = parts->model;
    char path[1024];
    cJSON *document;
    TRY(file_path(path, parts->ctx, "%s/config.json", parts->folder));
    TRY(model_config_for_file(&document, parts->ctx, model->config, &model->dit->config, model->classes, parts->type));
    KinditStatus status = KINDIT_OK;
    if (!cJSON_AddItemReferenceToObject(document, "sha256", parts->hashes))
        status = context_fail(parts->ctx, KINDIT_ERROR_MEMORY, "%s: out of memory", path);
    if (!status) status = json_write(parts->ctx, path, document);
    cJSON_Delete(document);
    return status;
}

static KinditStatus write_parts(Parts *parts) {
    const char *metadata[MOST_METADATA][2] = {{"part", "learngene"}};
    char tailors[1024], learngene_sha256[65];
    TRY(file_path(tailors, parts->ctx, "%s/tailors", parts->folder));
    TRY(file_make_folder(parts->ctx, tailors));
    TRY(write_part(parts, "learngene.safetensors", MODEL_PART_SHARED, 0, 0, metadata, 1, learngene_sha256));
    for (int c = 0; c < parts->model->dit->config.n_classes; c++) {
        if (context_cancelled(parts->ctx))
            return context_fail(parts->ctx, KINDIT_CANCELLED, "cancelled: no parts were written");
        TRY(write_tailor(parts, c, learngene_sha256));
    }
    return write_config(parts);
}

KinditStatus decompose_write(const Model *model, KinditContext *ctx, const char *folder, StorageType type,
                             bool overwrite) {
    if (!model->dit->config.factored)
        return context_fail(ctx, KINDIT_ERROR_ARGUMENT,
                            "%s: a dense model has no learngene to take out; decompose one trained with --kind kind",
                            folder);
    FolderWriter writer;
    TRY(folder_begin(&writer, ctx, folder, overwrite));
    Parts parts = {.model = model, .ctx = ctx, .folder = writer.temporary, .type = type};
    parts.hashes = cJSON_CreateObject();
    KinditStatus status = KINDIT_OK;
    if (!parts.hashes) status = context_fail(ctx, KINDIT_ERROR_MEMORY, "%s: out of memory", folder);
    if (!status) status = write_parts(&parts);
    cJSON_Delete(parts.hashes);
    if (!status) return folder_commit(&writer, ctx);
    folder_abandon(&writer);
    return status;
}
