// What a run of fine-tuning will be: from its base, its method and its data, or from its record.
#include <string.h>

#include "adapt/layers.h"
#include "base/json.h"
#include "diffusion/schedule.h"
#include "model/model_source.h"

// ---- checks --------------------------------------------------------------------------------------------------------

KinditStatus adapt_check_base(KinditContext *ctx, const AdaptMethod *method, const DitConfig *base,
                              const AdaptSettings *settings) {
    if (!base->factored && !(method->bases & ADAPT_DENSE))
        return context_fail(ctx, KINDIT_ERROR_ARGUMENT,
                            "%s: method %s needs a model with a learngene, and this one is dense; `kindit factorize` "
                            "makes a learngene of it",
                            settings->base, method->name);
    if (base->factored && !(method->bases & ADAPT_FACTORED))
        return context_fail(ctx, KINDIT_ERROR_ARGUMENT,
                            "%s: method %s needs a dense model, and this one has learngene and tailors; train one with "
                            "--kind off, or import one",
                            settings->base, method->name);
    if (base->adapter.kind != ADAPTER_NONE)
        return context_fail(ctx, KINDIT_ERROR_ARGUMENT,
                            "%s: has an adapter (%s) already; `kindit merge` makes a plain model of it", settings->base,
                            adapter_name(base->adapter.kind));
    if (method->adapter != ADAPTER_NONE && settings->tailors_from)
        return context_fail(ctx, KINDIT_ERROR_ARGUMENT, "method %s makes no tailors, which could start as copies",
                            method->name);
    if (!base->factored && (settings->tailors_from || settings->n_tailor))
        return context_fail(ctx, KINDIT_ERROR_ARGUMENT, "%s: a dense model has no tailors, old or new", settings->base);
    if (settings->tailors_from && settings->n_tailor && settings->n_tailor != base->n_tailor)
        return context_fail(ctx, KINDIT_ERROR_ARGUMENT,
                            "%s: its tailors have %d components, so that tailors of %d cannot be copies of them",
                            settings->base, base->n_tailor, settings->n_tailor);
    return KINDIT_OK;
}

static KinditStatus check_data(KinditContext *ctx, const DitConfig *base, const AdaptSettings *settings,
                               const Dataset *data) {
    if (data->size == base->image_size && data->channels == base->channels) return KINDIT_OK;
    return context_fail(ctx, KINDIT_ERROR_ARGUMENT,
                        "%.400s: images of %d x %d with %d channels, but %.400s draws %d x %d with %d: make the data "
                        "set again as the model wants it",
                        data->path, data->size, data->size, data->channels, settings->base, base->image_size,
                        base->image_size, base->channels);
}

static KinditStatus check_tailors_from(KinditContext *ctx, const ModelSource *base, const AdaptSettings *settings) {
    int *chosen, n;
    if (!settings->tailors_from) return KINDIT_OK;
    TRY(model_source_choose(base, ctx, settings->tailors_from, &chosen, &n));
    memory_free(&chosen);
    return n > 0 ? KINDIT_OK : context_fail(ctx, KINDIT_ERROR_ARGUMENT, "no classes named for tailors to start from");
}

// ---- the record ----------------------------------------------------------------------------------------------------

// The base's config without what is true of its classes or its file alone. Of a base that was adapted itself it is that
// of its own base: the learngene is still the same.
static cJSON *learngene_config(const cJSON *config) {
    static const char *const others[] = {"classes", "sha256", "storage", "adapt"};
    const cJSON *adapt = cJSON_GetObjectItemCaseSensitive(config, "adapt");
    const cJSON *inherited = cJSON_GetObjectItemCaseSensitive(adapt, "learngene");
    cJSON *copy = cJSON_Duplicate(inherited ? inherited : config, true);
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        cJSON_DeleteItemFromObjectCaseSensitive(copy, others[i]);
    return copy;
}

static KinditStatus build_record(AdaptPlan *plan, KinditContext *ctx, const AdaptSettings *settings,
                                 const cJSON *config) {
    const char *from = settings->tailors_from ? settings->tailors_from : "";
    plan->record = cJSON_CreateObject();
    bool built = cJSON_AddStringToObject(plan->record, "method", plan->method->name) &&
                 cJSON_AddStringToObject(plan->record, "path", settings->base) &&
                 cJSON_AddStringToObject(plan->record, "tailors_from", from);
    if (built && adapt_method_keeps_learngene(plan->method)) {
        cJSON *learngene = learngene_config(config);
        built = cJSON_AddItemToObject(plan->record, "learngene", learngene);
        if (!built) cJSON_Delete(learngene);
    }
    return built ? KINDIT_OK : context_fail(ctx, KINDIT_ERROR_MEMORY, "out of memory for the record of a run");
}

// How many blocks a method of layers keeps, and how long the model is trained that they are held against.
static KinditStatus record_blocks(AdaptPlan *plan, KinditContext *ctx, const AdaptSettings *settings,
                                  const DitConfig *base) {
    enum { PSEUDO_STEPS = 500 };
    DitConfig config = *base;
    int n_keep;
    if (plan->method->blocks == ADAPT_ALL_BLOCKS) return KINDIT_OK;
    config.n_classes = plan->config.n_classes;
    TRY(layers_keep(&n_keep, ctx, settings, &config));
    bool built = cJSON_AddNumberToObject(plan->record, "keep_blocks", n_keep);
    if (built && plan->method->blocks == ADAPT_NEEDED_BLOCKS)
        built = cJSON_AddNumberToObject(plan->record, "budget", (double)settings->budget);
    if (built && plan->method->blocks == ADAPT_SIMILAR_BLOCKS)
        built = cJSON_AddNumberToObject(plan->record, "pseudo_steps",
                                        (double)(settings->pseudo_steps ? settings->pseudo_steps : PSEUDO_STEPS));
    return built ? KINDIT_OK : context_fail(ctx, KINDIT_ERROR_MEMORY, "out of memory for the record of a run");
}

static KinditStatus replace_number(KinditContext *ctx, cJSON *record, const char *key, int64_t value) {
    if (!value) return KINDIT_OK;
    if (!cJSON_HasObjectItem(record, key))
        return context_fail(ctx, KINDIT_ERROR_ARGUMENT, "the run's method has no %s", key);
    cJSON *number = cJSON_CreateNumber((double)value);
    if (cJSON_ReplaceItemInObjectCaseSensitive(record, key, number)) return KINDIT_OK;
    cJSON_Delete(number);
    return context_fail(ctx, KINDIT_ERROR_MEMORY, "out of memory for the record of a run");
}

static KinditStatus replace(KinditContext *ctx, cJSON *record, const char *key, const char *value) {
    if (!value) return KINDIT_OK;
    cJSON *text = cJSON_CreateString(value);
    if (cJSON_ReplaceItemInObjectCaseSensitive(record, key, text)) return KINDIT_OK;
    cJSON_Delete(text);
    return context_fail(ctx, KINDIT_ERROR_FORMAT, "the record of the run has no \"%s\" under \"adapt\"", key);
}

// ---- plans ---------------------------------------------------------------------------------------------------------

static KinditStatus plan_from(AdaptPlan *out, KinditContext *ctx, const AdaptSettings *settings,
                              const ModelSource *base, const Dataset *data) {
    TRY(adapt_check_base(ctx, out->method, &base->dit_config, settings));
    TRY(check_data(ctx, &base->dit_config, settings, data));
    TRY(check_tailors_from(ctx, base, settings));
    out->config = base->dit_config;
    TRY(adapt_configure(&out->config, ctx, settings, out->method, data->n_classes));
    out->train = train_settings_default();
    out->train.lr = out->method->lr;
    out->train.label_dropout = out->method->label_dropout;
    TRY(schedule_read_config(ctx, base->config, &out->train.diffusion_steps, &out->train.beta_first,
                             &out->train.beta_last));
    TRY(build_record(out, ctx, settings, base->config));
    return record_blocks(out, ctx, settings, &base->dit_config);
}

KinditStatus adapt_plan_new(AdaptPlan *out, KinditContext *ctx, const AdaptSettings *settings, const char *data) {
    ModelSource base;
    Dataset *dataset = NULL;
    *out = (AdaptPlan){0};
    TRY(adapt_method_find(&out->method, ctx, settings->method));
    TRY(file_path(out->data, ctx, "%s", data));
    TRY(model_source_open(&base, ctx, settings->base));
    KinditStatus status = dataset_open(&dataset, ctx, data);
    if (!status) status = plan_from(out, ctx, settings, &base, dataset);
    dataset_close(&dataset);
    model_source_close(&base);
    if (status) adapt_plan_close(out);
    return status;
}

static KinditStatus plan_again(AdaptPlan *out, KinditContext *ctx, const AdaptSettings *settings, const char *run) {
    const char *method;
    if (!out->record)
        return context_fail(ctx, KINDIT_ERROR_ARGUMENT, "%s: a run of `kindit pretrain`, which that command resumes",
                            run);
    TRY(replace(ctx, out->record, "method", settings->method));
    TRY(replace(ctx, out->record, "path", settings->base));
    TRY(replace(ctx, out->record, "tailors_from", settings->tailors_from));
    TRY(replace_number(ctx, out->record, "keep_blocks", settings->keep_blocks));
    TRY(replace_number(ctx, out->record, "budget", settings->budget));
    TRY(replace_number(ctx, out->record, "pseudo_steps", settings->pseudo_steps));
    adapt_reconfigure(&out->config, settings);
    TRY(json_get_string(out->record, ctx, run, "method", &method));
    return adapt_method_find(&out->method, ctx, method);
}

KinditStatus adapt_plan_resumed(AdaptPlan *out, KinditContext *ctx, const AdaptSettings *settings, const char *run) {
    *out = (AdaptPlan){0};
    TRY(train_record_read(ctx, run, &out->train, &out->config, out->data, &out->record));
    KinditStatus status = plan_again(out, ctx, settings, run);
    if (status) adapt_plan_close(out);
    return status;
}

void adapt_plan_close(AdaptPlan *plan) {
    cJSON_Delete(plan->record);
    *plan = (AdaptPlan){0};
}
