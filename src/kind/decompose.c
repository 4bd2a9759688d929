// Taking a model apart: the shared vector is the learngene file, each tailor vector a tailor file.
#include "kind/decompose.h"

#include <string.h>
#include <unistd.h>

#include "base/json.h"
#include "model/model_folder.h"
#include "model/model_source.h"
#include "model/storage_file.h"

enum { MOST_METADATA = 5 };

typedef struct Parts {
    const Model *model;
    KinditContext *ctx;
    const char *folder; // being written
    StorageType type;
    cJSON *hashes; // {path in the folder: sha256}
} Parts;

// What the config of a part says beside the structure. An adapted model has the config of the learngene that it kept.
static KinditStatus build_part_config(cJSON **out, Parts *parts, ModelPart part, const DitConfig *config,
                                      const ModelClass *classes) {
    const cJSON *base = parts->model->config, *adapt = cJSON_GetObjectItemCaseSensitive(base, "adapt");
    const cJSON *learngene = cJSON_GetObjectItemCaseSensitive(adapt, "learngene");
    if (part == MODEL_PART_SHARED && learngene) base = learngene;
    TRY(model_config_for_file(out, parts->ctx, base, config, classes, parts->type));
    cJSON_DeleteItemFromObjectCaseSensitive(*out, "adapt");
    return KINDIT_OK;
}

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
    TRY(build_part_config(&document, parts, part, &config, model->classes + class_index));
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

// ---- into a folder -------------------------------------------------------------------------------------------------

static KinditStatus check_structure(const Model *model, KinditContext *ctx, const ModelSource *source,
                                    const char *folder) {
    int here, there;
    if (source->form != MODEL_DECOMPOSED || !source->folder[0])
        return context_fail(ctx, KINDIT_ERROR_ARGUMENT, "%s: not a decomposed model's folder", folder);
    const char *field = model_config_difference(&model->dit->config, &source->dit_config, &here, &there);
    if (field)
        return context_fail(ctx, KINDIT_ERROR_ARGUMENT, "%s: made for models with %s %d, but the tailors are for %d",
                            folder, field, there, here);
    for (int c = 0; c < model->dit->config.n_classes; c++)
        for (int other = 0; other < source->dit_config.n_classes; other++)
            if (strcmp(model->classes[c].id, source->classes[other].id) == 0)
                return context_fail(ctx, KINDIT_ERROR_ARGUMENT, "%s: has a class \"%s\" already", folder,
                                    model->classes[c].id);
    return KINDIT_OK;
}

// The shared rows of tensor i, n floats each, are the same to the bit.
static KinditStatus compare_tensor(const Model *a, const Model *b, KinditContext *ctx, int i, bool *same) {
    const ParamSpec *x = &a->dit->layout.specs[i], *y = &b->dit->layout.specs[i];
    const size_t n = params_spec_size(x, 0);
    float *host;
    TRY(memory_alloc(ctx, 2 * n, sizeof *host, &host));
    engine_download(a->engine, host, a->params.shared + x->shared_offset, n);
    engine_download(b->engine, host + n, b->params.shared + y->shared_offset, n);
    *same = memcmp(host, host + n, n * sizeof *host) == 0;
    memory_free(&host);
    return KINDIT_OK;
}

static KinditStatus check_learngene(const Model *model, KinditContext *ctx, const char *folder) {
    Model *base;
    TRY(model_open(&base, ctx, model->engine, folder, ""));
    KinditStatus status = KINDIT_OK;
    for (int i = 0; i < base->dit->layout.n_specs && !status; i++) {
        bool same = true;
        status = compare_tensor(model, base, ctx, i, &same);
        if (!status && !same)
            status = context_fail(ctx, KINDIT_ERROR_ARGUMENT,
                                  "%s: another learngene: its \"%s\" differs from that of the tailors, which fit only "
                                  "the model that they were adapted from",
                                  folder, base->dit->layout.specs[i].name);
    }
    model_close(&base);
    return status;
}

// config.json with the classes and hashes of both.
static KinditStatus write_joint_config(const Parts *parts, const ModelSource *source) {
    const Model *model = parts->model;
    DitConfig config = source->dit_config;
    ModelClass *classes;
    cJSON *document = NULL;
    char path[1024];
    const size_t n = (size_t)source->n_listed, more = (size_t)model->dit->config.n_classes;
    TRY(file_path(path, parts->ctx, "%s/config.json", parts->folder));
    TRY(memory_alloc(parts->ctx, n + more, sizeof *classes, &classes));
    if (n) memcpy(classes, source->classes, n * sizeof *classes);
    if (more) memcpy(classes + n, model->classes, more * sizeof *classes);
    config.n_classes = (int)(n + more);
    KinditStatus status = model_config_for_file(&document, parts->ctx, source->config, &config, classes, parts->type);
    if (!status && !json_add_copy(document, "sha256", parts->hashes))
        status = context_fail(parts->ctx, KINDIT_ERROR_MEMORY, "%s: out of memory", path);
    if (!status) status = json_write(parts->ctx, path, document);
    cJSON_Delete(document);
    memory_free(&classes);
    return status;
}

// Tailors first: one that config.json does not list yet does no harm.
static KinditStatus write_beside(Parts *parts, const ModelSource *source) {
    char path[1024];
    KinditStatus status = KINDIT_OK;
    int written = 0;
    TRY(file_path(path, parts->ctx, "%s/tailors", parts->folder));
    TRY(file_make_folder(parts->ctx, path));
    while (written < parts->model->dit->config.n_classes && !status)
        status = write_tailor(parts, written++, source->learngene_sha256);
    if (!status) status = write_joint_config(parts, source);
    for (int c = 0; c < written && status; c++)
        if (!file_path(path, NULL, "%s/tailors/%s.safetensors", parts->folder, parts->model->classes[c].id))
            unlink(path);
    return status;
}

static KinditStatus join(const Model *model, KinditContext *ctx, const ModelSource *source, const char *folder) {
    TRY(check_structure(model, ctx, source, folder));
    TRY(check_learngene(model, ctx, folder));
    Parts parts = {.model = model, .ctx = ctx, .folder = folder};
    for (int i = 0; i < STORAGE_TYPES; i++)
        if (strcmp(storage_name((StorageType)i), storage_of_file(&source->weights)) == 0) parts.type = (StorageType)i;
    parts.hashes = cJSON_Duplicate(cJSON_GetObjectItemCaseSensitive(source->config, "sha256"), true);
    KinditStatus status = parts.hashes
                              ? write_beside(&parts, source)
                              : context_fail(ctx, KINDIT_ERROR_FORMAT, "%s/config.json: \"sha256\" is missing", folder);
    cJSON_Delete(parts.hashes);
    return status;
}

KinditStatus decompose_into(const Model *model, KinditContext *ctx, const char *folder) {
    ModelSource source;
    TRY(model_source_open(&source, ctx, folder));
    KinditStatus status = join(model, ctx, &source, folder);
    model_source_close(&source);
    return status;
}
