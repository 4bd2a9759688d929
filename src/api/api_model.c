#include "api/internal.h"

static KinditStatus create(KinditModel **out, KinditContext *ctx) {
    *out = NULL;
    TRY(memory_alloc(ctx, 1, sizeof **out, out));
    (*out)->ctx = ctx;
    return engine_create(&(*out)->engine, ctx);
}

KinditStatus kindit_model_open(KinditModel **out, KinditContext *ctx, const char *path, const char *classes) {
    KinditStatus status = create(out, ctx);
    if (!status) status = model_open_shared(&(*out)->model, ctx, (*out)->engine, path, classes);
    if (status) kindit_model_close(out);
    return status;
}

KinditStatus kindit_model_share(KinditModel **out, KinditContext *ctx, const KinditModel *model) {
    KinditStatus status = create(out, ctx);
    if (!status) status = model_share(&(*out)->model, ctx, (*out)->engine, model->model);
    if (status) kindit_model_close(out);
    return status;
}

KinditStatus kindit_model_add_tailor(KinditModel *model, const char *path) {
    return model_add_tailor(model->model, path);
}

KinditStatus kindit_model_drop_tailor(KinditModel *model, const char *class_id) {
    return model_drop_tailor(model->model, class_id);
}

void kindit_model_close(KinditModel **model) {
    if (!model || !*model) return;
    model_close(&(*model)->model);
    engine_close(&(*model)->engine);
    memory_free(model);
}

void kindit_model_info(const KinditModel *model, KinditModelInfo *out) {
    const DitConfig *config = &model->model->dit->config;
    DitCounts counts;
    dit_count(model->model->dit, 1, &counts);
    *out = (KinditModelInfo){
        .image_size = config->image_size,
        .channels = config->channels,
        .width = config->width,
        .depth = config->depth,
        .heads = config->heads,
        .patch = config->patch,
        .factored = config->factored,
        .n_learngene = config->n_learngene,
        .n_tailor = config->n_tailor,
        .n_classes = config->n_classes,
        .parameters = counts.total,
        .tailor_parameters = counts.tailor,
        .flops = counts.flops_linear + counts.flops_attention,
    };
}

const char *kindit_model_class_id(const KinditModel *model, int i) {
    return i < 0 ? "learngene" : model->model->classes[i].id;
}

const char *kindit_model_class_name(const KinditModel *model, int i) {
    return i < 0 ? "learngene" : model->model->classes[i].name;
}
