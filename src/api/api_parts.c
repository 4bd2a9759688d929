#include "api/internal.h"
#include "kind/decompose.h"
#include "model/tailor_hold.h"

// Taking apart copies every tailor, so all are held meanwhile.
static KinditStatus decompose_held(const Model *model, TailorHold *hold, const char *folder) {
    int *all;
    TRY(memory_alloc(model->ctx, (size_t)model->n_tailors, sizeof *all, &all));
    for (int c = 0; c < model->n_tailors; c++) all[c] = c;
    KinditStatus status = tailor_hold_take(hold, all, model->n_tailors);
    Model whole = *model;
    whole.params = hold->params;
    if (!status) status = decompose_write(&whole, model->ctx, folder, DTYPE_F32, false);
    memory_free(&all);
    return status;
}

KinditStatus kindit_decompose(KinditModel *model, const char *folder) {
    TailorHold hold;
    TRY(tailor_hold_create(&hold, model->model, model->model->n_tailors));
    KinditStatus status = decompose_held(model->model, &hold, folder);
    tailor_hold_close(&hold);
    return status;
}

KinditAssembleSettings kindit_assemble_settings_default(void) {
    return (KinditAssembleSettings){0};
}

KinditStatus kindit_assemble(KinditContext *ctx, const KinditAssembleSettings *settings, const char *source,
                             const char *path) {
    AssembleBudget budget = {.bytes = settings->max_bytes, .parameters = settings->max_parameters};
    Dtype dtype = settings->bf16 ? DTYPE_BF16 : DTYPE_F32;
    AssemblePlan plan;
    Engine *engine = NULL;
    TRY(assemble_plan(&plan, ctx, source, settings->classes, &budget, dtype));
    KinditStatus status = engine_create(&engine, ctx);
    if (!status) status = assemble_write(ctx, engine, source, &plan, path, dtype, false);
    engine_close(&engine);
    assemble_plan_close(&plan);
    return status;
}
