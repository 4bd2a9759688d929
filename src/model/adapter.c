#include "model/adapter.h"

#include <string.h>

#include "base/json.h"
#include "engine/cayley.h"
#include "model/linear.h"

// ---- kinds and their fields ----------------------------------------------------------------------------------------

enum { RANK = 1, ALPHA = 2, BLOCKS = 4, TERMS = 8 };

static const struct {
    const char *name;
    const LinearKind *linear;
    bool on_dense, on_factored;
    unsigned fields;
} kinds[ADAPTER_KINDS] = {
    [ADAPTER_NONE] = {"none", NULL, true, true, 0},
    [ADAPTER_LORA] = {"lora", &linear_lora, true, true, RANK | ALPHA},
    [ADAPTER_COMPONENTS] = {"components", &linear_lora, false, true, RANK},
    [ADAPTER_DORA] = {"dora", &linear_dora, true, false, RANK | ALPHA},
    [ADAPTER_LOHA] = {"loha", &linear_loha, true, false, RANK | ALPHA},
    [ADAPTER_OFT] = {"oft", &linear_oft, true, false, BLOCKS | TERMS},
    [ADAPTER_SVDIFF] = {"svdiff", &linear_svdiff, false, true, 0},
};

typedef struct Field {
    unsigned bit;
    const char *key;
    double low, high; // the rank of a model's matrices may allow less
    bool whole;
} Field;

static const Field fields[] = {
    {RANK, "rank", 1, 1 << 16, true},
    {ALPHA, "alpha", 1e-6, 1e6, false},
    {BLOCKS, "blocks", 1, 1 << 16, true},
    {TERMS, "cayley_terms", 0, CAYLEY_MOST_TERMS, true},
};
enum { N_FIELDS = sizeof fields / sizeof *fields };

static double field_get(const AdapterConfig *adapter, const Field *field) {
    switch (field->bit) {
    case RANK: return adapter->rank;
    case ALPHA: return adapter->alpha;
    case BLOCKS: return adapter->blocks;
    default: return adapter->cayley_terms;
    }
}

static void field_set(AdapterConfig *adapter, const Field *field, double value) { // in its range
    switch (field->bit) {
    case RANK: adapter->rank = (int)value; return;
    case ALPHA: adapter->alpha = value; return;
    case BLOCKS: adapter->blocks = (int)value; return;
    default: adapter->cayley_terms = (int)value; return;
    }
}

const char *adapter_name(AdapterKind kind) {
    return kinds[kind].name;
}

const LinearKind *adapter_linear_kind(AdapterKind kind) {
    return kinds[kind].linear;
}

// ---- rules ---------------------------------------------------------------------------------------------------------

static KinditStatus check_fields(const AdapterConfig *adapter, KinditContext *ctx) {
    const char *name = kinds[adapter->kind].name;
    for (int i = 0; i < N_FIELDS; i++) {
        const Field *field = &fields[i];
        const double value = field_get(adapter, field);
        const bool has = kinds[adapter->kind].fields & field->bit;
        if (!has && value != 0)
            return context_fail(ctx, KINDIT_ERROR_ARGUMENT, "adapter %s: has no %s, found %g", name, field->key, value);
        if (has && !(value >= field->low && value <= field->high))
            return context_fail(ctx, KINDIT_ERROR_ARGUMENT, "adapter %s: %s: expected %g to %g, found %g", name,
                                field->key, field->low, field->high, value);
    }
    return KINDIT_OK;
}

static KinditStatus check_blocks(const AdapterConfig *adapter, KinditContext *ctx, int width) {
    int below = adapter->blocks < width ? adapter->blocks : width, above = below + 1;
    if (adapter->blocks < width && width % adapter->blocks == 0) return KINDIT_OK;
    while (below > 1 && (width % below != 0 || below == width)) below--;
    while (above < width && width % above != 0) above++;
    if (above >= width)
        return context_fail(ctx, KINDIT_ERROR_ARGUMENT,
                            "adapter oft: %d blocks: the width %d is not cut into so many equal ones of at least 2: %d "
                            "would do",
                            adapter->blocks, width, below);
    return context_fail(ctx, KINDIT_ERROR_ARGUMENT,
                        "adapter oft: %d blocks do not divide the width %d: %d or %d would do", adapter->blocks, width,
                        below, above);
}

KinditStatus adapter_check(const AdapterConfig *adapter, KinditContext *ctx, const AdapterBase *base) {
    const char *name = kinds[adapter->kind].name;
    if (!(base->factored ? kinds[adapter->kind].on_factored : kinds[adapter->kind].on_dense))
        return context_fail(ctx, KINDIT_ERROR_ARGUMENT, "adapter %s: rides on a %s model, this one is %s", name,
                            base->factored ? "dense" : "factored", base->factored ? "factored" : "dense");
    if (adapter->kind != ADAPTER_NONE && base->n_tailor > 0)
        return context_fail(ctx, KINDIT_ERROR_ARGUMENT,
                            "adapter %s: rides on a learngene alone, this model's tailors have %d components each",
                            name, base->n_tailor);
    TRY(check_fields(adapter, ctx));
    if (adapter->rank > base->width)
        return context_fail(ctx, KINDIT_ERROR_ARGUMENT,
                            "adapter %s: rank %d is above that of the model's matrices: at most %d, their width", name,
                            adapter->rank, base->width);
    if (adapter->cayley_terms == 1)
        return context_fail(
            ctx, KINDIT_ERROR_ARGUMENT,
            "adapter oft: 1 term of Cayley's series is no rotation: 2 and more, or 0 for the exact one");
    return adapter->kind == ADAPTER_OFT ? check_blocks(adapter, ctx, base->width) : KINDIT_OK;
}

// ---- the config document -------------------------------------------------------------------------------------------

static KinditStatus parse_kind(const cJSON *json, KinditContext *ctx, const char *where, AdapterKind *out) {
    const char *name;
    TRY(json_get_string(json, ctx, where, "kind", &name));
    for (int i = 1; i < ADAPTER_KINDS; i++) {
        if (strcmp(kinds[i].name, name) != 0) continue;
        *out = (AdapterKind)i;
        return KINDIT_OK;
    }
    return context_fail(ctx, KINDIT_ERROR_FORMAT, "%s: adapter: no kind \"%.80s\" is known", where, name);
}

static bool is_known(const cJSON *item, AdapterKind kind) {
    if (strcmp(item->string, "kind") == 0) return true;
    for (int i = 0; i < N_FIELDS; i++)
        if ((kinds[kind].fields & fields[i].bit) && strcmp(item->string, fields[i].key) == 0) return true;
    return false;
}

KinditStatus adapter_parse(const cJSON *json, KinditContext *ctx, const char *where, AdapterConfig *out) {
    const cJSON *item;
    *out = (AdapterConfig){0};
    if (!cJSON_IsObject(json)) return context_fail(ctx, KINDIT_ERROR_FORMAT, "%s: adapter: expected an object", where);
    TRY(parse_kind(json, ctx, where, &out->kind));
    cJSON_ArrayForEach(item, json) {
        if (!is_known(item, out->kind))
            return context_fail(ctx, KINDIT_ERROR_FORMAT, "%s: adapter: kind \"%s\" has no \"%.80s\"", where,
                                kinds[out->kind].name, item->string);
    }
    for (int i = 0; i < N_FIELDS; i++) {
        const Field *field = &fields[i];
        double value;
        if (!(kinds[out->kind].fields & field->bit)) continue;
        TRY(json_get_double(json, ctx, where, field->key, &value));
        if (!(value >= field->low && value <= field->high) || (field->whole && value != (double)(int)value))
            return context_fail(ctx, KINDIT_ERROR_FORMAT, "%s: adapter: %s: expected %s%g to %g, found %g", where,
                                field->key, field->whole ? "a whole number, " : "", field->low, field->high, value);
        field_set(out, field, value);
    }
    return KINDIT_OK;
}

cJSON *adapter_build(const AdapterConfig *adapter) {
    cJSON *json = cJSON_CreateObject();
    bool good = cJSON_AddStringToObject(json, "kind", kinds[adapter->kind].name);
    for (int i = 0; i < N_FIELDS && good; i++)
        if (kinds[adapter->kind].fields & fields[i].bit)
            good = cJSON_AddNumberToObject(json, fields[i].key, field_get(adapter, &fields[i]));
    if (good) return json;
    cJSON_Delete(json);
    return NULL;
}
