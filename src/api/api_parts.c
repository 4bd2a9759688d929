#include "api/internal.h"
#include "kind/decompose.h"

KinditStatus kindit_decompose(KinditModel *model, const char *folder) {
    return decompose_write(model->model, model->ctx, folder, DTYPE_F32, false);
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
