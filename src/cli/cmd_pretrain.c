#include "base/file.h"
#include "cli/model_options.h"
#include "cli/progress.h"
#include "cli/train_options.h"

static const Option *pretrain_options(int *n) {
    enum { MOST_OPTIONS = 48 };
    static Option options[MOST_OPTIONS];
    int n_train, n_model;
    const Option *train = train_options(&n_train), *model = model_options(&n_model);
    *n = cli_join_options(options, train, n_train, model, n_model);
    return options;
}

// What is to be trained: the model described by the options, its images and classes by the data set.
static KinditStatus plan_new(KinditContext *ctx, TrainSettings *train, DitConfig *config, char data[1024]) {
    Dataset *dataset;
    *train = train_settings_default();
    TRY(file_path(data, ctx, "%s", train_options_place().data));
    TRY(dataset_open(&dataset, ctx, data));
    *config = dit_config_default();
    config->image_size = dataset->size;
    config->channels = dataset->channels;
    config->n_classes = dataset->n_classes;
    dataset_close(&dataset);
    return model_options_config(ctx, false, config);
}

// What a run was, so that `--resume -o RUN` is enough to go on; options given are held against it by train_run, which
// also says when it is a run of another command.
static KinditStatus plan_resumed(KinditContext *ctx, TrainSettings *train, DitConfig *config, char data[1024]) {
    cJSON *adapt;
    TRY(train_record_read(ctx, train_options_place().run, train, config, data, &adapt));
    cJSON_Delete(adapt);
    TRY(train_options_data(ctx, data));
    return model_options_given() ? model_options_config(ctx, false, config) : KINDIT_OK;
}

static int pretrain_run(KinditContext *ctx, int n_positional, char **positional) {
    (void)n_positional, (void)positional;
    const TrainPlace place = train_options_place();
    char data[1024];
    DitConfig config;
    TrainSettings train;
    Engine *engine = NULL;
    TrainResult result = {0};
    const int usage = train_options_check("pretrain");
    if (usage != EXIT_DONE) return usage;
    KinditStatus status =
        place.resume ? plan_resumed(ctx, &train, &config, data) : plan_new(ctx, &train, &config, data);
    if (!status) status = engine_create(&engine, ctx);
    if (!status) {
        const TrainJob job = train_job_pretrain(&config);
        train_options_apply(&train);
        progress_limit(train.max_seconds);
        status = train_run(ctx, engine, place.run, data, &job, &train, place.resume, &result);
    }
    engine_close(&engine);
    return status ? cli_report(ctx, status) : train_options_report(&result);
}

const Command command_pretrain = {
    .name = "pretrain",
    .summary = "train a decomposable DiT on a data set",
    .arguments = "--data DIR -o RUN [options]",
    .examples =
        "kindit pretrain --data data/glyphs --width 128 --depth 5 --heads 4 --patch 4 --n-learngene 56 --n-tailor 2"
        " --batch 64 --lr 1e-3 --ema 0.999 --steps 4000 -o runs/letters\n"
        "kindit pretrain --resume --steps 8000 -o runs/letters\n"
        "kindit pretrain --data latents --preset DiT-B/2 --n-learngene 318 --n-tailor 3 -o runs/paper\n"
        "kindit pretrain --data latents --preset DiT-B/2 --kind off -o runs/plain",
    .notes =
        "A run folder holds run.json, metrics.csv, TensorBoard events, samples/ and checkpoints/step-N/; each "
        "checkpoint "
        "is a model that every other command opens.\n"
        "Ctrl-C finishes the step, leaves a checkpoint and exits with 130; a second Ctrl-C stops at once, and the last "
        "checkpoint stays whole. A run resumed gives the same weights, bit for bit, as one never interrupted.",
    .options = pretrain_options,
    .run = pretrain_run,
};
