#include "model/model_source.h"

#include <string.h>

#include "base/json.h"
#include "model/model_params_file.h"
#include "model/model_run.h"
#include "model/storage_file.h"
#include "model/tailor_file.h"
#include "model/tailor_folder.h"

// ---- shapes --------------------------------------------------------------------------------------------------------

// out = the folder of a run's newest complete checkpoint.
static KinditStatus find_checkpoint(char out[1024], KinditContext *ctx, const char *run) {
    int64_t step;
    TRY(model_run_newest(ctx, run, &step));
    if (step >= 0) return model_run_path(out, ctx, run, step);
    return context_fail(ctx, KINDIT_ERROR_ARGUMENT, "%s: this run has no complete checkpoint yet", run);
}

// Decides the shape: fills form and folder, and `weights` with the path of the tensors.
static KinditStatus find_shape(ModelSource *source, KinditContext *ctx, const char *path, char weights[1024]) {
    if (!file_exists(path)) return context_fail(ctx, KINDIT_ERROR_IO, "%s: no such file or folder", path);
    if (!file_is_folder(path)) return file_path(weights, ctx, "%s", path);
    TRY(file_path(source->folder, ctx, "%s", path));
    source->form = MODEL_DECOMPOSED;
    TRY(file_path(weights, ctx, "%s/learngene.safetensors", path));
    if (file_exists(weights)) return KINDIT_OK;
    source->form = MODEL_WHOLE;
    TRY(file_path(weights, ctx, "%s/model.safetensors", path));
    if (file_exists(weights)) return KINDIT_OK;
    TRY(file_path(weights, ctx, "%s/checkpoints", path));
    if (!file_is_folder(weights))
        return context_fail(ctx, KINDIT_ERROR_ARGUMENT,
                            "%s: not a model: expected model.safetensors, learngene.safetensors or checkpoints/ in it",
                            path);
    TRY(find_checkpoint(source->folder, ctx, path));
    return file_path(weights, ctx, "%s/model.safetensors", source->folder);
}

// ---- config --------------------------------------------------------------------------------------------------------

// A single file has the config inside; it may also be a part of a decomposed model that was opened alone.
static KinditStatus read_own_config(ModelSource *source, KinditContext *ctx) {
    const char *path = source->weights.path, *part = safetensors_metadata(&source->weights, "part");
    const char *class_id = safetensors_metadata(&source->weights, "class");
    if (part && strcmp(part, "tailor") == 0)
        return context_fail(ctx, KINDIT_ERROR_ARGUMENT,
                            "%s: a tailor (of class \"%.63s\"); open the folder with its learngene", path,
                            class_id ? class_id : "");
    if (part && strcmp(part, "learngene") == 0) source->form = MODEL_DECOMPOSED;
    const char *text = safetensors_metadata(&source->weights, "kindit");
    if (!text)
        return context_fail(ctx, KINDIT_ERROR_FORMAT,
                            "%s: not a model of this program: no \"kindit\" in its __metadata__", path);
    return json_parse(&source->config, ctx, path, text, strlen(text));
}

// What the config says of the tensors holds. (Before there were storage types it said nothing.)
static KinditStatus check_storage(const ModelSource *source, KinditContext *ctx, const char *path) {
    const char *said, *found = storage_of_file(&source->weights);
    if (!cJSON_HasObjectItem(source->config, "storage")) return KINDIT_OK;
    TRY(json_get_string(source->config, ctx, path, "storage", &said));
    if (strcmp(said, found) == 0) return KINDIT_OK;
    return context_fail(ctx, KINDIT_ERROR_FORMAT, "%.450s: storage is \"%.80s\", but the tensors of %.450s are %s",
                        path, said, source->weights.path, found);
}

// The hash that config.json has for a part (its path in the folder); one that it lacks is a format error.
static KinditStatus find_hash(const ModelSource *source, KinditContext *ctx, const char *part, const char **out) {
    char config_path[1024];
    const cJSON *hashes;
    *out = NULL;
    TRY(file_path(config_path, ctx, "%s/config.json", source->folder));
    TRY(json_get_object(source->config, ctx, config_path, "sha256", &hashes));
    return json_get_string(hashes, ctx, config_path, part, out);
}

// The hash of the learngene that all tailors must name: what config.json says, or that of the file opened alone.
static KinditStatus read_learngene_hash(ModelSource *source, KinditContext *ctx) {
    const char *sha256;
    if (!source->folder[0]) {
        file_sha256(source->weights.map.data, source->weights.map.size, source->learngene_sha256);
        return KINDIT_OK;
    }
    TRY(find_hash(source, ctx, "learngene.safetensors", &sha256));
    snprintf(source->learngene_sha256, sizeof source->learngene_sha256, "%s", sha256);
    return KINDIT_OK;
}

static KinditStatus read_config(ModelSource *source, KinditContext *ctx) {
    char path[1024];
    TRY(file_path(path, ctx, "%s", source->weights.path));
    if (source->folder[0]) {
        TRY(file_path(path, ctx, "%s/config.json", source->folder));
        TRY(json_read(&source->config, ctx, path));
    } else {
        TRY(read_own_config(source, ctx));
    }
    TRY(model_config_parse(source->config, ctx, path, &source->dit_config, &source->classes));
    if (source->form == MODEL_DECOMPOSED && !source->dit_config.factored)
        return context_fail(ctx, KINDIT_ERROR_FORMAT, "%s: a decomposed model: expected kind \"kind\", found \"dense\"",
                            path);
    TRY(check_storage(source, ctx, path));
    source->n_listed = source->dit_config.n_classes;
    if (source->form == MODEL_DECOMPOSED) TRY(read_learngene_hash(source, ctx));
    if (source->form != MODEL_DECOMPOSED || !source->folder[0]) return KINDIT_OK;
    return tailor_folder_find(ctx, source->folder, &source->classes, &source->dit_config.n_classes);
}

KinditStatus model_source_open(ModelSource *out, KinditContext *ctx, const char *path) {
    *out = (ModelSource){.form = MODEL_WHOLE};
    char weights[1024];
    TRY(find_shape(out, ctx, path, weights));
    TRY(safetensors_open(&out->weights, ctx, weights));
    KinditStatus status = read_config(out, ctx);
    if (status) model_source_close(out);
    return status;
}

void model_source_close(ModelSource *source) {
    safetensors_close(&source->weights);
    cJSON_Delete(source->config);
    memory_free(&source->classes);
    *source = (ModelSource){0};
}

KinditStatus model_source_require(const ModelSource *source, KinditContext *ctx, bool classifier) {
    if (source->dit_config.classifier == classifier) return KINDIT_OK;
    return context_fail(ctx, KINDIT_ERROR_ARGUMENT,
                        classifier
                            ? "%s: expected a classifier of `kindit eval train-features`, found a model that draws"
                            : "%s: a classifier of `kindit eval train-features`: it measures images, and draws none",
                        source->folder[0] ? source->folder : source->weights.path);
}

// ---- classes -------------------------------------------------------------------------------------------------------

static bool has_tailor(const ModelSource *source, int c) {
    char path[1024];
    if (source->form == MODEL_WHOLE) return true;
    return source->folder[0] &&
           !file_path(path, NULL, "%s/tailors/%s.safetensors", source->folder, source->classes[c].id) &&
           file_exists(path);
}

static KinditStatus fail_absent(const ModelSource *source, KinditContext *ctx, const char *wanted, bool known) {
    char list[512] = "none";
    size_t length = 0;
    for (int c = 0; c < source->dit_config.n_classes; c++) {
        if (!has_tailor(source, c)) continue;
        bool fits = length + DIT_CLASS_NAME_SIZE + 8 < sizeof list;
        length += (size_t)snprintf(list + length, sizeof list - length, "%s%s", length ? ", " : "",
                                   fits ? source->classes[c].id : "...");
        if (!fits) break;
    }
    return context_fail(ctx, KINDIT_ERROR_ARGUMENT, "%.300s: %s \"%.80s\"; there are: %s",
                        source->folder[0] ? source->folder : source->weights.path,
                        known ? "no tailor file for class" : "no class", wanted, list);
}

// Adds the class named by list[0..length-1].
static KinditStatus choose_one(const ModelSource *source, KinditContext *ctx, const char *list, size_t length,
                               bool *taken, int *index) {
    char wanted[MODEL_CLASS_WANTED_SIZE];
    int c = *index = model_classes_find_part(source->classes, source->dit_config.n_classes, list, length, wanted);
    if (c < 0 || !has_tailor(source, c)) return fail_absent(source, ctx, wanted, c >= 0);
    if (taken[c])
        return context_fail(ctx, KINDIT_ERROR_ARGUMENT, "class \"%s\" is asked for twice", source->classes[c].id);
    taken[c] = true;
    return KINDIT_OK;
}

static KinditStatus choose_listed(const ModelSource *source, KinditContext *ctx, const char *list, int *chosen,
                                  int *n) {
    bool *taken;
    TRY(memory_alloc(ctx, (size_t)source->dit_config.n_classes, sizeof *taken, &taken));
    KinditStatus status = KINDIT_OK;
    for (bool more = list[0] != '\0'; more && !status;) {
        size_t length = strcspn(list, ",");
        int c = 0;
        status = choose_one(source, ctx, list, length, taken, &c);
        if (!status) chosen[(*n)++] = c; // at most every class once
        more = list[length] == ',';
        list += length + more;
    }
    memory_free(&taken);
    return status;
}

KinditStatus model_source_choose(const ModelSource *source, KinditContext *ctx, const char *classes, int **chosen,
                                 int *n_chosen) {
    *n_chosen = 0;
    TRY(memory_alloc(ctx, (size_t)source->dit_config.n_classes, sizeof **chosen, chosen));
    KinditStatus status = KINDIT_OK;
    if (classes)
        status = choose_listed(source, ctx, classes, *chosen, n_chosen);
    else
        for (int c = 0; c < source->dit_config.n_classes; c++)
            if (has_tailor(source, c)) (*chosen)[(*n_chosen)++] = c;
    if (status) memory_free(chosen);
    return status;
}

// ---- parts ---------------------------------------------------------------------------------------------------------

// The file in the place of class c is another's. Where nothing lists it, its name is all that says otherwise.
static KinditStatus fail_other_class(const ModelSource *source, KinditContext *ctx, const char *path, int c,
                                     const ModelClass *found) {
    const char *id = source->classes[c].id;
    for (int other = 0; other < source->dit_config.n_classes && c >= source->n_listed; other++)
        if (strcmp(source->classes[other].id, found->id) == 0)
            return context_fail(
                ctx, KINDIT_ERROR_FORMAT,
                "class \"%s\" twice: %.300s holds it, and so does %.300s/tailors/%s.safetensors: remove "
                "one of them",
                found->id, path, source->folder, found->id);
    return context_fail(ctx, KINDIT_ERROR_FORMAT, "%.400s: expected the tailor of class \"%s\", found \"%s\"%s", path,
                        id, found->id, c < source->n_listed ? "" : ": name the file as its class");
}

KinditStatus model_source_open_tailor(const ModelSource *source, KinditContext *ctx, int c, Safetensors *out) {
    const char *id = source->classes[c].id;
    char path[1024], config_path[1024];
    ModelClass found;
    TRY(file_path(config_path, ctx, "%s/config.json", source->folder));
    TRY(file_path(path, ctx, "%s/tailors/%s.safetensors", source->folder, id));
    TailorFit fit = {&source->dit_config, config_path, source->weights.path, source->learngene_sha256};
    TRY(tailor_file_open(out, ctx, path, &fit, &found));
    KinditStatus status = KINDIT_OK;
    if (strcmp(found.id, id) != 0) status = fail_other_class(source, ctx, path, c, &found);
    if (status) safetensors_close(out);
    return status;
}

static ParamsRows weights_rows(const ModelSource *source, const Dit *dit, const int *chosen, int n_chosen) {
    return (ParamsRows){.part = source->form == MODEL_WHOLE ? MODEL_PART_WHOLE : MODEL_PART_SHARED,
                        .n_classes = n_chosen,
                        .n_file_classes = source->dit_config.n_classes,
                        .classes = chosen,
                        .class_table = dit->config.factored || dit->config.classifier ? -1 : dit->label};
}

static ParamsRows tailor_rows(int class_index) {
    return (ParamsRows){.part = MODEL_PART_TAILOR, .class_index = class_index, .class_table = -1};
}

KinditStatus model_source_check(const ModelSource *source, KinditContext *ctx, const Dit *dit, const int *chosen,
                                int n_chosen) {
    ParamsRows rows = weights_rows(source, dit, chosen, n_chosen);
    TRY(model_params_check(&source->weights, ctx, &dit->layout, &rows));
    for (int i = 0; i < n_chosen && source->form == MODEL_DECOMPOSED; i++) {
        Safetensors file;
        TRY(model_source_open_tailor(source, ctx, chosen[i], &file));
        rows = tailor_rows(i);
        KinditStatus status = model_params_check(&file, ctx, &dit->layout, &rows);
        safetensors_close(&file);
        TRY(status);
    }
    return KINDIT_OK;
}

// The file, byte for byte, is the one config.json was written for.
static KinditStatus verify_hash(const ModelSource *source, KinditContext *ctx, const Safetensors *file,
                                const char *part, char sha256[65]) {
    const char *expected;
    TRY(find_hash(source, ctx, part, &expected));
    file_sha256(file->map.data, file->map.size, sha256);
    file_forget(&file->map);
    if (strcmp(expected, sha256) == 0) return KINDIT_OK;
    return context_fail(ctx, KINDIT_ERROR_FORMAT,
                        "%.400s: damaged or exchanged: sha256 is %s, %.300s/config.json says %.64s", file->path, sha256,
                        source->folder, expected);
}

KinditStatus model_source_verify(const ModelSource *source, KinditContext *ctx) {
    char sha256[65];
    if (source->form == MODEL_WHOLE || !source->folder[0]) return KINDIT_OK;
    return verify_hash(source, ctx, &source->weights, "learngene.safetensors", sha256);
}

// A tailor that config.json does not list has no hash to be held to: its own metadata says what it belongs to.
KinditStatus model_source_verify_tailor(const ModelSource *source, KinditContext *ctx, int c, const Safetensors *file,
                                        char sha256[65]) {
    char part[DIT_CLASS_NAME_SIZE + 32];
    snprintf(part, sizeof part, "tailors/%s.safetensors", source->classes[c].id);
    if (c < source->n_listed) return verify_hash(source, ctx, file, part, sha256);
    file_sha256(file->map.data, file->map.size, sha256);
    return KINDIT_OK;
}

KinditStatus model_source_load_weights(const ModelSource *source, KinditContext *ctx, const Dit *dit, const int *chosen,
                                       int n_chosen, ParamSet *params) {
    ParamsRows rows = weights_rows(source, dit, chosen, n_chosen);
    return model_params_load(&source->weights, ctx, &dit->layout, &rows, params);
}

// Class c of the source becomes class_index of the model.
static KinditStatus load_tailor(Model *model, KinditContext *ctx, const ModelSource *source, int c, int class_index) {
    Safetensors file;
    char sha256[65];
    TRY(model_source_open_tailor(source, ctx, c, &file));
    ParamsRows rows = tailor_rows(class_index);
    KinditStatus status = model_source_verify_tailor(source, ctx, c, &file, sha256);
    if (!status) status = model_params_load(&file, ctx, &model->dit->layout, &rows, &model->params);
    safetensors_close(&file);
    return status;
}

// ---- loading -------------------------------------------------------------------------------------------------------

// Everything is checked against the headers before room is made for the weights.
static KinditStatus load(Model *model, const ModelSource *source, const int *chosen, int n_chosen) {
    KinditContext *ctx = model->ctx;
    DitConfig config = source->dit_config;
    config.n_classes = n_chosen;
    TRY(memory_alloc(ctx, (size_t)n_chosen, sizeof *model->classes, &model->classes));
    for (int i = 0; i < n_chosen; i++) model->classes[i] = source->classes[chosen[i]];
    TRY(model_config_merge(&model->config, ctx, source->config, &config, model->classes));
    TRY(dit_create(&model->dit, ctx, &config));
    TRY(model_source_check(source, ctx, model->dit, chosen, n_chosen));
    TRY(model_source_verify(source, ctx));
    strcpy(model->learngene_sha256, source->learngene_sha256);

    const ParamLayout *layout = &model->dit->layout;
    TRY(params_alloc(&model->params, model->engine, ctx, layout, n_chosen));
    TRY(model_source_load_weights(source, ctx, model->dit, chosen, n_chosen, &model->params));
    for (int i = 0; i < n_chosen && source->form == MODEL_DECOMPOSED; i++)
        TRY(load_tailor(model, ctx, source, chosen[i], i));
    return KINDIT_OK;
}

KinditStatus model_source_load(Model **out, KinditContext *ctx, Engine *engine, const ModelSource *source,
                               const int *chosen, int n_chosen) {
    Model *model;
    *out = NULL;
    TRY(memory_alloc(ctx, 1, sizeof *model, &model));
    *model = (Model){.ctx = ctx, .engine = engine, .form = source->form};
    KinditStatus status = load(model, source, chosen, n_chosen);
    if (status)
        model_close(&model);
    else
        *out = model;
    return status;
}
