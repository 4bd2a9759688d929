// Where a fine-tuned model starts, and its run.
#include "adapt/adapt.h"

#include "adapt/layers.h"
#include "base/json.h"

// Where the model has a tensor of the base, by name but for the numbers of blocks, its last rows start as the base's
// shared rows: all of them, but of a dense label table the null row alone.
static KinditStatus copy_shared(const Model *base, const BlockMap *map, Model *model) {
    for (int i = 0; i < base->dit->layout.n_specs; i++) {
        const ParamSpec *from = &base->dit->layout.specs[i];
        char name[PARAM_NAME_SIZE];
        if (!block_map_place(map, from->name, name)) continue;
        const ParamSpec *to = params_find(&model->dit->layout, name);
        const size_t rows = i == base->dit->label ? 1 : (size_t)from->shape[0];
        if (!to || to->row != from->row || (size_t)to->shape[0] < rows)
            return context_fail(model->ctx, KINDIT_ERROR_ARGUMENT, "the new model has no place for the base's \"%s\"",
                                from->name);
        const size_t skip = (size_t)to->shape[0] - rows, skip_from = (size_t)from->shape[0] - rows;
        engine_copy(model->engine, model->params.shared + to->shared_offset + skip * to->row,
                    base->params.shared + from->shared_offset + skip_from * from->row, rows * from->row);
    }
    return KINDIT_OK;
}

// The label rows of the classes that a dense base knows by id.
static KinditStatus copy_labels(const Model *base, Model *model) {
    const int n = model->dit->config.n_classes, null_label = base->dit->config.n_classes;
    const ParamSpec *from = &base->dit->layout.specs[base->dit->label],
                    *to = &model->dit->layout.specs[model->dit->label];
    int *row;
    TRY(block_map_classes(&row, model->ctx, model->classes, n, base));
    for (int c = 0; c < n; c++)
        if (row[c] != null_label)
            engine_copy(model->engine, model->params.shared + to->shared_offset + (size_t)c * to->row,
                        base->params.shared + from->shared_offset + (size_t)row[c] * from->row, from->row);
    memory_free(&row);
    return KINDIT_OK;
}

// The base was opened with just the classes to start from.
static KinditStatus copy_tailors(const Model *base, Model *model) {
    const int n = base->params.n_classes;
    const size_t size = model->dit->layout.n_tailor;
    if (n > 0 && base->dit->layout.n_tailor != size)
        return context_fail(model->ctx, KINDIT_ERROR_ARGUMENT,
                            "the base's tailors are no longer of the new ones' size");
    for (int c = 0; c < model->params.n_classes && n > 0; c++)
        engine_copy(model->engine, model->params.tailor[c], base->params.tailor[c % n], size);
    return KINDIT_OK;
}

// Everything is fresh first, so that what the base does not have is.
static KinditStatus start_from_base(const TrainJob *job, Model *model, uint64_t seed) {
    KinditContext *ctx = model->ctx;
    const bool some = cJSON_HasObjectItem(job->adapt, "blocks"); // a method of layers, which takes what it knows by id
    const char *path, *tailors_from, *name = "the record of the run";
    BlockMap map;
    Model *base;
    TRY(json_get_string(job->adapt, ctx, name, "path", &path));
    TRY(json_get_string(job->adapt, ctx, name, "tailors_from", &tailors_from));
    TRY(dit_init(model->dit, &model->params, seed));
    TRY(model_open(&base, ctx, model->engine, path, some ? NULL : tailors_from));
    KinditStatus status = KINDIT_OK;
    if (some) status = block_map_read(&map, ctx, job->adapt, model->dit->config.depth, base->dit->config.depth);
    if (!status) status = copy_shared(base, some ? &map : NULL, model);
    if (!status) status = some ? copy_labels(base, model) : copy_tailors(base, model);
    model_close(&base);
    return status;
}

KinditStatus adapt_run(KinditContext *ctx, Engine *engine, const AdaptPlan *plan, const char *run, bool resume,
                       TrainResult *result) {
    *result = (TrainResult){0};
    if (plan->train.mse_only && plan->config.learn_sigma)
        return context_fail(ctx, KINDIT_ERROR_ARGUMENT,
                            "the model to adapt learns its variance: it cannot be trained on epsilon's error alone");
    const TrainJob job = {.task = "adapt",
                          .config = plan->config,
                          .frozen = plan->method->frozen,
                          .start = start_from_base,
                          .adapt = plan->record};
    if (plan->method->blocks != ADAPT_ALL_BLOCKS) return layers_run(ctx, engine, plan, &job, run, resume, result);
    return train_run(ctx, engine, run, plan->data, &job, &plan->train, resume, result);
}
