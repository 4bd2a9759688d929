#include "model/model_tailors.h"

#include <string.h>

static KinditStatus move_array(KinditContext *ctx, void *pointer_to_array, size_t size, int n, int capacity) {
    void *old, *larger;
    memcpy(&old, pointer_to_array, sizeof old);
    TRY(memory_alloc(ctx, (size_t)capacity, size, &larger));
    if (n) memcpy(larger, old, (size_t)n * size);
    memory_free(&old);
    memcpy(pointer_to_array, &larger, sizeof larger);
    return KINDIT_OK;
}

// Makes room for `capacity` classes.
static KinditStatus reserve(Model *model, int capacity) {
    int n = model->n_tailors;
    TRY(move_array(model->ctx, &model->classes, sizeof *model->classes, n, capacity));
    return move_array(model->ctx, &model->tailors, sizeof(Tailor *), n, capacity);
}

static void set_count(Model *model, int n) {
    model->n_tailors = n;
    model->dit->config.n_classes = n;
    model->params.n_classes = n;
}

// The last owner of the tailor becomes the handle.
static void append(Model *model, Tailor *tailor) {
    int n = model->n_tailors;
    model->classes[n] = *tailor_class(tailor);
    model->tailors[n] = tailor;
    set_count(model, n + 1);
}

// A handle without classes, or of a dense model with the chosen ones, which are part of its weights.
static KinditStatus create(Model *model, const DitConfig *structure, const cJSON *config, const ModelClass *classes,
                           TailorStore *store) {
    DitConfig own = *structure;
    model->store = tailor_store_share(store);
    strcpy(model->learngene_sha256, tailor_store_learngene_sha256(store));
    if (own.factored) own.n_classes = 0; // they are appended; the config need not name them again
    TRY(dit_create(&model->dit, model->ctx, &own));
    TRY(model_config_merge(&model->config, model->ctx, config, &own, classes));
    model->params =
        (ParamSet){.engine = model->engine, .n_classes = own.n_classes, .shared = tailor_store_shared(store)};
    if (own.factored) return KINDIT_OK;
    TRY(memory_alloc(model->ctx, (size_t)own.n_classes, sizeof *model->classes, &model->classes));
    if (own.n_classes) memcpy(model->classes, classes, (size_t)own.n_classes * sizeof *classes);
    return KINDIT_OK;
}

static KinditStatus create_from_source(Model *model, ModelSource *source, const int *chosen, int n) {
    KinditContext *ctx = model->ctx;
    DitConfig config = source->dit_config;
    TailorStore *store;
    ModelClass *classes;
    config.n_classes = n;
    TRY(memory_alloc(ctx, (size_t)n, sizeof *classes, &classes));
    for (int i = 0; i < n; i++) classes[i] = source->classes[chosen[i]];
    KinditStatus status = tailor_store_create(&store, ctx, source, chosen, n, ctx->settings.memory == 0);
    if (!status) status = create(model, &config, source->config, classes, store);
    tailor_store_leave(&store); // the handle has it
    memory_free(&classes);
    if (status || !config.factored) return status;
    TRY(reserve(model, n));
    for (int i = 0; i < n; i++) {
        Tailor *tailor;
        TRY(tailor_store_add_class(model->store, ctx, source, chosen[i], &tailor));
        append(model, tailor);
    }
    return KINDIT_OK;
}

static KinditStatus begin(Model **out, KinditContext *ctx, Engine *engine, ModelForm form) {
    TRY(memory_alloc(ctx, 1, sizeof **out, out));
    **out = (Model){.ctx = ctx, .engine = engine, .form = form};
    return KINDIT_OK;
}

KinditStatus model_open_shared(Model **out, KinditContext *ctx, Engine *engine, const char *path, const char *classes) {
    ModelSource source;
    int *chosen = NULL, n_chosen = 0;
    *out = NULL;
    TRY(model_source_open(&source, ctx, path));
    KinditStatus status = model_source_require(&source, ctx, false);
    if (!status) status = model_source_choose(&source, ctx, classes, &chosen, &n_chosen);
    if (!status) status = begin(out, ctx, engine, source.form);
    if (!status) status = create_from_source(*out, &source, chosen, n_chosen);
    if (status) model_close(out);
    memory_free(&chosen);
    model_source_close(&source);
    return status;
}

KinditStatus model_share(Model **out, KinditContext *ctx, Engine *engine, const Model *model) {
    *out = NULL;
    TRY(begin(out, ctx, engine, model->form));
    KinditStatus status = create(*out, &model->dit->config, model->config, model->classes, model->store);
    if (!status) status = reserve(*out, model->n_tailors);
    for (int c = 0; c < model->n_tailors && !status; c++)
        append(*out, tailor_store_again(model->store, model->tailors[c]));
    if (status) model_close(out);
    return status;
}

KinditStatus model_add_tailor(Model *model, const char *path) {
    KinditContext *ctx = model->ctx;
    Tailor *tailor;
    if (!model->dit->config.factored)
        return context_fail(ctx, KINDIT_ERROR_ARGUMENT, "%s: a dense model takes no tailors", path);
    TRY(tailor_store_add_file(model->store, ctx, path, &tailor));
    KinditStatus status = KINDIT_OK;
    for (int c = 0; c < model->n_tailors && !status; c++)
        if (strcmp(model->classes[c].id, tailor_class(tailor)->id) == 0)
            status = context_fail(ctx, KINDIT_ERROR_ARGUMENT,
                                  "class \"%s\" is open already, from %.400s; drop it before adding %.400s",
                                  model->classes[c].id, tailor_path(model->tailors[c]), path);
    if (!status) status = reserve(model, model->n_tailors + 1);
    if (status)
        tailor_store_drop(model->store, &tailor);
    else
        append(model, tailor);
    return status;
}

KinditStatus model_drop_tailor(Model *model, const char *class) {
    int n = model->n_tailors, c = model_classes_find(model->classes, n, class);
    if (!model->dit->config.factored)
        return context_fail(model->ctx, KINDIT_ERROR_ARGUMENT, "a dense model has no tailors to drop");
    if (c < 0)
        return context_fail(model->ctx, KINDIT_ERROR_ARGUMENT, "the open model has no class \"%.80s\" to drop", class);
    tailor_store_drop(model->store, &model->tailors[c]);
    memmove(model->classes + c, model->classes + c + 1, (size_t)(n - 1 - c) * sizeof *model->classes);
    memmove(model->tailors + c, model->tailors + c + 1, (size_t)(n - 1 - c) * sizeof(Tailor *));
    set_count(model, n - 1);
    return KINDIT_OK;
}
