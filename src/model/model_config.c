// The config document: one table of its fields serves reading and writing.
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "model/model_file.h"

// What readers of an earlier format would not know: 2, weights in few bits, or a DiT that computes as another
// program's; 3, adapters and classifiers.
enum { FORMAT_PLAIN = 1, FORMAT_NUMERICS = 2, FORMAT_PARTS = 3, NEWEST_FORMAT = FORMAT_PARTS };
static const char time_shift_key[] = "time_shift", mlp_norm_eps_key[] = "mlp_norm_eps", adapter_key[] = "adapter";
static const char head_key[] = "head", head_type[] = "classes", head_pool[] = "mean";

typedef struct ConfigField {
    const char *key;
    size_t offset;
} ConfigField;

static const ConfigField int_fields[] = {
    {"image_size", offsetof(DitConfig, image_size)}, {"channels", offsetof(DitConfig, channels)},
    {"patch", offsetof(DitConfig, patch)},           {"width", offsetof(DitConfig, width)},
    {"depth", offsetof(DitConfig, depth)},           {"heads", offsetof(DitConfig, heads)},
    {"mlp_ratio", offsetof(DitConfig, mlp_ratio)},   {"n_learngene", offsetof(DitConfig, n_learngene)},
    {"n_tailor", offsetof(DitConfig, n_tailor)},
};
static const ConfigField bool_fields[] = {
    {"learn_sigma", offsetof(DitConfig, learn_sigma)},
    {"fused_qkv", offsetof(DitConfig, fused_qkv)},
    {"factor_adaln", offsetof(DitConfig, factor_adaln)},
};
enum {
    N_INT_FIELDS = sizeof int_fields / sizeof *int_fields,
    N_BOOL_FIELDS = sizeof bool_fields / sizeof *bool_fields
};

// ---- classes -------------------------------------------------------------------------------------------------------

// Ids become file names, names are printed: neither may hold what a file system or a terminal would act on.
static bool id_is_valid(const char *id) {
    size_t length = strspn(id, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.");
    return length > 0 && length < DIT_CLASS_NAME_SIZE && id[length] == '\0' && id[0] != '.';
}

static bool name_is_valid(const char *name) {
    size_t length = strlen(name);
    for (size_t i = 0; i < length; i++)
        if ((unsigned char)name[i] < 0x20 || name[i] == 0x7f) return false;
    return length > 0 && length < DIT_CLASS_NAME_SIZE;
}

KinditStatus model_class_check(KinditContext *ctx, const char *where, const char *id, const char *name) {
    if (!id_is_valid(id))
        return context_fail(ctx, KINDIT_ERROR_FORMAT,
                            "%s: class id \"%.80s\": expected 1 to %d letters, digits, '-', '_' or '.', no '.' first",
                            where, id, DIT_CLASS_NAME_SIZE - 1);
    if (!name_is_valid(name))
        return context_fail(ctx, KINDIT_ERROR_FORMAT,
                            "%s: class \"%s\": expected a name of 1 to %d bytes without control characters", where, id,
                            DIT_CLASS_NAME_SIZE - 1);
    return KINDIT_OK;
}

static int compare_ids(const void *a, const void *b) {
    return strcmp((*(const ModelClass *const *)a)->id, (*(const ModelClass *const *)b)->id);
}

static KinditStatus check_unique(KinditContext *ctx, const char *where, const ModelClass *classes, int n) {
    const ModelClass **sorted;
    TRY(memory_alloc(ctx, (size_t)n, sizeof *sorted, &sorted));
    for (int c = 0; c < n; c++) sorted[c] = &classes[c];
    qsort(sorted, (size_t)n, sizeof *sorted, compare_ids);
    KinditStatus status = KINDIT_OK;
    for (int c = 1; c < n && !status; c++)
        if (strcmp(sorted[c - 1]->id, sorted[c]->id) == 0)
            status = context_fail(ctx, KINDIT_ERROR_FORMAT, "%s: class \"%s\" is listed twice", where, sorted[c]->id);
    memory_free(&sorted);
    return status;
}

int model_classes_find(const ModelClass *classes, int n_classes, const char *id_or_name) {
    for (int c = 0; c < n_classes; c++)
        if (strcmp(classes[c].id, id_or_name) == 0) return c;
    for (int c = 0; c < n_classes; c++)
        if (strcmp(classes[c].name, id_or_name) == 0) return c;
    return -1;
}

int model_classes_find_part(const ModelClass *classes, int n_classes, const char *list, size_t length,
                            char wanted[MODEL_CLASS_WANTED_SIZE]) {
    for (; length > 0 && list[0] == ' '; length--) list++;
    while (length > 0 && list[length - 1] == ' ') length--;
    if (length >= MODEL_CLASS_WANTED_SIZE) length = MODEL_CLASS_WANTED_SIZE - 1; // longer than any name: found nowhere
    memcpy(wanted, list, length);
    wanted[length] = '\0';
    return model_classes_find(classes, n_classes, wanted);
}

static KinditStatus parse_classes(const cJSON *array, KinditContext *ctx, const char *where, ModelClass *out, int n) {
    const cJSON *item = array->child;
    for (int c = 0; c < n; c++, item = item->next) {
        const char *id, *name;
        TRY(json_get_string(item, ctx, where, "id", &id));
        TRY(json_get_string(item, ctx, where, "name", &name));
        TRY(model_class_check(ctx, where, id, name));
        strcpy(out[c].id, id); // model_class_check bounds both
        strcpy(out[c].name, name);
    }
    return check_unique(ctx, where, out, n);
}

// ---- the document --------------------------------------------------------------------------------------------------

static KinditStatus parse_numerics(const cJSON *json, KinditContext *ctx, const char *where, DitConfig *config) {
    int64_t value = 0;
    config->mlp_norm_eps = DIT_NORM_EPS;
    if (cJSON_HasObjectItem(json, mlp_norm_eps_key))
        TRY(json_get_double(json, ctx, where, mlp_norm_eps_key, &config->mlp_norm_eps));
    if (cJSON_HasObjectItem(json, time_shift_key)) TRY(json_get_int(json, ctx, where, time_shift_key, 0, 1, &value));
    config->time_shift = (int)value;
    return KINDIT_OK;
}

// {"type": "classes", "pool": "mean"}: a classifier; without a head a model draws.
static KinditStatus parse_head(const cJSON *json, KinditContext *ctx, const char *where, DitConfig *config) {
    const cJSON *head;
    const char *type, *pool;
    config->classifier = cJSON_HasObjectItem(json, head_key);
    if (!config->classifier) return KINDIT_OK;
    TRY(json_get_object(json, ctx, where, head_key, &head));
    TRY(json_get_string(head, ctx, where, "type", &type));
    TRY(json_get_string(head, ctx, where, "pool", &pool));
    if (strcmp(type, head_type) == 0 && strcmp(pool, head_pool) == 0) return KINDIT_OK;
    return context_fail(ctx, KINDIT_ERROR_FORMAT,
                        "%s: head: expected type \"%s\" with pool \"%s\", found \"%.80s\" with \"%.80s\"", where,
                        head_type, head_pool, type, pool);
}

static KinditStatus parse_fields(const cJSON *json, KinditContext *ctx, const char *where, DitConfig *config) {
    int64_t format, value;
    TRY(json_get_int(json, ctx, where, "format", 1, INT_MAX, &format));
    if (format > NEWEST_FORMAT)
        return context_fail(ctx, KINDIT_ERROR_UNSUPPORTED,
                            "%s: format %lld is newer than this program reads (%d): update it", where,
                            (long long)format, NEWEST_FORMAT);
    const char *kind;
    TRY(json_get_string(json, ctx, where, "kind", &kind));
    config->factored = strcmp(kind, "kind") == 0;
    if (!config->factored && strcmp(kind, "dense") != 0)
        return context_fail(ctx, KINDIT_ERROR_FORMAT, "%s: \"kind\": expected \"kind\" or \"dense\", found \"%.80s\"",
                            where, kind);
    for (int i = 0; i < N_INT_FIELDS; i++) {
        TRY(json_get_int(json, ctx, where, int_fields[i].key, 0, INT_MAX, &value));
        *(int *)((char *)config + int_fields[i].offset) = (int)value;
    }
    for (int i = 0; i < N_BOOL_FIELDS; i++)
        TRY(json_get_bool(json, ctx, where, bool_fields[i].key, (bool *)((char *)config + bool_fields[i].offset)));
    const cJSON *adapter = cJSON_GetObjectItemCaseSensitive(json, adapter_key);
    if (adapter) TRY(adapter_parse(adapter, ctx, where, &config->adapter));
    TRY(parse_head(json, ctx, where, config));
    return parse_numerics(json, ctx, where, config);
}

const char *model_config_difference(const DitConfig *a, const DitConfig *b, int *of_a, int *of_b) {
    *of_a = a->factored, *of_b = b->factored;
    if (*of_a != *of_b) return "factored";
    for (int i = 0; i < N_INT_FIELDS; i++) {
        *of_a = *(const int *)((const char *)a + int_fields[i].offset);
        *of_b = *(const int *)((const char *)b + int_fields[i].offset);
        if (*of_a != *of_b) return int_fields[i].key;
    }
    for (int i = 0; i < N_BOOL_FIELDS; i++) {
        *of_a = *(const bool *)((const char *)a + bool_fields[i].offset);
        *of_b = *(const bool *)((const char *)b + bool_fields[i].offset);
        if (*of_a != *of_b) return bool_fields[i].key;
    }
    *of_a = a->classifier, *of_b = b->classifier;
    if (*of_a != *of_b) return head_key;
    *of_a = (int)a->adapter.kind, *of_b = (int)b->adapter.kind;
    if (*of_a != *of_b) return adapter_key;
    *of_a = a->time_shift, *of_b = b->time_shift;
    return *of_a != *of_b ? time_shift_key : NULL;
}

KinditStatus model_config_parse(const cJSON *json, KinditContext *ctx, const char *name, DitConfig *config,
                                ModelClass **classes) {
    *classes = NULL;
    *config = (DitConfig){0};
    if (!cJSON_IsObject(json)) return context_fail(ctx, KINDIT_ERROR_FORMAT, "%s: expected a JSON object", name);
    TRY(parse_fields(json, ctx, name, config));
    const cJSON *array;
    TRY(json_get_array(json, ctx, name, "classes", &array));
    config->n_classes = cJSON_GetArraySize(array);
    KinditStatus status = dit_config_check(config, ctx);
    if (status) return context_prefix(ctx, KINDIT_ERROR_FORMAT, name); // the file is wrong, not the caller
    TRY(memory_alloc(ctx, (size_t)config->n_classes, sizeof **classes, classes));
    status = parse_classes(array, ctx, name, *classes, config->n_classes);
    if (status) memory_free(classes);
    return status;
}

static bool build_classes(cJSON *document, const ModelClass *classes, int n) {
    cJSON *array = cJSON_AddArrayToObject(document, "classes");
    if (!array) return false;
    for (int c = 0; c < n; c++) {
        cJSON *item = cJSON_CreateObject();
        if (!cJSON_AddItemToArray(array, item)) return false;
        if (!cJSON_AddStringToObject(item, "id", classes[c].id)) return false;
        if (!cJSON_AddStringToObject(item, "name", classes[c].name)) return false;
    }
    return true;
}

static bool build_numerics(cJSON *document, const DitConfig *config) {
    if (config->time_shift && !cJSON_AddNumberToObject(document, time_shift_key, config->time_shift)) return false;
    return config->mlp_norm_eps == DIT_NORM_EPS ||
           cJSON_AddNumberToObject(document, mlp_norm_eps_key, config->mlp_norm_eps);
}

static bool build_head(cJSON *document, const DitConfig *config) {
    if (!config->classifier) return true;
    cJSON *head = cJSON_AddObjectToObject(document, head_key);
    return cJSON_AddStringToObject(head, "type", head_type) && cJSON_AddStringToObject(head, "pool", head_pool);
}

static int format_of(const DitConfig *config) {
    if (config->classifier || config->adapter.kind != ADAPTER_NONE) return FORMAT_PARTS;
    return config->time_shift == 0 && config->mlp_norm_eps == DIT_NORM_EPS ? FORMAT_PLAIN : FORMAT_NUMERICS;
}

static bool build_adapter(cJSON *document, const DitConfig *config) {
    if (config->adapter.kind == ADAPTER_NONE) return true;
    cJSON *adapter = adapter_build(&config->adapter);
    if (cJSON_AddItemToObject(document, adapter_key, adapter)) return true;
    cJSON_Delete(adapter);
    return false;
}

static bool build_fields(cJSON *document, const DitConfig *config) {
    if (!cJSON_AddNumberToObject(document, "format", format_of(config))) return false;
    if (!cJSON_AddStringToObject(document, "kind", config->factored ? "kind" : "dense")) return false;
    for (int i = 0; i < N_INT_FIELDS; i++) {
        int value = *(const int *)((const char *)config + int_fields[i].offset);
        if (!cJSON_AddNumberToObject(document, int_fields[i].key, value)) return false;
    }
    for (int i = 0; i < N_BOOL_FIELDS; i++) {
        bool value = *(const bool *)((const char *)config + bool_fields[i].offset);
        if (!cJSON_AddBoolToObject(document, bool_fields[i].key, value)) return false;
    }
    return build_head(document, config) && build_adapter(document, config) && build_numerics(document, config);
}

KinditStatus model_config_build(cJSON **out, KinditContext *ctx, const DitConfig *config, const ModelClass *classes) {
    *out = NULL;
    TRY(dit_config_check(config, ctx));
    for (int c = 0; c < config->n_classes; c++) TRY(model_class_check(ctx, "config", classes[c].id, classes[c].name));
    TRY(check_unique(ctx, "config", classes, config->n_classes));
    cJSON *document = cJSON_CreateObject();
    if (!build_fields(document, config) || !build_classes(document, classes, config->n_classes)) {
        cJSON_Delete(document);
        return context_fail(ctx, KINDIT_ERROR_MEMORY, "out of memory for a config of %d classes", config->n_classes);
    }
    *out = document;
    return KINDIT_OK;
}

// Of the file, or of the structure, which has such a key only where it is not as usual.
static bool is_anew(const char *key) {
    static const char *const keys[] = {"sha256", "storage", time_shift_key, mlp_norm_eps_key, adapter_key};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (strcmp(key, keys[i]) == 0) return true;
    return false;
}

KinditStatus model_config_merge(cJSON **out, KinditContext *ctx, const cJSON *base, const DitConfig *config,
                                const ModelClass *classes) {
    TRY(model_config_build(out, ctx, config, classes));
    const cJSON *item;
    cJSON_ArrayForEach(item, base) {
        if (cJSON_GetObjectItemCaseSensitive(*out, item->string) || is_anew(item->string)) continue;
        cJSON *copy = cJSON_Duplicate(item, true);
        if (cJSON_AddItemToObject(*out, item->string, copy)) continue;
        cJSON_Delete(copy);
        cJSON_Delete(*out);
        *out = NULL;
        return context_fail(ctx, KINDIT_ERROR_MEMORY, "out of memory for a config");
    }
    return KINDIT_OK;
}

KinditStatus model_config_for_file(cJSON **out, KinditContext *ctx, const cJSON *base, const DitConfig *config,
                                   const ModelClass *classes, StorageType type) {
    TRY(model_config_merge(out, ctx, base, config, classes));
    cJSON *format = cJSON_GetObjectItemCaseSensitive(*out, "format");
    if ((type == STORAGE_INT8 || type == STORAGE_INT4) && format->valuedouble < FORMAT_NUMERICS)
        cJSON_SetNumberValue(format, FORMAT_NUMERICS);
    if (cJSON_AddStringToObject(*out, "storage", storage_name(type))) return KINDIT_OK;
    cJSON_Delete(*out);
    *out = NULL;
    return context_fail(ctx, KINDIT_ERROR_MEMORY, "out of memory for a config");
}
