#include "api/internal.h"
#include "kind/decompose.h"
#include "model/tailor_hold.h"

// Taking apart copies every tailor, so all are held meanwhile.
static KinditStatus decompose_held(const Model *model, TailorHold *hold, const char *folder, StorageType type) {
    int *all;
    TRY(memory_alloc(model->ctx, (size_t)model->n_tailors, sizeof *all, &all));
    for (int c = 0; c < model->n_tailors; c++) all[c] = c;
    KinditStatus status = tailor_hold_take(hold, all, model->n_tailors);
    Model whole = *model;
    whole.params = hold->params;
    if (!status) status = decompose_write(&whole, model->ctx, folder, type, false);
    memory_free(&all);
    return status;
}

static KinditStatus to_type(StorageType *out, KinditContext *ctx, KinditStorage storage) {
    *out = (StorageType)storage; // the two lists are in one order
    if ((unsigned)storage < STORAGE_TYPES) return KINDIT_OK;
    return context_fail(ctx, KINDIT_ERROR_ARGUMENT, "storage %d: expected KINDIT_F32 to KINDIT_INT4", (int)storage);
}

KinditStatus kindit_decompose(KinditModel *model, const char *folder, KinditStorage storage) {
    TailorHold hold;
    StorageType type;
    TRY(to_type(&type, model->ctx, storage));
    TRY(tailor_hold_create(&hold, model->model, model->model->n_tailors));
    KinditStatus status = decompose_held(model->model, &hold, folder, type);
    tailor_hold_close(&hold);
    return status;
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
