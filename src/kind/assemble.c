#include "kind/assemble.h"

#include "model/model_params_file.h"

const StorageType assembly_types[ASSEMBLY_TYPES] = {STORAGE_F32, STORAGE_BF16, STORAGE_INT8};

static KinditStatus open_parts(Assembly *assembly, KinditContext *ctx, Engine *engine, const char *source,
                               const char *classes) {
    TRY(model_open(&assembly->parts, ctx, engine, source, classes));
    if (!assembly->parts->dit->config.factored)
        return context_fail(ctx, KINDIT_ERROR_ARGUMENT,
                            "%s: a dense model has no learngene and no tailors to assemble; `kindit factorize` makes "
                            "them of it",
                            source);
    TRY(energy_measure(&assembly->energy, assembly->parts));
    return energy_losses(&assembly->losses, ctx, &assembly->energy);
}

KinditStatus assembly_open(Assembly *out, KinditContext *ctx, Engine *engine, const char *source, const char *classes,
                           AssemblyMemory memory) {
    *out = (Assembly){.memory = memory};
    KinditStatus status = open_parts(out, ctx, engine, source, classes);
    if (status) assembly_close(out);
    return status;
}

void assembly_close(Assembly *assembly) {
    energy_losses_close(&assembly->losses);
    energy_close(&assembly->energy);
    model_close(&assembly->parts);
}

BudgetChoice assembly_everything(const Assembly *assembly) {
    const DitConfig *config = &assembly->parts->dit->config;
    return (BudgetChoice){.cut = {config->n_classes, config->n_learngene, config->n_tailor}, .type = STORAGE_F32};
}

KinditStatus assembly_measure(const Assembly *assembly, const BudgetChoice *choice, BudgetCost *cost) {
    DitConfig config = assembly->parts->dit->config;
    DitCounts counts;
    Dit *dit;
    config.n_classes = choice->cut.n_classes;
    config.n_learngene = choice->cut.n_learngene;
    config.n_tailor = choice->cut.n_tailor;
    TRY(dit_create(&dit, assembly->parts->ctx, &config));
    dit_count(dit, config.n_classes ? 1 : 0, &counts);
    const size_t numbers = model_params_count(&dit->layout, MODEL_PART_WHOLE, config.n_classes);
    cost->of[BUDGET_BYTES] = (double)model_params_bytes(&dit->layout, MODEL_PART_WHOLE, config.n_classes, choice->type);
    cost->of[BUDGET_PARAMETERS] = (double)numbers;
    cost->of[BUDGET_FLOPS] = counts.flops_linear + counts.flops_attention;
    cost->of[BUDGET_MEMORY] = (double)assembly->memory.bytes(assembly->memory.user, dit);
    dit_close(&dit);
    return KINDIT_OK;
}

static KinditStatus measure_choice(void *assembly, const BudgetChoice *choice, BudgetCost *cost) {
    return assembly_measure(assembly, choice, cost);
}

KinditStatus assembly_plan(const Assembly *assembly, const BudgetCost *limits, const StorageType *types, int n_types,
                           BudgetPlan *out) {
    BudgetType allowed[STORAGE_TYPES];
    for (int i = 0; i < n_types; i++) {
        allowed[i].type = types[i];
        TRY(energy_measure_rounding(&allowed[i].loss, assembly->parts, types[i]));
    }
    BudgetProblem problem = {.most = assembly_everything(assembly).cut,
                             .losses = &assembly->losses,
                             .types = allowed,
                             .n_types = n_types,
                             .limits = *limits,
                             .measure = measure_choice,
                             .user = (void *)assembly};
    return budget_plan(out, assembly->parts->ctx, &problem);
}

KinditStatus assembly_write(const Assembly *assembly, const BudgetChoice *choice, const char *path, bool overwrite) {
    Model *model;
    TRY(cut_create(&model, assembly->parts, &assembly->energy, &choice->cut));
    KinditStatus status = model_write(model, path, choice->type, overwrite);
    model_close(&model);
    return status;
}
