// diffusers' configs: of the transformer, of the scheduler, and the index of the pipeline, which names the classes.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "formats/weights.h"
#include "model/exchange_source.h"

// ---- the transformer -----------------------------------------------------------------------------------------------

// What a DiT's config must say; a key that is missing has the class's own default, which is that.
static KinditStatus require_text(const ExchangeSource *source, const cJSON *json, const char *where, const char *key,
                                 const char *expected, const char *or_else) {
    const char *found;
    if (!cJSON_HasObjectItem(json, key)) return KINDIT_OK;
    TRY(json_get_string(json, source->ctx, where, key, &found));
    if (strcmp(found, expected) == 0 || (or_else && strcmp(found, or_else) == 0)) return KINDIT_OK;
    return context_fail(source->ctx, KINDIT_ERROR_UNSUPPORTED, "%s: \"%s\": expected \"%s\", found \"%.80s\"", where,
                        key, expected, found);
}

static KinditStatus require_bool(const ExchangeSource *source, const cJSON *json, const char *where, const char *key,
                                 bool expected) {
    bool found;
    if (!cJSON_HasObjectItem(json, key)) return KINDIT_OK;
    TRY(json_get_bool(json, source->ctx, where, key, &found));
    if (found == expected) return KINDIT_OK;
    return context_fail(source->ctx, KINDIT_ERROR_UNSUPPORTED, "%s: \"%s\": expected %s", where, key,
                        expected ? "true" : "false");
}

static KinditStatus check_kind(const ExchangeSource *source, const cJSON *json, const char *where) {
    const char *class_name;
    TRY(json_get_string(json, source->ctx, where, "_class_name", &class_name));
    TRY(require_text(source, json, where, "_class_name", "DiTTransformer2DModel", "Transformer2DModel"));
    TRY(require_text(source, json, where, "norm_type", "ada_norm_zero", NULL));
    TRY(require_text(source, json, where, "activation_fn", "gelu-approximate", NULL));
    TRY(require_bool(source, json, where, "attention_bias", true));
    return require_bool(source, json, where, "norm_elementwise_affine", false);
}

static KinditStatus read_int(const ExchangeSource *source, const cJSON *json, const char *where, const char *key,
                             int *out) {
    int64_t value;
    TRY(json_get_int(json, source->ctx, where, key, 1, DIT_MAX_CLASSES, &value));
    *out = (int)value;
    return KINDIT_OK;
}

static KinditStatus read_sizes(ExchangeSource *source, const cJSON *json, const char *where) {
    DitConfig *config = &source->config;
    int head = 0, outputs = 0;
    TRY(read_int(source, json, where, "num_attention_heads", &config->heads));
    TRY(read_int(source, json, where, "attention_head_dim", &head));
    TRY(read_int(source, json, where, "in_channels", &config->channels));
    TRY(read_int(source, json, where, "num_layers", &config->depth));
    TRY(read_int(source, json, where, "sample_size", &config->image_size));
    TRY(read_int(source, json, where, "patch_size", &config->patch));
    TRY(read_int(source, json, where, "num_embeds_ada_norm", &source->n_file_classes));
    config->width = head <= 16384 / config->heads ? head * config->heads : 0; // 0 is refused later
    outputs = config->channels;
    if (cJSON_IsNumber(cJSON_GetObjectItemCaseSensitive(json, "out_channels")))
        TRY(read_int(source, json, where, "out_channels", &outputs));
    config->learn_sigma = outputs != config->channels;
    if (config->learn_sigma && outputs != 2 * config->channels)
        return context_fail(source->ctx, KINDIT_ERROR_UNSUPPORTED,
                            "%s: \"out_channels\": expected %d, or %d with learned variances, found %d", where,
                            config->channels, 2 * config->channels, outputs);
    config->time_shift = 1;
    config->mlp_norm_eps = 1e-5; // the class's default
    if (!cJSON_HasObjectItem(json, "norm_eps")) return KINDIT_OK;
    return json_get_double(json, source->ctx, where, "norm_eps", &config->mlp_norm_eps);
}

static KinditStatus read_transformer(ExchangeSource *source, const char *folder) {
    char path[1024];
    cJSON *json;
    TRY(file_path(path, source->ctx, "%s/config.json", folder));
    TRY(json_read(&json, source->ctx, path));
    KinditStatus status = check_kind(source, json, path);
    if (!status) status = read_sizes(source, json, path);
    cJSON_Delete(json);
    return status;
}

static KinditStatus open_weights(ExchangeSource *source, const char *folder) {
    static const char *const names[] = {"diffusion_pytorch_model.safetensors",
                                        "diffusion_pytorch_model.fp16.safetensors", "diffusion_pytorch_model.bin",
                                        "diffusion_pytorch_model.fp16.bin"};
    char path[1024];
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        TRY(file_path(path, source->ctx, "%s/%s", folder, names[i]));
        if (file_exists(path)) return weights_open(&source->file, source->ctx, path);
    }
    return context_fail(source->ctx, KINDIT_ERROR_FORMAT,
                        "%s: expected %s or .bin; if the weights are in several files, save them again with a larger "
                        "max_shard_size",
                        folder, names[0]);
}

// ---- classes -------------------------------------------------------------------------------------------------------

// "tench, Tinca tinca" -> "tench": what commands can list, in what a name has room for.
static void shorten(char out[DIT_CLASS_NAME_SIZE], const char *label) {
    size_t n = strcspn(label, ",");
    if (n >= DIT_CLASS_NAME_SIZE) n = DIT_CLASS_NAME_SIZE - 1;
    while (n > 0 && n == DIT_CLASS_NAME_SIZE - 1 && ((unsigned char)label[n] & 0xc0) == 0x80) n--; // whole characters
    memcpy(out, label, n);
    out[n] = '\0';
}

// The labels are of classes 0 .. n-1, where n may be less than the table has rows for.
static KinditStatus name_classes(ExchangeSource *source, const cJSON *labels, const char *where) {
    int n = cJSON_GetArraySize(labels);
    if (n > source->n_file_classes)
        return context_fail(source->ctx, KINDIT_ERROR_FORMAT, "%s: \"id2label\": %d labels for %d classes", where, n,
                            source->n_file_classes);
    TRY(exchange_number_classes(source, n));
    const cJSON *label;
    cJSON_ArrayForEach(label, labels) {
        char *end;
        long id = strtol(label->string, &end, 10);
        if (*end || end == label->string || id < 0 || id >= n || !cJSON_IsString(label))
            return context_fail(source->ctx, KINDIT_ERROR_FORMAT,
                                "%s: \"id2label\": expected the numbers 0 to %d as keys and names as values, found "
                                "\"%.40s\"",
                                where, n - 1, label->string);
        ModelClass *class = &source->classes[id];
        shorten(class->name, label->valuestring);
        TRY(model_class_check(source->ctx, where, class->id, class->name));
    }
    return KINDIT_OK;
}

static int compare_names(const void *a, const void *b) {
    return strcmp((*(const ModelClass *const *)a)->name, (*(const ModelClass *const *)b)->name);
}

// Names become ids where all of them can.
static KinditStatus adopt_ids(ExchangeSource *source) {
    int n = source->config.n_classes;
    const ModelClass **sorted;
    bool good = true;
    TRY(memory_alloc(source->ctx, (size_t)n, sizeof *sorted, &sorted));
    for (int c = 0; c < n; c++) {
        const ModelClass *class = sorted[c] = &source->classes[c];
        good = good && model_class_check(NULL, "", class->name, class->name) == KINDIT_OK;
    }
    if (n) qsort(sorted, (size_t)n, sizeof *sorted, compare_names);
    for (int c = 1; c < n && good; c++) good = strcmp(sorted[c - 1]->name, sorted[c]->name) != 0;
    memory_free(&sorted);
    for (int c = 0; c < n && good; c++) memcpy(source->classes[c].id, source->classes[c].name, DIT_CLASS_NAME_SIZE);
    return KINDIT_OK;
}

static KinditStatus read_index(ExchangeSource *source, const char *folder) {
    char path[1024];
    cJSON *json = NULL;
    TRY(file_path(path, source->ctx, "%s/model_index.json", folder));
    if (!file_exists(path)) return exchange_number_classes(source, source->n_file_classes);
    TRY(json_read(&json, source->ctx, path));
    const cJSON *labels = cJSON_GetObjectItemCaseSensitive(json, "id2label");
    KinditStatus status = cJSON_IsObject(labels) ? name_classes(source, labels, path)
                                                 : exchange_number_classes(source, source->n_file_classes);
    if (!status) status = adopt_ids(source);
    cJSON_Delete(json);
    return status;
}

// ---- the noise schedule --------------------------------------------------------------------------------------------

// Copies a number of the scheduler's config to the config's record of the training.
static KinditStatus copy_number(const ExchangeSource *source, const cJSON *json, const char *where, const char *key,
                                cJSON *training, const char *as) {
    double value;
    if (!cJSON_HasObjectItem(json, key)) return KINDIT_OK;
    TRY(json_get_double(json, source->ctx, where, key, &value));
    return cJSON_AddNumberToObject(training, as, value)
               ? KINDIT_OK
               : context_fail(source->ctx, KINDIT_ERROR_MEMORY, "%s: out of memory", where);
}

static KinditStatus read_schedule(ExchangeSource *source, const cJSON *json, const char *where) {
    source->document = cJSON_CreateObject();
    cJSON *training = cJSON_AddObjectToObject(source->document, "training");
    TRY(require_text(source, json, where, "beta_schedule", "linear", NULL));
    TRY(require_text(source, json, where, "prediction_type", "epsilon", NULL));
    TRY(copy_number(source, json, where, "num_train_timesteps", training, "diffusion_steps"));
    TRY(copy_number(source, json, where, "beta_start", training, "beta_first"));
    return copy_number(source, json, where, "beta_end", training, "beta_last");
}

static KinditStatus read_scheduler(ExchangeSource *source, const char *folder) {
    char path[1024];
    cJSON *json;
    TRY(file_path(path, source->ctx, "%s/scheduler/scheduler_config.json", folder));
    if (!file_exists(path)) return KINDIT_OK;
    TRY(json_read(&json, source->ctx, path));
    KinditStatus status = read_schedule(source, json, path);
    cJSON_Delete(json);
    return status;
}

// ---- the folder ----------------------------------------------------------------------------------------------------

// `folder` is a pipeline's or the transformer's own.
KinditStatus exchange_read_diffusers(ExchangeSource *source, const char *folder) {
    char transformer[1024];
    TRY(file_path(transformer, source->ctx, "%s/transformer", folder));
    if (!file_is_folder(transformer)) TRY(file_path(transformer, source->ctx, "%s", folder));
    TRY(read_transformer(source, transformer));
    TRY(read_index(source, folder));
    TRY(read_scheduler(source, folder));
    return open_weights(source, transformer);
}
