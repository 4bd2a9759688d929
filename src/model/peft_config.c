#include <string.h>

#include "base/json.h"
#include "model/peft.h"

typedef enum PeftType { PEFT_LORA, PEFT_LOHA, PEFT_OFT } PeftType;
static const char *const types[] = {"LORA", "LOHA", "OFT"};
enum { N_TYPES = sizeof types / sizeof *types };

// Where it was trained, how it started, which layers it is on (which the tensors say themselves).
static const char *const no_matter[] = {
    "peft_type",
    "auto_mapping",
    "base_model_name_or_path",
    "revision",
    "task_type",
    "inference_mode",
    "peft_version",
    "init_lora_weights",
    "init_weights",
    "target_modules",
    "megatron_core",
    "qalora_group_size",
    "lora_dropout",
    "rank_dropout",
    "module_dropout",
    "eps",
    "runtime_config",
    "bias",
    "num_cayley_neumann_terms",
    "use_cayley_neumann",
    "layers_pattern",
    "r",
    "lora_alpha",
    "alpha",
    "use_dora",
    "oft_block_size",
    "ensure_weight_tying",
};
enum { N_NO_MATTER = sizeof no_matter / sizeof *no_matter };

static bool is_neutral(const cJSON *value) {
    if (cJSON_IsNull(value) || cJSON_IsFalse(value)) return true;
    if (cJSON_IsNumber(value)) return value->valuedouble == 0;
    if (cJSON_IsString(value)) return value->valuestring[0] == '\0';
    return (cJSON_IsArray(value) || cJSON_IsObject(value)) && !value->child;
}

// Whatever is neither read below nor of no matter must be off.
static KinditStatus check_keys(const cJSON *json, KinditContext *ctx, const char *where) {
    const cJSON *item, *bias = cJSON_GetObjectItemCaseSensitive(json, "bias");
    if (bias && !(cJSON_IsString(bias) && strcmp(bias->valuestring, "none") == 0))
        return context_fail(ctx, KINDIT_ERROR_FORMAT, "%s: \"bias\": expected \"none\"", where);
    cJSON_ArrayForEach(item, json) {
        bool known = is_neutral(item);
        for (int i = 0; i < N_NO_MATTER && !known; i++) known = strcmp(item->string, no_matter[i]) == 0;
        if (!known)
            return context_fail(ctx, KINDIT_ERROR_UNSUPPORTED,
                                "%s: \"%.80s\" is set, and this program cannot do what it asks for", where,
                                item->string);
    }
    return KINDIT_OK;
}

static KinditStatus parse_rank(const cJSON *json, KinditContext *ctx, const char *where, const char *alpha,
                               AdapterConfig *out) {
    int64_t rank;
    TRY(json_get_int(json, ctx, where, "r", 1, 1 << 16, &rank));
    TRY(json_get_double(json, ctx, where, alpha, &out->alpha));
    out->rank = (int)rank;
    return KINDIT_OK;
}

static KinditStatus parse_oft(const cJSON *json, KinditContext *ctx, const char *where, AdapterConfig *out) {
    int64_t blocks, size = 0, terms = 0;
    bool series;
    TRY(json_get_int(json, ctx, where, "r", 0, 1 << 16, &blocks));
    if (cJSON_HasObjectItem(json, "oft_block_size"))
        TRY(json_get_int(json, ctx, where, "oft_block_size", 0, 1 << 16, &size));
    if (blocks == 0 || size != 0)
        return context_fail(
            ctx, KINDIT_ERROR_UNSUPPORTED,
            "%s: oft_block_size %lld: expected 0 and the number of blocks, the same in all layers, in r", where,
            (long long)size);
    TRY(json_get_bool(json, ctx, where, "use_cayley_neumann", &series));
    if (series) TRY(json_get_int(json, ctx, where, "num_cayley_neumann_terms", 2, 64, &terms));
    out->blocks = (int)blocks;
    out->cayley_terms = (int)terms;
    return KINDIT_OK;
}

KinditStatus peft_config_parse(const cJSON *json, KinditContext *ctx, const char *where, AdapterConfig *out) {
    const char *name;
    int type = 0;
    bool dora = false;
    *out = (AdapterConfig){0};
    if (!cJSON_IsObject(json)) return context_fail(ctx, KINDIT_ERROR_FORMAT, "%s: expected a JSON object", where);
    TRY(json_get_string(json, ctx, where, "peft_type", &name));
    while (type < N_TYPES && strcmp(types[type], name) != 0) type++;
    if (type == N_TYPES)
        return context_fail(ctx, KINDIT_ERROR_UNSUPPORTED, "%s: peft_type \"%.80s\": expected LORA, LOHA or OFT", where,
                            name);
    TRY(check_keys(json, ctx, where));
    if (type == PEFT_OFT) {
        out->kind = ADAPTER_OFT;
        return parse_oft(json, ctx, where, out);
    }
    if (cJSON_HasObjectItem(json, "use_dora")) TRY(json_get_bool(json, ctx, where, "use_dora", &dora));
    out->kind = type == PEFT_LOHA ? ADAPTER_LOHA : dora ? ADAPTER_DORA : ADAPTER_LORA;
    return parse_rank(json, ctx, where, type == PEFT_LOHA ? "alpha" : "lora_alpha", out);
}

// ---- writing -------------------------------------------------------------------------------------------------------

static bool add_targets(cJSON *json) {
    static const char *const targets[] = {"to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2"};
    cJSON *array = cJSON_CreateStringArray(targets, sizeof targets / sizeof *targets);
    if (cJSON_AddItemToObject(json, "target_modules", array)) return true;
    cJSON_Delete(array);
    return false;
}

static bool add_settings(cJSON *json, const AdapterConfig *a) {
    const bool lora = a->kind == ADAPTER_LORA || a->kind == ADAPTER_DORA, oft = a->kind == ADAPTER_OFT;
    bool good = cJSON_AddStringToObject(json, "peft_type",
                                        types[lora  ? PEFT_LORA
                                              : oft ? PEFT_OFT
                                                    : PEFT_LOHA]) &&
                cJSON_AddStringToObject(json, "peft_version", "0.21.0") &&
                cJSON_AddStringToObject(json, "base_model_name_or_path", "base/transformer") &&
                cJSON_AddBoolToObject(json, "inference_mode", true) &&
                cJSON_AddNumberToObject(json, "r", oft ? a->blocks : a->rank) && add_targets(json);
    if (good && lora)
        return cJSON_AddNumberToObject(json, "lora_alpha", a->alpha) &&
               cJSON_AddBoolToObject(json, "use_dora", a->kind == ADAPTER_DORA) &&
               cJSON_AddStringToObject(json, "bias", "none");
    if (good && oft)
        return cJSON_AddNumberToObject(json, "oft_block_size", 0) &&
               cJSON_AddBoolToObject(json, "use_cayley_neumann", a->cayley_terms > 0) &&
               cJSON_AddNumberToObject(json, "num_cayley_neumann_terms", a->cayley_terms > 0 ? a->cayley_terms : 5) &&
               cJSON_AddStringToObject(json, "bias", "none");
    return good && cJSON_AddNumberToObject(json, "alpha", a->alpha);
}

KinditStatus peft_config_build(cJSON **out, KinditContext *ctx, const AdapterConfig *adapter) {
    *out = NULL;
    if (adapter->kind == ADAPTER_NONE || adapter->kind == ADAPTER_COMPONENTS || adapter->kind == ADAPTER_SVDIFF)
        return context_fail(ctx, KINDIT_ERROR_ARGUMENT, "peft has no adapter like this model's: %s",
                            adapter_name(adapter->kind));
    cJSON *json = cJSON_CreateObject();
    if (add_settings(json, adapter)) {
        *out = json;
        return KINDIT_OK;
    }
    cJSON_Delete(json);
    return context_fail(ctx, KINDIT_ERROR_MEMORY, "out of memory for adapter_config.json");
}
