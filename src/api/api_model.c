#include "api/internal.h"

KinditStatus kindit_model_open(KinditModel **out, KinditContext *ctx, const char *path, const char *classes) {
    *out = NULL;
    KinditModel *model;
    TRY(memory_alloc(ctx, 1, sizeof *model, &model));
    model->ctx = ctx;
    KinditStatus status = engine_create(&model->engine, ctx);
    if (!status) status = model_open(&model->model, ctx, model->engine, path, classes);
    if (status)
        kindit_model_close(&model);
    else
        *out = model;
    return status;
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
