#include "model/model_source.h"

#include <string.h>

#include "base/json.h"
#include "model/model_params_file.h"
#include "model/model_run.h"
#include "model/storage_file.h"

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
    return check_storage(source, ctx, path);
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

static KinditStatus open_tailor(const ModelSource *source, KinditContext *ctx, const char *id, Safetensors *out) {
    char path[1024];
    TRY(file_path(path, ctx, "%s/tailors/%s.safetensors", source->folder, id));
    return safetensors_open(out, ctx, path);
}

static ParamsRows weights_rows(const ModelSource *source, const Dit *dit, const int *chosen, int n_chosen) {
    return (ParamsRows){.part = source->form == MODEL_WHOLE ? MODEL_PART_WHOLE : MODEL_PART_SHARED,
                        .n_classes = n_chosen,
                        .n_file_classes = source->dit_config.n_classes,
                        .classes = chosen,
                        .class_table = dit->config.factored ? -1 : dit->label};
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
        TRY(open_tailor(source, ctx, source->classes[chosen[i]].id, &file));
        rows = tailor_rows(i);
        KinditStatus status = model_params_check(&file, ctx, &dit->layout, &rows);
        safetensors_close(&file);
        TRY(status);
    }
    return KINDIT_OK;
}

// The file, byte for byte, is the one config.json was written for. `part` is its path in the folder.
static KinditStatus verify_hash(const ModelSource *source, KinditContext *ctx, const Safetensors *file,
                                const char *part, char sha256[65]) {
    char config_path[1024];
    const cJSON *hashes;
    const char *expected;
    file_sha256(file->map.data, file->map.size, sha256);
    if (!source->folder[0]) return KINDIT_OK; // a learngene alone: there is nothing to hold it to
    TRY(file_path(config_path, ctx, "%s/config.json", source->folder));
    TRY(json_get_object(source->config, ctx, config_path, "sha256", &hashes));
    TRY(json_get_string(hashes, ctx, config_path, part, &expected));
    if (strcmp(expected, sha256) != 0)
        return context_fail(ctx, KINDIT_ERROR_FORMAT,
                            "%.400s: damaged or exchanged: sha256 is %s, config.json says %.64s", file->path, sha256,
                            expected);
    return KINDIT_OK;
}

// The tailor says which class it is, and which learngene it was trained with: with another it makes noise, not
// pictures.
static KinditStatus verify_tailor(const Model *model, KinditContext *ctx, const ModelSource *source,
                                  const Safetensors *file, const char *id) {
    const char *class_id = safetensors_metadata(file, "class");
    const char *learngene = safetensors_metadata(file, "learngene_sha256");
    if (!class_id || strcmp(class_id, id) != 0)
        return context_fail(ctx, KINDIT_ERROR_FORMAT, "%s: expected the tailor of class \"%s\", found \"%.63s\"",
                            file->path, id, class_id ? class_id : "none");
    if (!learngene || strcmp(learngene, model->learngene_sha256) != 0)
        return context_fail(ctx, KINDIT_ERROR_FORMAT,
                            "%.300s: belongs to the learngene with sha256 %.64s, but %.300s has %s", file->path,
                            learngene ? learngene : "(none)", source->weights.path, model->learngene_sha256);
    char part[DIT_CLASS_NAME_SIZE + 32], sha256[65];
    snprintf(part, sizeof part, "tailors/%s.safetensors", id);
    return verify_hash(source, ctx, file, part, sha256);
}

static KinditStatus load_tailor(Model *model, KinditContext *ctx, const ModelSource *source, int class_index) {
    const char *id = model->classes[class_index].id;
    Safetensors file;
    TRY(open_tailor(source, ctx, id, &file));
    ParamsRows rows = tailor_rows(class_index);
    KinditStatus status = verify_tailor(model, ctx, source, &file, id);
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
    if (source->form == MODEL_DECOMPOSED)
        TRY(verify_hash(source, ctx, &source->weights, "learngene.safetensors", model->learngene_sha256));

    const ParamLayout *layout = &model->dit->layout;
    ParamsRows rows = weights_rows(source, model->dit, chosen, n_chosen);
    TRY(params_alloc(&model->params, model->engine, ctx, layout, n_chosen));
    TRY(model_params_load(&source->weights, ctx, layout, &rows, &model->params));
    for (int i = 0; i < n_chosen && source->form == MODEL_DECOMPOSED; i++) TRY(load_tailor(model, ctx, source, i));
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
