#include "model/tailor_file.h"

#include <string.h>

#include "base/json.h"

bool tailor_file_id(const char *name, char id[DIT_CLASS_NAME_SIZE]) {
    static const char suffix[] = ".safetensors";
    size_t length = strlen(name), n = strlen(suffix);
    if (name[0] == '.' || length <= n || length - n >= DIT_CLASS_NAME_SIZE) return false;
    if (strcmp(name + length - n, suffix) != 0) return false;
    memcpy(id, name, length - n);
    id[length - n] = '\0';
    return true;
}

// Its config: the class it holds, and the structure of the model that it was taken from.
static KinditStatus read_class(const Safetensors *file, KinditContext *ctx, DitConfig *config, ModelClass *class) {
    const char *text = safetensors_metadata(file, "kindit"), *part = safetensors_metadata(file, "part");
    const char *id = safetensors_metadata(file, "class");
    cJSON *json;
    ModelClass *classes = NULL;
    if (!text || !id || !part || strcmp(part, "tailor") != 0)
        return context_fail(ctx, KINDIT_ERROR_FORMAT, "%s: not a tailor: its \"part\" is %s%.40s%s", file->path,
                            part ? "\"" : "", part ? part : "missing", part ? "\"" : "");
    TRY(json_parse(&json, ctx, file->path, text, strlen(text)));
    KinditStatus status = model_config_parse(json, ctx, file->path, config, &classes);
    if (!status && (config->n_classes != 1 || strcmp(classes[0].id, id) != 0))
        status = context_fail(ctx, KINDIT_ERROR_FORMAT,
                              "%s: says it is of class \"%.63s\", but its config has %d classes, the first \"%s\"",
                              file->path, id, config->n_classes, config->n_classes ? classes[0].id : "");
    if (!status) *class = classes[0];
    memory_free(&classes);
    cJSON_Delete(json);
    return status;
}

static KinditStatus check_fit(const Safetensors *file, KinditContext *ctx, const DitConfig *config,
                              const TailorFit *fit) {
    int here, there;
    const char *field = model_config_difference(config, fit->config, &here, &there);
    if (field)
        return context_fail(ctx, KINDIT_ERROR_FORMAT, "%.400s: made for a model with %s %d, but %.400s has %d",
                            file->path, field, here, fit->config_path, there);
    // With another learngene it would draw noise, not pictures.
    const char *learngene = safetensors_metadata(file, "learngene_sha256");
    if (!learngene || strcmp(learngene, fit->learngene_sha256) != 0)
        return context_fail(ctx, KINDIT_ERROR_FORMAT,
                            "%.300s: belongs to the learngene with sha256 %.64s, but %.300s has %s", file->path,
                            learngene ? learngene : "(none)", fit->learngene_path, fit->learngene_sha256);
    return KINDIT_OK;
}

KinditStatus tailor_file_check(const Safetensors *file, KinditContext *ctx, const TailorFit *fit, ModelClass *class) {
    DitConfig config;
    TRY(read_class(file, ctx, &config, class));
    return check_fit(file, ctx, &config, fit);
}

KinditStatus tailor_file_open(Safetensors *out, KinditContext *ctx, const char *path, const TailorFit *fit,
                              ModelClass *class) {
    TRY(safetensors_open(out, ctx, path));
    KinditStatus status = tailor_file_check(out, ctx, fit, class);
    if (status) safetensors_close(out);
    return status;
}
