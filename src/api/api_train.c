#include "api/internal.h"
#include "base/file.h"

KinditTrainSettings kindit_train_settings_default(void) {
    TrainSettings train = train_settings_default();
    return (KinditTrainSettings){
        .width = 384,
        .depth = 12,
        .heads = 6,
        .patch = 2,
        .n_learngene = 159,
        .n_tailor = 1,
        .batch = train.batch,
        .steps = train.steps,
        .max_seconds = train.max_seconds,
        .lr = train.lr,
        .weight_decay = train.weight_decay,
        .ema_decay = train.ema_decay,
        .label_dropout = train.label_dropout,
        .seed = train.seed,
        .bf16 = train.bf16,
        .recompute = train.recompute,
        .checkpoint_every = train.checkpoint_every,
        .sample_every = train.sample_every,
    };
}

void api_train_settings(TrainSettings *train, const KinditTrainSettings *settings) {
    train->batch = settings->batch;
    train->steps = settings->steps;
    train->max_seconds = settings->max_seconds;
    if (!(settings->lr < 0)) train->lr = settings->lr;
    train->weight_decay = settings->weight_decay;
    train->ema_decay = settings->ema_decay;
    if (!(settings->label_dropout < 0)) train->label_dropout = settings->label_dropout;
    train->seed = settings->seed;
    train->bf16 = settings->bf16;
    train->recompute = settings->recompute;
    train->checkpoint_every = settings->checkpoint_every;
    train->sample_every = settings->sample_every;
}

KinditStatus api_train_result(KinditTrainResult *result, KinditContext *ctx, KinditStatus status, const char *run,
                              const TrainResult *reached) {
    if (!result) return status;
    *result = (KinditTrainResult){.step = reached->step, .loss = reached->loss, .finished = reached->finished};
    if (status && status != KINDIT_CANCELLED) return status;
    KinditStatus named = file_path(result->model, ctx, "%s/checkpoints/step-%lld", run, (long long)reached->step);
    return status ? status : named;
}

// The model described by the settings, its images and classes by the data set.
static KinditStatus train_config_from(const KinditTrainSettings *settings, KinditContext *ctx, const char *data,
                                      DitConfig *config) {
    Dataset *dataset;
    TRY(dataset_open(&dataset, ctx, data));
    *config = dit_config_default();
    config->image_size = dataset->size;
    config->channels = dataset->channels;
    config->n_classes = dataset->n_classes;
    dataset_close(&dataset);
    config->width = settings->width;
    config->depth = settings->depth;
    config->heads = settings->heads;
    config->patch = settings->patch;
    config->factored = !settings->plain;
    config->fused_qkv = config->factored && settings->fused_qkv;
    config->factor_adaln = config->factored && settings->factor_adaln;
    config->n_learngene = config->factored ? settings->n_learngene : 0;
    config->n_tailor = config->factored ? settings->n_tailor : 0;
    return dit_config_check(config, ctx);
}

KinditStatus kindit_train(KinditContext *ctx, const KinditTrainSettings *settings, const char *data, const char *run,
                          KinditTrainResult *result) {
    TrainSettings train = train_settings_default();
    TrainResult reached = {0};
    DitConfig config;
    Engine *engine = NULL;
    if (settings->lr < 0 || settings->label_dropout < 0)
        return context_fail(ctx, KINDIT_ERROR_ARGUMENT, "training settings: lr and label_dropout: expected 0 or more");
    api_train_settings(&train, settings);
    TRY(train_config_from(settings, ctx, data, &config));
    KinditStatus status = engine_create(&engine, ctx);
    const TrainJob job = train_job_pretrain(&config);
    if (!status) status = train_run(ctx, engine, run, data, &job, &train, settings->resume, &reached);
    engine_close(&engine);
    return api_train_result(result, ctx, status, run, &reached);
}
