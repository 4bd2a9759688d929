#include "train/train_settings.h"

#include <string.h>

#include "base/file.h"

// ---- the fields, described once ------------------------------------------------------------------------------------

typedef enum FieldType { FIELD_INT, FIELD_INT64, FIELD_UINT64, FIELD_DOUBLE, FIELD_BOOL } FieldType;

typedef struct Field {
    const char *key;
    FieldType type;
    size_t offset;
    double low, high;
    bool may_change; // on resume
} Field;

#define MOST 9007199254740991.0 // 2^53 - 1: beyond it JSON skips integers

#define FIELD(key, type) #key, type, offsetof(TrainSettings, key)
static const Field fields[] = {
    {FIELD(batch, FIELD_INT), 1, 1 << 16, false},
    {FIELD(accumulate, FIELD_INT), 1, 1 << 16, false},
    {FIELD(steps, FIELD_INT64), 1, 1e12, true},
    {FIELD(max_seconds, FIELD_DOUBLE), 0, 1e12, true},
    {FIELD(lr, FIELD_DOUBLE), 0, 1e3, false},
    {FIELD(weight_decay, FIELD_DOUBLE), 0, 1e3, false},
    {FIELD(beta1, FIELD_DOUBLE), 0, 1, false},
    {FIELD(beta2, FIELD_DOUBLE), 0, 1, false},
    {FIELD(adam_eps, FIELD_DOUBLE), 1e-30, 1, false},
    {FIELD(ema_decay, FIELD_DOUBLE), 0, 1, false},
    {FIELD(warmup, FIELD_INT64), 0, 1e12, false},
    {FIELD(decay, FIELD_INT64), 0, 1e12, false},
    {FIELD(label_dropout, FIELD_DOUBLE), 0, 1, false},
    {FIELD(shift, FIELD_INT), 0, 64, false},
    {FIELD(mse_only, FIELD_BOOL), 0, 1, false},
    {FIELD(diffusion_steps, FIELD_INT), 1, 1 << 20, false},
    {FIELD(beta_first, FIELD_DOUBLE), 1e-8, 1, false},
    {FIELD(beta_last, FIELD_DOUBLE), 1e-8, 1, false},
    {FIELD(seed, FIELD_UINT64), 0, MOST, false},
    {FIELD(bf16, FIELD_BOOL), 0, 1, false},
    {FIELD(recompute, FIELD_BOOL), 0, 1, true},
    {FIELD(log_every, FIELD_INT64), 0, 1e12, true},
    {FIELD(checkpoint_every, FIELD_INT64), 0, 1e12, true},
    {FIELD(sample_every, FIELD_INT64), 0, 1e12, true},
    {FIELD(keep_checkpoints, FIELD_INT), 0, 1 << 20, true},
    {FIELD(sample_per_class, FIELD_INT), 1, 64, true},
};
#undef FIELD
enum { N_FIELDS = sizeof fields / sizeof *fields };

static double field_get(const TrainSettings *settings, const Field *field) {
    const void *at = (const char *)settings + field->offset;
    switch (field->type) {
    case FIELD_INT: return *(const int *)at;
    case FIELD_INT64: return (double)*(const int64_t *)at;
    case FIELD_UINT64: return (double)*(const uint64_t *)at;
    case FIELD_DOUBLE: return *(const double *)at;
    case FIELD_BOOL: return *(const bool *)at;
    }
    return 0;
}

// `value` is in the field's range.
static void field_set(TrainSettings *settings, const Field *field, double value) {
    void *at = (char *)settings + field->offset;
    switch (field->type) {
    case FIELD_INT: *(int *)at = (int)value; return;
    case FIELD_INT64: *(int64_t *)at = (int64_t)value; return;
    case FIELD_UINT64: *(uint64_t *)at = (uint64_t)value; return;
    case FIELD_DOUBLE: *(double *)at = value; return;
    case FIELD_BOOL: *(bool *)at = value != 0; return;
    }
}

static KinditStatus field_check(const Field *field, KinditContext *ctx, KinditStatus kind, const char *name,
                                double value) {
    if (value >= field->low && value <= field->high) return KINDIT_OK;
    return context_fail(ctx, kind, "%s: %s: expected %g to %g, found %g", name, field->key, field->low, field->high,
                        value);
}

// ---- settings ------------------------------------------------------------------------------------------------------

TrainSettings train_settings_default(void) {
    return (TrainSettings){.batch = 256,
                           .accumulate = 1,
                           .steps = 400000,
                           .lr = 1e-4,
                           .beta1 = 0.9,
                           .beta2 = 0.999,
                           .adam_eps = 1e-8,
                           .ema_decay = 0.9999,
                           .label_dropout = 0.1,
                           .diffusion_steps = 1000,
                           .beta_first = 1e-4,
                           .beta_last = 0.02,
                           .log_every = 100,
                           .checkpoint_every = 10000,
                           .sample_every = 10000,
                           .keep_checkpoints = 2,
                           .sample_per_class = 4};
}

KinditStatus train_settings_check(const TrainSettings *settings, KinditContext *ctx) {
    for (int i = 0; i < N_FIELDS; i++)
        TRY(field_check(&fields[i], ctx, KINDIT_ERROR_ARGUMENT, "training settings", field_get(settings, &fields[i])));
    if (settings->beta1 == 1 || settings->beta2 == 1)
        return context_fail(ctx, KINDIT_ERROR_ARGUMENT,
                            "training settings: beta1 and beta2: expected below 1, found %g, %g", settings->beta1,
                            settings->beta2);
    return KINDIT_OK;
}

// What an older record does not know is 0, false.
static bool may_lack(const Field *field) {
    return field->type == FIELD_BOOL || field->offset == offsetof(TrainSettings, shift);
}

static KinditStatus field_parse(const Field *field, const cJSON *json, KinditContext *ctx, const char *name,
                                TrainSettings *out) {
    double value;
    if (may_lack(field) && !cJSON_HasObjectItem(json, field->key)) return KINDIT_OK;
    if (field->type == FIELD_BOOL) {
        bool flag;
        TRY(json_get_bool(json, ctx, name, field->key, &flag));
        value = flag;
    } else if (field->type == FIELD_DOUBLE) {
        TRY(json_get_double(json, ctx, name, field->key, &value));
    } else {
        int64_t integer;
        TRY(json_get_int(json, ctx, name, field->key, (int64_t)field->low, (int64_t)field->high, &integer));
        value = (double)integer;
    }
    TRY(field_check(field, ctx, KINDIT_ERROR_FORMAT, name, value));
    field_set(out, field, value);
    return KINDIT_OK;
}

KinditStatus train_settings_parse(const cJSON *json, KinditContext *ctx, const char *name, TrainSettings *out) {
    *out = (TrainSettings){0};
    for (int i = 0; i < N_FIELDS; i++) TRY(field_parse(&fields[i], json, ctx, name, out));
    return train_settings_check(out, ctx);
}

static bool add_settings(cJSON *record, const TrainSettings *settings) {
    cJSON *json = cJSON_AddObjectToObject(record, "settings");
    for (int i = 0; i < N_FIELDS; i++) {
        const double value = field_get(settings, &fields[i]);
        const bool is_bool = fields[i].type == FIELD_BOOL;
        if (!(is_bool ? cJSON_AddBoolToObject(json, fields[i].key, value != 0)
                      : cJSON_AddNumberToObject(json, fields[i].key, value)))
            return false;
    }
    return true;
}

DitMode train_mode(const TrainSettings *settings) {
    return (DitMode){
        .training = true, .recompute = settings->recompute, .type = settings->bf16 ? ENGINE_BF16 : ENGINE_F32};
}

// ---- the record ----------------------------------------------------------------------------------------------------

static bool add_data(cJSON *record, const Dataset *dataset) {
    const cJSON *hash = cJSON_GetObjectItemCaseSensitive(dataset->json, "source_sha256");
    cJSON *json = cJSON_AddObjectToObject(record, "data");
    return cJSON_AddStringToObject(json, "path", dataset->path) &&
           cJSON_AddNumberToObject(json, "samples", (double)dataset->train.count) &&
           cJSON_AddStringToObject(json, "source_sha256", cJSON_IsString(hash) ? hash->valuestring : "");
}

KinditStatus train_record_build(cJSON **out, KinditContext *ctx, const DitConfig *config, const TrainSettings *settings,
                                const Dataset *dataset, const cJSON *adapt) {
    *out = NULL;
    cJSON *model = NULL;
    TRY(model_config_build(&model, ctx, config, dataset->classes));
    cJSON *record = cJSON_CreateObject();
    bool built = cJSON_AddNumberToObject(record, "format", 1) && json_add_copy(record, "model", model);
    cJSON_Delete(model);
    if (!built || !add_settings(record, settings) || !add_data(record, dataset) ||
        !json_add_copy(record, "adapt", adapt)) {
        cJSON_Delete(record);
        return context_fail(ctx, KINDIT_ERROR_MEMORY, "out of memory for the record of a run");
    }
    *out = record;
    return KINDIT_OK;
}

static bool may_change(const char *key) {
    for (int i = 0; i < N_FIELDS; i++)
        if (strcmp(fields[i].key, key) == 0) return fields[i].may_change;
    return strcmp(key, "path") == 0;
}

static KinditStatus fail_difference(KinditContext *ctx, const char *run, const char *section, const cJSON *old,
                                    const cJSON *asked) {
    char *has = cJSON_PrintUnformatted(old), *wanted = asked ? cJSON_PrintUnformatted(asked) : NULL;
    context_fail(ctx, KINDIT_ERROR_ARGUMENT,
                 "%s: cannot go on with another %s of %s: the run has %.200s, asked for %.200s", run, old->string,
                 section, has ? has : "?", wanted ? wanted : "none");
    cJSON_free(has);
    cJSON_free(wanted);
    return KINDIT_ERROR_ARGUMENT;
}

static KinditStatus compare_section(KinditContext *ctx, const char *run, const char *section, const cJSON *old,
                                    const cJSON *asked) {
    const cJSON *of_run = NULL, *of_asked = cJSON_GetObjectItemCaseSensitive(asked, section), *item;
    TRY(json_get_object(old, ctx, run, section, &of_run));
    cJSON_ArrayForEach(item, of_run) {
        const cJSON *other = cJSON_GetObjectItemCaseSensitive(of_asked, item->string);
        if (!may_change(item->string) && !cJSON_Compare(item, other, true))
            return fail_difference(ctx, run, section, item, other);
    }
    return KINDIT_OK;
}

static KinditStatus compare_adapt(KinditContext *ctx, const char *run, const cJSON *old, const cJSON *asked) {
    const bool was = cJSON_HasObjectItem(old, "adapt"), is = cJSON_HasObjectItem(asked, "adapt");
    if (was && is) return compare_section(ctx, run, "adapt", old, asked);
    if (was == is) return KINDIT_OK;
    return context_fail(ctx, KINDIT_ERROR_ARGUMENT, "%s: a run of `kindit %s`, which that command resumes", run,
                        was ? "adapt" : "pretrain");
}

KinditStatus train_record_compare(KinditContext *ctx, const char *run, const cJSON *old, const cJSON *asked) {
    TRY(compare_adapt(ctx, run, old, asked)); // first: another method is another model
    TRY(compare_section(ctx, run, "model", old, asked));
    TRY(compare_section(ctx, run, "settings", old, asked));
    return compare_section(ctx, run, "data", old, asked);
}

KinditStatus train_record_read(KinditContext *ctx, const char *run, TrainSettings *settings, DitConfig *config,
                               char data[1024], cJSON **adapt) {
    char path[1024];
    *adapt = NULL;
    TRY(file_path(path, ctx, "%s/run.json", run));
    cJSON *record = NULL;
    ModelClass *classes = NULL;
    const cJSON *section;
    const char *data_path = "";
    TRY(json_read(&record, ctx, path));
    KinditStatus status = json_get_object(record, ctx, path, "settings", &section);
    if (!status) status = train_settings_parse(section, ctx, path, settings);
    if (!status) status = json_get_object(record, ctx, path, "model", &section);
    if (!status) status = model_config_parse(section, ctx, path, config, &classes);
    if (!status) status = json_get_object(record, ctx, path, "data", &section);
    if (!status) status = json_get_string(section, ctx, path, "path", &data_path);
    if (!status) status = file_path(data, ctx, "%s", data_path);
    if (!status) *adapt = cJSON_DetachItemFromObjectCaseSensitive(record, "adapt");
    memory_free(&classes);
    cJSON_Delete(record);
    return status;
}
