#include "api/internal.h"
#include "kind/decompose.h"

static KinditStatus to_type(StorageType *out, KinditContext *ctx, KinditStorage storage) {
    *out = (StorageType)storage; // the two lists are in one order
    if ((unsigned)storage < STORAGE_TYPES) return KINDIT_OK;
    return context_fail(ctx, KINDIT_ERROR_ARGUMENT, "storage %d: expected KINDIT_F32 to KINDIT_INT4", (int)storage);
}

KinditStatus kindit_decompose(KinditModel *model, const char *folder, KinditStorage storage) {
    StorageType type;
    TRY(to_type(&type, model->ctx, storage));
    return decompose_write(model->model, model->ctx, folder, type, false);
}

KinditAssembleSettings kindit_assemble_settings_default(void) {
    return (KinditAssembleSettings){0};
}

KinditStatus kindit_assemble(KinditContext *ctx, const KinditAssembleSettings *settings, const char *source,
                             const char *path) {
    AssembleBudget budget = {.bytes = settings->max_bytes, .parameters = settings->max_parameters};
    StorageType type;
    AssemblePlan plan;
    Engine *engine = NULL;
    TRY(to_type(&type, ctx, settings->storage));
    TRY(assemble_plan(&plan, ctx, source, settings->classes, &budget, type));
    KinditStatus status = engine_create(&engine, ctx);
    if (!status) status = assemble_write(ctx, engine, source, &plan, path, type, false);
    engine_close(&engine);
    assemble_plan_close(&plan);
    return status;
}
