// A run of fine-tuning.
#include "adapt/adapt.h"

#include "adapt/adapt_start.h"
#include "adapt/layers.h"
#include "base/json.h"

// Everything is fresh first, so that what the base does not have is.
static KinditStatus start_from_base(const TrainJob *job, Model *model, uint64_t seed) {
    KinditContext *ctx = model->ctx;
    const char *path, *tailors_from, *wanted, *name = "the record of the run";
    const AdaptMethod *method;
    Model *base;
    TRY(json_get_string(job->adapt, ctx, name, "method", &wanted));
    TRY(adapt_method_find(&method, ctx, wanted));
    TRY(json_get_string(job->adapt, ctx, name, "path", &path));
    TRY(json_get_string(job->adapt, ctx, name, "tailors_from", &tailors_from));
    TRY(dit_init(model->dit, &model->params, seed));
    const bool some = method->blocks != ADAPT_ALL_BLOCKS; // which takes the classes that it knows, too
    TRY(model_open(&base, ctx, model->engine, path, some ? NULL : tailors_from));
    KinditStatus status = some ? layers_start(job->adapt, base, model) : adapt_start(method, base, model, seed);
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
