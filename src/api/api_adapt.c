#include "adapt/adapt.h"
#include "api/internal.h"

KinditAdaptSettings kindit_adapt_settings_default(void) {
    KinditAdaptSettings settings = {.method = "kind", .train = kindit_train_settings_default()};
    settings.train.n_tailor = 0;
    settings.train.lr = settings.train.label_dropout = -1;
    return settings;
}

KinditStatus kindit_adapt(KinditContext *ctx, const KinditAdaptSettings *settings, const char *path, const char *data,
                          const char *run, KinditTrainResult *result) {
    const AdaptSettings adapt = {.base = path,
                                 .method = settings->method,
                                 .tailors_from = settings->tailors_from,
                                 .n_tailor = settings->train.n_tailor,
                                 .keep_blocks = settings->keep_blocks,
                                 .budget = settings->budget,
                                 .pseudo_steps = settings->pseudo_steps,
                                 .n_learngene = settings->n_learngene,
                                 .adapter = {.rank = settings->rank,
                                             .alpha = settings->alpha,
                                             .blocks = settings->blocks,
                                             .cayley_terms = settings->cayley_terms}};
    const bool resume = settings->train.resume;
    AdaptPlan plan;
    TrainResult reached = {0};
    Engine *engine = NULL;
    if (resume)
        TRY(adapt_plan_resumed(&plan, ctx, &adapt, run));
    else
        TRY(adapt_plan_new(&plan, ctx, &adapt, data));
    KinditStatus status = data ? file_path(plan.data, ctx, "%s", data) : KINDIT_OK;
    if (!status) status = engine_create(&engine, ctx);
    if (!status) {
        api_train_settings(&plan.train, &settings->train);
        status = adapt_run(ctx, engine, &plan, run, resume, &reached);
    }
    engine_close(&engine);
    adapt_plan_close(&plan);
    return api_train_result(result, ctx, status, run, &reached);
}
