#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "cli/cli.h"
#include "cli/progress.h"
#include "metrics/accuracy.h"
#include "train/trainer.h"

enum { BATCH = 128, WORST = 10 };
static const int64_t ALL_STEPS = 1000000000000; // more than there are: a resume to other --steps moves the decay

static struct {
    const char *data, *output, *run;
    int64_t steps, width, depth, heads, patch, shift, storage, seed;
    double lr, seconds;
    bool resume, bf16, json, patch_given, shift_given;
} settings = {.steps = 6000, .width = 96, .depth = 4, .heads = 4, .storage = STORAGE_BF16, .lr = 1e-3};

static const Option *features_options(int *n) {
    static const Option options[] = {
        {"--data", NULL, OPTION_STRING, &settings.data, "DIR", "the data set to learn (required)", 0, 0, NULL},
        {"--output", "-o", OPTION_STRING, &settings.output, "FILE", "the network to make (required)", 0, 0, NULL},
        {"--run", NULL, OPTION_STRING, &settings.run, "DIR", "its run folder (default: FILE without its ending)", 0, 0,
         NULL},
        {"--resume", NULL, OPTION_FLAG, &settings.resume, NULL, "go on from the run's last checkpoint", 0, 0, NULL},
        {"--steps", NULL, OPTION_INT, &settings.steps, "N",
         "steps of 128 images, over which the learning rate falls to 0 (default 6000)", 1, 1e12, NULL},
        {"--time", NULL, OPTION_DOUBLE, &settings.seconds, "SECONDS",
         "stop after this long, with a checkpoint to resume from (default: no limit)", 0, 1e9, NULL},
        {"--width", NULL, OPTION_INT, &settings.width, "D", "features of an image (default 96)", 4, 16384, NULL},
        {"--depth", NULL, OPTION_INT, &settings.depth, "L", "number of blocks (default 4)", 1, 256, NULL},
        {"--heads", NULL, OPTION_INT, &settings.heads, "N", "attention heads (default 4)", 1, 256, NULL},
        {"--patch", NULL, OPTION_INT, &settings.patch, "P", "side of a patch (default: an eighth of the image's)", 1,
         64, &settings.patch_given},
        {"--shift", NULL, OPTION_INT, &settings.shift, "N",
         "move images at random by up to N pixels (default: a sixteenth of the side)", 0, 64, &settings.shift_given},
        {"--lr", NULL, OPTION_DOUBLE, &settings.lr, "X", "learning rate (default 1e-3)", 0, 10, NULL},
        {"--bf16", NULL, OPTION_FLAG, &settings.bf16, NULL, "keep activations in bfloat16: half their memory", 0, 0,
         NULL},
        {"--seed", NULL, OPTION_INT, &settings.seed, "N", "of everything random (default 0)", 0, 9e15, NULL},
        {"--type", NULL, OPTION_CHOICE, &settings.storage, "f32|bf16|int8|int4",
         "in what FILE keeps its numbers (default bf16)", 0, 0, NULL},
        {"--json", NULL, OPTION_FLAG, &settings.json, NULL, "print the result as JSON", 0, 0, NULL},
    };
    *n = sizeof options / sizeof *options;
    return options;
}

// ---- the run -------------------------------------------------------------------------------------------------------

static DitConfig plan_model(const Dataset *dataset) {
    DitConfig config = dit_config_default();
    config.classifier = true;
    config.factored = config.learn_sigma = false;
    config.image_size = dataset->size;
    config.channels = dataset->channels;
    config.n_classes = dataset->n_classes;
    config.width = (int)settings.width;
    config.depth = (int)settings.depth;
    config.heads = (int)settings.heads;
    config.patch = settings.patch_given ? (int)settings.patch : dataset->size / 8 > 0 ? dataset->size / 8 : 1;
    return config;
}

static TrainSettings plan_training(const Dataset *dataset) {
    TrainSettings train = train_settings_default();
    train.batch = BATCH;
    train.steps = settings.steps;
    train.max_seconds = settings.seconds;
    train.lr = settings.lr;
    train.weight_decay = 0.05;
    train.ema_decay = 0.998;
    train.warmup = settings.steps < 2000 ? settings.steps / 10 : 200;
    train.decay = ALL_STEPS;
    train.label_dropout = 0;
    train.shift = settings.shift_given ? (int)settings.shift : dataset->size / 16;
    train.bf16 = settings.bf16;
    train.seed = (uint64_t)settings.seed;
    train.checkpoint_every = 500;
    train.sample_every = 0;
    return train;
}

static KinditStatus find_run(char run[1024], KinditContext *ctx) {
    static const char suffix[] = ".safetensors";
    const size_t length = strlen(settings.output), n = strlen(suffix);
    if (settings.run) return file_path(run, ctx, "%s", settings.run);
    if (length <= n || strcmp(settings.output + length - n, suffix) != 0)
        return context_fail(ctx, KINDIT_ERROR_ARGUMENT, "-o %s: expected a name ending in %s", settings.output, suffix);
    if (file_exists(settings.output))
        return context_fail(ctx, KINDIT_ERROR_ARGUMENT, "%s: exists; choose another name, or remove it first",
                            settings.output);
    return file_path(run, ctx, "%.*s", (int)(length - n), settings.output);
}

// The averaged weights as FILE will have them, opened; RUN/features.safetensors is in between.
static KinditStatus open_trained(Classifier *out, KinditContext *ctx, Engine *engine, const char *run) {
    Model *trained;
    char path[1024];
    TRY(file_path(path, ctx, "%s/features.safetensors", run));
    TRY(model_open_classifier(&trained, ctx, engine, run));
    KinditStatus status = model_write(trained, path, (StorageType)settings.storage, true);
    model_close(&trained);
    return status ? status : classifier_open(out, ctx, engine, path, BATCH);
}

// What was measured goes into the config, among what else is said of the training.
static KinditStatus note_accuracy(const Model *model, KinditContext *ctx, const Accuracy *heldout) {
    cJSON *training = cJSON_GetObjectItemCaseSensitive(model->config, "training");
    cJSON *json = cJSON_AddObjectToObject(training, "heldout");
    if (cJSON_AddNumberToObject(json, "images", (double)heldout->n) &&
        cJSON_AddNumberToObject(json, "correct", (double)heldout->correct))
        return KINDIT_OK;
    return context_fail(ctx, KINDIT_ERROR_MEMORY, "out of memory for the config");
}

// Measures what was trained and writes FILE.
static KinditStatus leave_network(KinditContext *ctx, Engine *engine, const char *run, const Dataset *dataset,
                                  Accuracy *heldout) {
    Classifier classifier;
    TRY(open_trained(&classifier, ctx, engine, run));
    KinditStatus status = accuracy_of_split(heldout, ctx, &classifier, dataset, dataset->heldout);
    if (!status) status = note_accuracy(classifier.model, ctx, heldout);
    if (!status) status = model_write(classifier.model, settings.output, (StorageType)settings.storage, false);
    classifier_close(&classifier);
    return status;
}

static KinditStatus train(KinditContext *ctx, Engine *engine, const Dataset *dataset, char run[1024],
                          TrainResult *result, Accuracy *heldout) {
    const DitConfig config = plan_model(dataset);
    const TrainSettings plan = plan_training(dataset);
    TRY(find_run(run, ctx));
    TrainJob job = train_job_pretrain(&config);
    job.task = "train-features";
    TRY(train_run(ctx, engine, run, dataset->path, &job, &plan, settings.resume, result));
    return result->finished ? leave_network(ctx, engine, run, dataset, heldout) : KINDIT_OK;
}

// ---- the report ----------------------------------------------------------------------------------------------------

static double share(int64_t part, int64_t whole) {
    return whole ? (double)part / (double)whole : 0;
}

static int print_json(const TrainResult *result, const char *run, const Accuracy *heldout, const Dataset *dataset) {
    AccuracyPair worst[WORST];
    cJSON *json = cJSON_CreateObject();
    cJSON_AddStringToObject(json, "run", run);
    cJSON_AddNumberToObject(json, "step", (double)result->step);
    cJSON_AddBoolToObject(json, "finished", result->finished);
    cJSON_AddNumberToObject(json, "loss", result->loss);
    if (!result->finished) return cli_print_json(json);
    cJSON_AddStringToObject(json, "network", settings.output);
    cJSON_AddNumberToObject(json, "heldout_images", (double)heldout->n);
    cJSON_AddNumberToObject(json, "heldout_accuracy", share(heldout->correct, heldout->n));
    cJSON *pairs = cJSON_AddArrayToObject(json, "taken_for_each_other");
    const int n = accuracy_worst_pairs(heldout, worst, WORST);
    for (int i = 0; i < n; i++) {
        cJSON *pair = cJSON_CreateObject();
        cJSON_AddStringToObject(pair, "a", dataset->classes[worst[i].a].id);
        cJSON_AddStringToObject(pair, "b", dataset->classes[worst[i].b].id);
        cJSON_AddNumberToObject(pair, "images", (double)worst[i].n);
        cJSON_AddNumberToObject(pair, "share", worst[i].share);
        cJSON_AddItemToArray(pairs, pair);
    }
    return cli_print_json(json);
}

static int print_result(const TrainResult *result, const char *run, const Accuracy *heldout, const Dataset *dataset) {
    AccuracyPair worst[WORST];
    printf("step %lld%s  loss %.4f  run: %s\n", (long long)result->step,
           result->finished ? "" : " (unfinished: go on with --resume)", result->loss, run);
    if (!result->finished) return EXIT_DONE;
    printf("network: %s\n", settings.output);
    if (heldout->n == 0) {
        printf("held-out accuracy: unknown, %s holds nothing out\n", dataset->path);
        return EXIT_DONE;
    }
    printf("held-out accuracy: %.4f (%lld of %lld)\n", share(heldout->correct, heldout->n), (long long)heldout->correct,
           (long long)heldout->n);
    const int n = accuracy_worst_pairs(heldout, worst, WORST);
    for (int i = 0; i < n; i++)
        printf("  %s and %s taken for each other: %lld, %.0f %% of both\n", dataset->classes[worst[i].a].name,
               dataset->classes[worst[i].b].name, (long long)worst[i].n, 100 * worst[i].share);
    return EXIT_DONE;
}

static int features_run(KinditContext *ctx, int n_positional, char **positional) {
    (void)n_positional, (void)positional;
    if (!settings.data) return cli_usage("eval train-features", "--data DIR is missing");
    if (!settings.output) return cli_usage("eval train-features", "-o FILE is missing");
    char run[1024] = "";
    Engine *engine = NULL;
    Dataset *dataset = NULL;
    TrainResult result = {0};
    Accuracy heldout = {0};
    KinditStatus status = engine_create(&engine, ctx);
    if (!status) status = dataset_open(&dataset, ctx, settings.data);
    progress_limit(settings.seconds);
    if (!status) status = train(ctx, engine, dataset, run, &result, &heldout);
    int code = status          ? cli_report(ctx, status)
               : settings.json ? print_json(&result, run, &heldout, dataset)
                               : print_result(&result, run, &heldout, dataset);
    accuracy_close(&heldout);
    dataset_close(&dataset);
    engine_close(&engine);
    return code;
}

const Command command_eval_train_features = {
    .name = "eval train-features",
    .summary = "train a feature network for a data set that others never saw",
    .arguments = "--data DIR -o FILE.safetensors [options]",
    .examples = "kindit eval train-features --data data/glyphs -o glyph-features.safetensors\n"
                "kindit eval train-features --data data/glyphs -o glyph-features.safetensors --resume",
    .notes =
        "A small classifier (a vision transformer) of the data set's classes, whose features metrics can compare. What "
        "the data set holds out is not trained on: how much of it FILE names rightly is printed and kept in FILE. Only "
        "a run that is finished leaves FILE; to go on with one that was stopped, give the same options with --resume; "
        "--steps may be others, and the learning rate then falls to 0 over those.",
    .options = features_options,
    .run = features_run,
};
