// Where a fine-tuned model starts, and its run.
#include "adapt/adapt.h"

#include <string.h>

#include "base/json.h"

// Where the model has a tensor of the base, by name, its last rows start as the base's shared rows: all of them, but
// for a dense model's label table, in which rows of classes come before the null row.
static KinditStatus copy_shared(const Model *base, Model *model) {
    for (int i = 0; i < base->dit->layout.n_specs; i++) {
        const ParamSpec *from = &base->dit->layout.specs[i], *to = params_find(&model->dit->layout, from->name);
        if (!to || to->row != from->row || to->shape[0] < from->shape[0])
            return context_fail(model->ctx, KINDIT_ERROR_ARGUMENT, "the new model has no place for the base's \"%s\"",
                                from->name);
        const size_t n = params_spec_size(from, 0), skip = params_spec_size(to, 0) - n;
        engine_copy(model->engine, model->params.shared + to->shared_offset + skip,
                    base->params.shared + from->shared_offset, n);
    }
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
    const char *path, *tailors_from, *name = "the record of the run";
    Model *base;
    TRY(json_get_string(job->adapt, ctx, name, "path", &path));
    TRY(json_get_string(job->adapt, ctx, name, "tailors_from", &tailors_from));
    TRY(dit_init(model->dit, &model->params, seed));
    TRY(model_open(&base, ctx, model->engine, path, tailors_from));
    KinditStatus status = copy_shared(base, model);
    if (!status) status = copy_tailors(base, model);
    model_close(&base);
    return status;
}

KinditStatus adapt_run(KinditContext *ctx, Engine *engine, const AdaptPlan *plan, const char *run, bool resume,
                       TrainResult *result) {
    const TrainJob job = {.task = "adapt",
                          .config = plan->config,
                          .frozen = plan->method->frozen,
                          .start = start_from_base,
                          .adapt = plan->record};
    if (plan->train.mse_only && plan->config.learn_sigma)
        return context_fail(ctx, KINDIT_ERROR_ARGUMENT,
                            "the model to adapt learns its variance: it cannot be trained on epsilon's error alone");
    return train_run(ctx, engine, run, plan->data, &job, &plan->train, resume, result);
}
