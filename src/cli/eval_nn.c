// The class accuracy of the 1-nearest neighbour in pixel space.
#include <stdio.h>

#include "cli/cli.h"
#include "data/sample_batch.h"
#include "metrics/nearest.h"

enum { SPLIT_TRAIN, SPLIT_HELDOUT };

static struct {
    const char *data;
    int64_t reference, queries;
    bool queries_given, json;
} settings;

static const Option *nn_options(int *n) {
    static const Option options[] = {
        {"--data", NULL, OPTION_STRING, &settings.data, "DIR", "the data set to measure against (required)", 0, 0,
         NULL},
        {"--reference", NULL, OPTION_CHOICE, &settings.reference, "train|heldout",
         "the split that neighbours come from (default train)", 0, 0, NULL},
        {"--queries", NULL, OPTION_CHOICE, &settings.queries, "train|heldout",
         "measure the real images of a split in place of SAMPLES", 0, 0, &settings.queries_given},
        {"--json", NULL, OPTION_FLAG, &settings.json, NULL, "print JSON", 0, 0, NULL},
    };
    *n = sizeof options / sizeof *options;
    return options;
}

static DatasetSplit split_of(const Dataset *dataset, int64_t which) {
    return which == SPLIT_HELDOUT ? dataset->heldout : dataset->train;
}

static KinditStatus measure_split(NearestResult *out, KinditContext *ctx, Engine *engine, const Dataset *dataset) {
    DatasetSplit queries = split_of(dataset, settings.queries);
    if (dataset->latents || queries.count == 0)
        return context_fail(ctx, KINDIT_ERROR_ARGUMENT, "%s: has no images in the split asked for", dataset->path);
    int *labels;
    TRY(memory_alloc(ctx, (size_t)queries.count, sizeof *labels, &labels));
    for (int64_t i = 0; i < queries.count; i++) labels[i] = dataset_label(dataset, queries.first + i);
    size_t n_bytes = (size_t)dataset->size * (size_t)dataset->size * (size_t)dataset->channels;
    const uint8_t *pixels = (const uint8_t *)dataset->images.array.data + (size_t)queries.first * n_bytes;
    KinditStatus status = nearest_measure(out, ctx, engine, dataset, split_of(dataset, settings.reference),
                                          queries.count, pixels, labels);
    memory_free(&labels);
    return status;
}

static KinditStatus measure_samples(NearestResult *out, KinditContext *ctx, Engine *engine, const Dataset *dataset,
                                    const char *path) {
    SampleBatch batch;
    TRY(sample_batch_open(&batch, ctx, path, dataset));
    KinditStatus status = nearest_measure(out, ctx, engine, dataset, split_of(dataset, settings.reference), batch.n,
                                          sample_batch_pixels(&batch), batch.labels);
    sample_batch_close(&batch);
    return status;
}

static double share(int64_t part, int64_t whole) {
    return whole ? (double)part / (double)whole : 0.0;
}

static int print_json(const NearestResult *result, const Dataset *dataset, const char *queries) {
    cJSON *json = cJSON_CreateObject();
    cJSON_AddStringToObject(json, "metric", "1-NN class accuracy, squared Euclidean distance of pixels");
    cJSON_AddStringToObject(json, "queries", queries);
    cJSON_AddStringToObject(json, "data", dataset->path);
    cJSON_AddStringToObject(json, "reference", settings.reference == SPLIT_HELDOUT ? "heldout" : "train");
    cJSON_AddNumberToObject(json, "n_reference", (double)split_of(dataset, settings.reference).count);
    cJSON_AddNumberToObject(json, "n", (double)result->n);
    cJSON_AddNumberToObject(json, "correct", (double)result->correct);
    cJSON_AddNumberToObject(json, "accuracy", share(result->correct, result->n));
    cJSON *classes = cJSON_AddArrayToObject(json, "classes");
    for (int c = 0; c < result->n_classes; c++) {
        if (result->per_class_n[c] == 0) continue;
        cJSON *item = cJSON_CreateObject();
        cJSON_AddStringToObject(item, "id", dataset->classes[c].id);
        cJSON_AddNumberToObject(item, "n", (double)result->per_class_n[c]);
        cJSON_AddNumberToObject(item, "accuracy", share(result->per_class_correct[c], result->per_class_n[c]));
        cJSON_AddItemToArray(classes, item);
    }
    return cli_print_json(json);
}

static int print_table(const NearestResult *result, const Dataset *dataset, const char *queries) {
    printf("1-NN class accuracy of %s: %.4f (%lld of %lld), neighbours from %lld %s images of %s\n", queries,
           share(result->correct, result->n), (long long)result->correct, (long long)result->n,
           (long long)split_of(dataset, settings.reference).count,
           settings.reference == SPLIT_HELDOUT ? "held-out" : "training", dataset->path);
    for (int c = 0; c < result->n_classes; c++)
        if (result->per_class_n[c])
            printf("  %-24s %.4f  %lld\n", dataset->classes[c].name,
                   share(result->per_class_correct[c], result->per_class_n[c]), (long long)result->per_class_n[c]);
    return EXIT_DONE;
}

static int nn_run(KinditContext *ctx, int n_positional, char **positional) {
    if (!settings.data) return cli_usage("eval nn", "--data DIR is missing");
    if ((n_positional == 1) == settings.queries_given)
        return cli_usage("eval nn", "give either SAMPLES.npz or --queries SPLIT");
    if (settings.queries_given && settings.queries == settings.reference)
        return cli_usage("eval nn", "an image is its own nearest neighbour: --queries and --reference must differ");
    Engine *engine = NULL;
    Dataset *dataset = NULL;
    NearestResult result = {0};
    KinditStatus status = engine_create(&engine, ctx);
    if (!status) status = dataset_open(&dataset, ctx, settings.data);
    if (!status && settings.queries_given) status = measure_split(&result, ctx, engine, dataset);
    if (!status && !settings.queries_given) status = measure_samples(&result, ctx, engine, dataset, positional[0]);
    const char *queries = !settings.queries_given             ? positional[0]
                          : settings.queries == SPLIT_HELDOUT ? "heldout"
                                                              : "train";
    int code = status          ? cli_report(ctx, status)
               : settings.json ? print_json(&result, dataset, queries)
                               : print_table(&result, dataset, queries);
    nearest_close(&result);
    dataset_close(&dataset);
    engine_close(&engine);
    return code;
}

const Command command_eval_nn = {
    .name = "eval nn",
    .summary = "is the nearest real image of the same class?",
    .arguments = "(SAMPLES.npz | --queries SPLIT) --data DIR [options]",
    .examples = "kindit eval nn samples.npz --data data/glyphs\n"
                "kindit eval nn --queries heldout --data data/glyphs --json",
    .notes =
        "The class accuracy of the 1-nearest neighbour in pixel space, overall and per class. The figure of real "
        "held-out images (--queries heldout) is what samples are compared with. SAMPLES.npz comes from `kindit sample "
        "-o SAMPLES.npz`; its classes are matched by id.",
    .max_positional = 1,
    .options = nn_options,
    .run = nn_run,
};
