#include "cli/bench_adapt.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/json.h"
#include "cli/progress.h"

static BenchAdaptSettings settings = {
    .seeds = 3, .steps = 400, .base_steps = 4000, .batch = 64, .points = 8, .heldout = 512, .n_per_class = 20};

static const Option *bench_adapt_options(int *n) {
    static const Option options[] = {
        {"--output", "-o", OPTION_STRING, &settings.output, "DIR", "folder of the comparison (required)", 0, 0, NULL},
        {"--base-kind", NULL, OPTION_STRING, &settings.base_kind, "MODEL",
         "with a learngene, to start from (default: pre-trained on upper-case letters and digits)", 0, 0, NULL},
        {"--base-dense", NULL, OPTION_STRING, &settings.base_dense, "MODEL",
         "dense, to start from (default: pre-trained likewise)", 0, 0, NULL},
        {"--base-steps", NULL, OPTION_INT, &settings.base_steps, "N", "of pre-training (default 4000)", 1, 1e9, NULL},
        {"--methods", NULL, OPTION_STRING, &settings.methods, "A,B", "of `kindit adapt` (default: all)", 0, 0, NULL},
        {"--seeds", NULL, OPTION_INT, &settings.seeds, "N", "0 .. N-1 (default 3)", 1, 64, NULL},
        {"--steps", NULL, OPTION_INT, &settings.steps, "N", "of each trial (default 400)", 1, 1e9, NULL},
        {"--batch", NULL, OPTION_INT, &settings.batch, "N", "samples per step (default 64)", 1, 65536, NULL},
        {"--lr", NULL, OPTION_DOUBLE, &settings.lr, "X", "learning rate of all methods (default: each one's own)", 1e-9,
         10, NULL},
        {"--points", NULL, OPTION_INT, &settings.points, "N", "of each curve (default 8)", 1, 1000, NULL},
        {"--heldout", NULL, OPTION_INT, &settings.heldout, "N", "held-out images to measure the loss on (default 512)",
         1, 1e6, NULL},
        {"--n", NULL, OPTION_INT, &settings.n_per_class, "N", "samples to draw of each class (default 20)", 1, 1000,
         NULL},
        {"--time", NULL, OPTION_DOUBLE, &settings.max_seconds, "SECONDS",
         "stop after this long; the same command goes on (default: no limit)", 0, 1e9, NULL},
        {"--json", NULL, OPTION_FLAG, &settings.json, NULL, "print the table of all tasks as JSON", 0, 0, NULL},
    };
    *n = sizeof options / sizeof *options;
    return options;
}

// ---- what is to be compared ----------------------------------------------------------------------------------------

static KinditStatus add_method(BenchAdapt *bench, const char *name) {
    if (bench->n_methods == BENCH_ADAPT_METHODS)
        return context_fail(bench->ctx, KINDIT_ERROR_ARGUMENT, "at most %d methods side by side", BENCH_ADAPT_METHODS);
    return adapt_method_find(&bench->methods[bench->n_methods++], bench->ctx, name);
}

static KinditStatus choose_methods(BenchAdapt *bench) {
    char name[64];
    if (!settings.methods)
        for (int i = 0; i < n_adapt_methods; i++) TRY(add_method(bench, adapt_methods[i].name));
    for (const char *at = settings.methods; at && *at;) {
        const size_t length = strcspn(at, ",");
        snprintf(name, sizeof name, "%.*s", (int)(length < sizeof name ? length : sizeof name - 1), at);
        TRY(add_method(bench, name));
        at += length + (at[length] == ',');
    }
    return KINDIT_OK;
}

// A task is called as its folder.
static KinditStatus choose_tasks(BenchAdapt *bench, int n, char **folders) {
    for (int i = 0; i < n; i++) {
        BenchTask *task = &bench->tasks[bench->n_tasks++];
        size_t length = strlen(folders[i]), begin;
        while (length > 1 && folders[i][length - 1] == '/') length--;
        for (begin = length; begin > 0 && folders[i][begin - 1] != '/';) begin--;
        TRY(file_path(task->path, bench->ctx, "%s", folders[i]));
        snprintf(task->name, sizeof task->name, "%.*s", (int)(length - begin), folders[i] + begin);
        for (int j = 0; j < i; j++)
            if (strcmp(bench->tasks[j].name, task->name) == 0)
                return context_fail(bench->ctx, KINDIT_ERROR_ARGUMENT,
                                    "%s and %s: two tasks of one name, which names their files: rename one",
                                    bench->tasks[j].path, folders[i]);
    }
    return KINDIT_OK;
}

static cJSON *describe(void) {
    cJSON *json = cJSON_CreateObject();
    cJSON_AddNumberToObject(json, "steps", (double)settings.steps);
    cJSON_AddNumberToObject(json, "base_steps", (double)settings.base_steps);
    cJSON_AddNumberToObject(json, "batch", (double)settings.batch);
    cJSON_AddNumberToObject(json, "lr", settings.lr);
    cJSON_AddNumberToObject(json, "points", (double)settings.points);
    cJSON_AddNumberToObject(json, "heldout", (double)settings.heldout);
    cJSON_AddNumberToObject(json, "n_per_class", (double)settings.n_per_class);
    cJSON_AddStringToObject(json, "base_kind", settings.base_kind ? settings.base_kind : "");
    cJSON_AddStringToObject(json, "base_dense", settings.base_dense ? settings.base_dense : "");
    return json;
}

static KinditStatus compare(KinditContext *ctx, const char *path, const cJSON *old, const cJSON *asked) {
    const cJSON *item;
    cJSON_ArrayForEach(item, asked) {
        const cJSON *had = cJSON_GetObjectItemCaseSensitive(old, item->string);
        if (had && cJSON_Compare(had, item, true)) continue;
        return context_fail(ctx, KINDIT_ERROR_ARGUMENT,
                            "%s: the comparison was begun with another %s: ask for the same, or choose another folder",
                            path, item->string);
    }
    return KINDIT_OK;
}

// Trials stand side by side only if they were made alike; methods, tasks and seeds may be added.
static KinditStatus open_folder(KinditContext *ctx) {
    char path[1024];
    cJSON *old = NULL, *asked = describe();
    KinditStatus status = file_make_folder(ctx, settings.output);
    if (!status) status = file_path(path, ctx, "%s/comparison.json", settings.output);
    if (!status && file_exists(path)) {
        status = json_read(&old, ctx, path);
        if (!status) status = compare(ctx, path, old, asked);
    } else if (!status) {
        status = json_write(ctx, path, asked);
    }
    cJSON_Delete(old);
    cJSON_Delete(asked);
    return status;
}

// ---- all trials ----------------------------------------------------------------------------------------------------

// Seed after seed, so that one that is done is a whole comparison. *finished false: time was up.
static KinditStatus run_trials(BenchAdapt *bench, bool *finished) {
    const int per_seed = bench->n_tasks * bench->n_methods;
    for (int64_t i = 0; i < settings.seeds * per_seed; i++) {
        const BenchTask *task = &bench->tasks[i % per_seed / bench->n_methods];
        cJSON *trial;
        TRY(bench_adapt_trial(&trial, bench, task, bench->methods[i % bench->n_methods], i / per_seed));
        bench->n_done++;
        *finished = trial != NULL;
        if (!*finished) return KINDIT_OK;
        cJSON_AddItemToArray(bench->trials, trial);
        TRY(bench_adapt_report(bench, NULL));
    }
    return KINDIT_OK;
}

static int print_summary(cJSON *summary, bool finished) {
    static const char *const keys[] = {"step_seconds_shown", "loss_shown", "accuracy_shown"};
    const cJSON *row;
    char count[32];
    if (settings.json) return cli_print_json(summary);
    printf("%-16s %-6s %9s %18s %20s %20s\n", "method", "from", "trained", "a step", "loss", "of their class");
    cJSON_ArrayForEach(row, summary) {
        const cJSON *trained = cJSON_GetObjectItem(row, "trainable_params");
        printf("%-16s %-6s %9s", cJSON_GetStringValue(cJSON_GetObjectItem(row, "method")),
               cJSON_GetStringValue(cJSON_GetObjectItem(row, "base")),
               trained ? cli_format_count(count, trained->valuedouble) : "-");
        for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
            const char *shown = cJSON_GetStringValue(cJSON_GetObjectItem(row, keys[i]));
            const int width = i ? 20 : 18, letters = shown && strstr(shown, "±") ? 1 : 0; // two bytes, one column
            printf(" %*s", width + letters, shown ? shown : "-");
        }
        putchar('\n');
    }
    printf("%s/report.html%s\n", settings.output, finished ? "" : " (unfinished: the same command goes on)");
    cJSON_Delete(summary);
    return EXIT_DONE;
}

static int bench_adapt_run(KinditContext *ctx, int n_positional, char **positional) {
    if (!settings.output) return cli_usage("bench adapt", "-o DIR is missing");
    BenchAdapt bench = {.ctx = ctx, .settings = &settings, .trials = cJSON_CreateArray(), .began = clock_seconds()};
    cJSON *summary = NULL;
    bool finished = true;
    KinditStatus status = choose_methods(&bench);
    if (!status) status = choose_tasks(&bench, n_positional, positional);
    if (!status) status = engine_create(&bench.engine, ctx);
    if (!status) status = open_folder(ctx);
    if (!status) status = bench_adapt_prepare(&bench);
    if (!status) status = run_trials(&bench, &finished);
    progress_finish();
    if (!status) status = bench_adapt_report(&bench, &summary);
    engine_close(&bench.engine);
    cJSON_Delete(bench.trials);
    return status ? cli_report(ctx, status) : print_summary(summary, finished);
}

const Command command_bench_adapt = {
    .name = "bench adapt",
    .summary = "compare the methods of fine-tuning: loss, class accuracy, trained parameters, time",
    .arguments = "[TASK...] -o DIR [options]",
    .examples = "kindit bench adapt -o out/adapt\n"
                "kindit bench adapt --methods kind,full --steps 100 --seeds 1 -o out/quick\n"
                "kindit bench adapt data/lower data/fashion --base-kind runs/kind --base-dense runs/dense -o out/own",
    .notes =
        "Every method adapts the same base models to each TASK (a data set with held-out images), in equal steps, once "
        "for each seed. Without TASK: lower-case letters in five tasks, and Fashion-MNIST (Debian's "
        "dataset-fashion-mnist). Methods that take a dense model start from the dense base, the others from the one "
        "with a learngene. DIR/report.html has tables, curves of the loss on held-out images and grids of samples; "
        "DIR/results.csv a line for each trial.\n"
        "Ctrl-C loses nothing: the same command goes on where it was, and may ask for more methods, tasks or seeds.",
    .max_positional = BENCH_ADAPT_TASKS,
    .options = bench_adapt_options,
    .run = bench_adapt_run,
};
