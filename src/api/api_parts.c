#include "api/internal.h"
#include "diffusion/sampler_memory.h"
#include "kind/assemble.h"
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

// The types that a KinditStorage allows: one, or for KINDIT_BEST those worth choosing from, the finest first.
static KinditStatus to_types(const StorageType **types, int *n, StorageType *one, KinditContext *ctx,
                             KinditStorage storage) {
    *types = assembly_types;
    *n = ASSEMBLY_TYPES;
    if (storage == KINDIT_BEST) return KINDIT_OK;
    if ((unsigned)storage > KINDIT_INT4)
        return context_fail(ctx, KINDIT_ERROR_ARGUMENT, "storage %d: expected KINDIT_BEST to KINDIT_INT4",
                            (int)storage);
    *one = (StorageType)(storage - KINDIT_F32); // the two lists are in one order
    *types = one;
    *n = 1;
    return KINDIT_OK;
}

KinditStatus kindit_decompose(KinditModel *model, const char *folder, KinditStorage storage) {
    TailorHold hold;
    const StorageType *types;
    StorageType one;
    int n;
    TRY(to_types(&types, &n, &one, model->ctx, storage));
    TRY(tailor_hold_create(&hold, model->model, model->model->n_tailors));
    KinditStatus status = decompose_held(model->model, &hold, folder, types[0]);
    tailor_hold_close(&hold);
    return status;
}

KinditAssembleSettings kindit_assemble_settings_default(void) {
    return (KinditAssembleSettings){0};
}

static KinditStatus choose(const Assembly *assembly, const KinditAssembleSettings *settings, BudgetPlan *plan) {
    const StorageType *types;
    StorageType one;
    int n;
    TRY(to_types(&types, &n, &one, assembly->parts->ctx, settings->storage));
    const BudgetCost limits = {{[BUDGET_BYTES] = (double)settings->max_bytes,
                                [BUDGET_PARAMETERS] = (double)settings->max_parameters,
                                [BUDGET_FLOPS] = settings->max_flops,
                                [BUDGET_MEMORY] = (double)settings->max_memory}};
    return assembly_plan(assembly, &limits, types, n, plan);
}

static KinditAssemblePlan describe(const BudgetPlan *plan) {
    const double *cost = plan->cost.of;
    return (KinditAssemblePlan){
        .n_classes = plan->choice.cut.n_classes,
        .n_learngene = plan->choice.cut.n_learngene,
        .n_tailor = plan->choice.cut.n_tailor,
        .storage = (KinditStorage)(plan->choice.type + KINDIT_F32),
        .bytes = (int64_t)cost[BUDGET_BYTES],
        .parameters = (int64_t)cost[BUDGET_PARAMETERS],
        .memory = (int64_t)cost[BUDGET_MEMORY],
        .flops = cost[BUDGET_FLOPS],
        .loss = plan->loss,
    };
}

KinditStatus kindit_assemble(KinditContext *ctx, const KinditAssembleSettings *settings, const char *source,
                             const char *path, KinditAssemblePlan *out) {
    Engine *engine;
    Assembly assembly;
    BudgetPlan plan;
    TRY(engine_create(&engine, ctx));
    const int threads = engine_threads(engine);
    KinditStatus status = assembly_open(&assembly, ctx, engine, source, settings->classes,
                                        (AssemblyMemory){sampler_memory_of_one, &threads});
    if (!status) {
        status = choose(&assembly, settings, &plan);
        if (!status && out) *out = describe(&plan);
        if (!status && path) status = assembly_write(&assembly, &plan.choice, path, false);
        assembly_close(&assembly);
    }
    engine_close(&engine);
    return status;
}
