#include "base/context.h"
#include "model/exchange.h"
#include "model/merge.h"
#include "model/peft.h"

// The dense model to write: `model` itself if it is dense, else *merged.
static KinditStatus make_dense(const Model *model, const char *class, Model **merged, const Model **dense) {
    *dense = model;
    bool factored = model->dit->config.factored;
    if (factored != (class != NULL))
        return context_fail(model->ctx, KINDIT_ERROR_ARGUMENT,
                            factored ? "other programs know no tailors: choose one class, or the learngene alone"
                                     : "this model is dense: it has no class or learngene to choose");
    if (!factored && model->dit->config.adapter.kind == ADAPTER_NONE) return KINDIT_OK;
    if (factored)
        TRY(model_merge(merged, model, model->dit->config.n_classes - 1)); // of the one class opened, or of none
    else
        TRY(model_merge_adapter(merged, model));
    *dense = *merged;
    return KINDIT_OK;
}

KinditStatus kindit_export(KinditContext *ctx, const char *source, const char *class_id, KinditExchange to,
                           const char *path, KinditExportResult *result) {
    Engine *engine = NULL;
    Model *model = NULL, *merged = NULL;
    const Model *dense = NULL;
    ExchangeReport report = {0};
    KinditStatus status = engine_create(&engine, ctx);
    if (!status) status = model_open(&model, ctx, engine, source, class_id);
    if (!status && class_id && model->dit->config.n_classes > 1)
        status = context_fail(ctx, KINDIT_ERROR_ARGUMENT, "\"%.80s\": expected one class", class_id);
    if (!status && to != KINDIT_PEFT) status = make_dense(model, class_id, &merged, &dense);
    if (!status)
        status = to == KINDIT_PEFT ? peft_write(model, path, &report)
                                   : exchange_export(dense, to == KINDIT_DIFFUSERS ? EXCHANGE_DIFFUSERS : EXCHANGE_DIT,
                                                     path, &report);
    if (result) *result = (KinditExportResult){report.time_error, report.norm_eps_lost};
    model_close(&merged);
    model_close(&model);
    engine_close(&engine);
    return status;
}

KinditStatus kindit_import(KinditContext *ctx, const char *source, int heads, const char *path) {
    Engine *engine = NULL;
    Model *model = NULL;
    KinditStatus status = engine_create(&engine, ctx);
    if (!status) status = exchange_import(&model, ctx, engine, source, heads);
    if (!status) status = model_write(model, path, STORAGE_F32, false);
    model_close(&model);
    engine_close(&engine);
    return status;
}
