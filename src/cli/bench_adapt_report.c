// Tables, curves and pictures of what the trials found.
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "cli/bench_adapt.h"
#include "cli/html.h"

enum { MOST_SEEDS = 64, AT_THE_END = -1 };

// ---- means and spreads ---------------------------------------------------------------------------------------------

typedef struct Spread {
    int n;           // seeds that have all that was asked for
    double mean, sd; // over them; sd is that of a sample, 0 of one seed
} Spread;

static const char *text_of(const cJSON *trial, const char *key) {
    const char *text = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(trial, key));
    return text ? text : "";
}

static const cJSON *find_trial(const BenchAdapt *bench, const char *task, const char *method, int64_t seed) {
    const cJSON *trial;
    cJSON_ArrayForEach(trial, bench->trials) {
        const double of = cJSON_GetNumberValue(cJSON_GetObjectItemCaseSensitive(trial, "seed"));
        if ((int64_t)of == seed && strcmp(text_of(trial, "method"), method) == 0 &&
            strcmp(text_of(trial, "task"), task) == 0)
            return trial;
    }
    return NULL;
}

// NaN where the trial has none.
static double value_of(const cJSON *trial, const char *key, int point) {
    const cJSON *from = trial;
    if (point != AT_THE_END) from = cJSON_GetArrayItem(cJSON_GetObjectItemCaseSensitive(trial, "curve"), point);
    return cJSON_GetNumberValue(cJSON_GetObjectItemCaseSensitive(from, key));
}

// Of the mean over tasks (one, or all with `task` NULL), from seed to seed.
static Spread spread_of(const BenchAdapt *bench, const BenchTask *task, const AdaptMethod *method, const char *key,
                        int point) {
    Spread spread = {0};
    double values[MOST_SEEDS], squares = 0;
    for (int64_t seed = 0; seed < bench->settings->seeds && seed < MOST_SEEDS; seed++) {
        double sum = 0;
        for (int i = 0; i < bench->n_tasks; i++) {
            if (task && task != &bench->tasks[i]) continue;
            sum += value_of(find_trial(bench, bench->tasks[i].name, method->name, seed), key, point);
        }
        if (!isnan(sum)) values[spread.n++] = sum / (task ? 1 : bench->n_tasks);
    }
    for (int i = 0; i < spread.n; i++) spread.mean += values[i] / spread.n;
    for (int i = 0; i < spread.n; i++) squares += (values[i] - spread.mean) * (values[i] - spread.mean);
    if (spread.n > 1) spread.sd = sqrt(squares / (spread.n - 1));
    return spread;
}

// ---- tables --------------------------------------------------------------------------------------------------------

// The numbers under their key, and for people under key_shown.
static void add_spread(cJSON *row, const char *key, Spread spread, double scale, int decimals, const char *unit) {
    char name[64], text[96];
    if (!spread.n) return;
    cJSON_AddNumberToObject(row, key, spread.mean);
    snprintf(name, sizeof name, "%s_spread", key);
    if (spread.n > 1) cJSON_AddNumberToObject(row, name, spread.sd);
    snprintf(name, sizeof name, "%s_shown", key);
    if (spread.n > 1)
        snprintf(text, sizeof text, "%.*f ± %.*f%s", decimals, scale * spread.mean, decimals, scale * spread.sd, unit);
    else
        snprintf(text, sizeof text, "%.*f%s", decimals, scale * spread.mean, unit);
    cJSON_AddStringToObject(row, name, text);
}

static cJSON *make_row(const BenchAdapt *bench, const BenchTask *task, const AdaptMethod *method) {
    const Spread parameters = spread_of(bench, task, method, "trainable_params", AT_THE_END);
    cJSON *row = cJSON_CreateObject();
    cJSON_AddStringToObject(row, "method", method->name);
    cJSON_AddStringToObject(row, "base", bench_adapt_is_dense(method) ? "dense" : "kind");
    if (parameters.n) cJSON_AddNumberToObject(row, "trainable_params", parameters.mean);
    cJSON_AddNumberToObject(row, "lr", bench->settings->lr > 0 ? bench->settings->lr : method->lr);
    add_spread(row, "step_seconds", spread_of(bench, task, method, "step_seconds", AT_THE_END), 1e3, 1, " ms");
    add_spread(row, "loss", spread_of(bench, task, method, "loss", AT_THE_END), 1, 4, "");
    add_spread(row, "mse", spread_of(bench, task, method, "mse", AT_THE_END), 1, 4, "");
    add_spread(row, "accuracy", spread_of(bench, task, method, "accuracy", AT_THE_END), 100, 1, " %");
    return row;
}

static void add_table(cJSON *section, const BenchAdapt *bench, const BenchTask *task) {
    static const struct {
        const char *label, *key, *format;
    } columns[] = {{"method", "method", ""},
                   {"from", "base", ""},
                   {"trained", "trainable_params", "count"},
                   {"learning rate", "lr", ""},
                   {"a step", "step_seconds_shown", ""},
                   {"loss", "loss_shown", ""},
                   {"error of epsilon", "mse_shown", ""},
                   {"samples of their class", "accuracy_shown", ""}};
    cJSON *table = cJSON_AddObjectToObject(section, "table");
    cJSON *list = cJSON_AddArrayToObject(table, "columns"), *rows = cJSON_AddArrayToObject(table, "rows");
    for (size_t i = 0; i < sizeof columns / sizeof *columns; i++) {
        cJSON *column = cJSON_CreateObject();
        cJSON_AddStringToObject(column, "label", columns[i].label);
        cJSON_AddStringToObject(column, "key", columns[i].key);
        cJSON_AddStringToObject(column, "format", columns[i].format);
        cJSON_AddItemToArray(list, column);
    }
    for (int m = 0; m < bench->n_methods; m++) cJSON_AddItemToArray(rows, make_row(bench, task, bench->methods[m]));
}

// ---- files ---------------------------------------------------------------------------------------------------------

// Loss against steps, a column for each method: the mean over seeds, and over tasks when `task` is NULL. Of several
// seeds then the spreads.
static void write_curve(FILE *out, const BenchAdapt *bench, const BenchTask *task) {
    const BenchAdaptSettings *settings = bench->settings;
    const int64_t every = (settings->steps + settings->points - 1) / settings->points;
    const int kinds = settings->seeds > 1 ? 2 : 1;
    fputs("step", out);
    for (int i = 0; i < kinds * bench->n_methods; i++)
        fprintf(out, ",%s%s", bench->methods[i % bench->n_methods]->name, i < bench->n_methods ? "" : "_spread");
    for (int point = 0; point * every < settings->steps; point++) {
        const int64_t step = (point + 1) * every;
        fprintf(out, "\n%lld", (long long)(step < settings->steps ? step : settings->steps));
        for (int i = 0; i < kinds * bench->n_methods; i++) {
            const Spread loss = spread_of(bench, task, bench->methods[i % bench->n_methods], "loss", point);
            fputc(',', out);
            if (i < bench->n_methods ? loss.n : loss.n > 1)
                fprintf(out, "%.6g", i < bench->n_methods ? loss.mean : loss.sd);
        }
    }
    fputc('\n', out);
}

// A line for each trial.
static void write_trials(FILE *out, const BenchAdapt *bench, const BenchTask *task) {
    static const char *const texts[] = {"task", "method", "base"};
    static const char *const numbers[] = {"seed", "n_classes", "trainable_params", "lr", "step_seconds",
                                          "loss", "mse",       "accuracy"};
    const cJSON *trial;
    (void)task;
    fputs("task,method,base,seed,n_classes,trainable_params,lr,step_seconds,loss,mse,accuracy\n", out);
    cJSON_ArrayForEach(trial, bench->trials) {
        for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
            fprintf(out, "%s%s", i ? "," : "", text_of(trial, texts[i]));
        for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
            const double value = value_of(trial, numbers[i], AT_THE_END);
            fputc(',', out);
            if (!isnan(value)) fprintf(out, "%.8g", value);
        }
        fputc('\n', out);
    }
}

static KinditStatus write_csv(const BenchAdapt *bench, const char *name, const BenchTask *task,
                              void (*write)(FILE *out, const BenchAdapt *bench, const BenchTask *task)) {
    char path[1024];
    FileWriter writer;
    TRY(file_path(path, bench->ctx, "%s/%s.csv", bench->settings->output, name));
    TRY(file_begin(&writer, bench->ctx, path));
    write(writer.stream, bench, task);
    return file_commit(&writer, bench->ctx);
}

// ---- the page ------------------------------------------------------------------------------------------------------

// Samples of all methods, once there are some, below the rest of the task.
static KinditStatus add_grid(cJSON *sections, const BenchAdapt *bench, const BenchTask *task) {
    char file[128], path[1024], caption[256];
    bool any = false;
    int per_class;
    for (int m = 0; m < bench->n_methods; m++) any = any || find_trial(bench, task->name, bench->methods[m]->name, 0);
    if (!any) return KINDIT_OK;
    snprintf(file, sizeof file, "grids/%s.png", task->name);
    TRY(file_path(path, bench->ctx, "%s/%s", bench->settings->output, file));
    TRY(bench_adapt_grid(bench, task, path, &per_class));
    snprintf(caption, sizeof caption,
             "%d of each class by each method, seed 0; above them images of the data. All samples: trials/%s",
             per_class, task->name);
    cJSON *image = cJSON_CreateObject();
    cJSON_AddStringToObject(image, "file", file);
    cJSON_AddStringToObject(image, "caption", caption);
    cJSON *section = cJSON_CreateObject();
    cJSON_AddItemToArray(sections, section);
    cJSON_AddItemToArray(cJSON_AddArrayToObject(section, "images"), image);
    return KINDIT_OK;
}

// Some methods start far off, and some stay there: the chart shows what lies within twice the least loss.
static void add_limit(cJSON *curve, const BenchAdapt *bench, const BenchTask *task) {
    double least = INFINITY;
    for (int m = 0; m < bench->n_methods; m++) {
        const Spread loss = spread_of(bench, task, bench->methods[m], "loss", AT_THE_END);
        if (loss.n) least = fmin(least, loss.mean);
    }
    if (least < INFINITY) cJSON_AddNumberToObject(curve, "y_high", 2 * least);
}

static KinditStatus add_section(cJSON *sections, const BenchAdapt *bench, const BenchTask *task) {
    char name[128], file[160];
    cJSON *section = cJSON_CreateObject();
    cJSON_AddItemToArray(sections, section);
    snprintf(name, sizeof name, "curves/%s", task ? task->name : "all-tasks");
    snprintf(file, sizeof file, "%s.csv", name);
    TRY(write_csv(bench, name, task, write_curve));
    cJSON_AddStringToObject(section, "heading", task ? task->name : "All tasks");
    if (!task) cJSON_AddStringToObject(section, "text", "Means over the tasks, of seeds that have them all.");
    cJSON *curve = cJSON_AddObjectToObject(section, "curve");
    cJSON_AddStringToObject(curve, "file", file);
    cJSON_AddStringToObject(curve, "x", "step");
    add_limit(curve, bench, task);
    cJSON *y = cJSON_AddArrayToObject(curve, "y");
    for (int m = 0; m < bench->n_methods; m++) cJSON_AddItemToArray(y, cJSON_CreateString(bench->methods[m]->name));
    add_table(section, bench, task);
    return task ? add_grid(sections, bench, task) : KINDIT_OK;
}

static void describe(cJSON *spec, const BenchAdapt *bench) {
    const BenchAdaptSettings *settings = bench->settings;
    char text[1536];
    snprintf(
        text, sizeof text,
        "Each method adapts its base model to each task in %lld steps of %lld images, with %lld seed%s; the "
        "learning rate is %s. Loss: DiT's, of the averaged weights on %lld held-out images with the same noise and "
        "timesteps for all. Samples of their class: of %lld drawn of each class (DDIM, 25 steps, guidance 1.5), "
        "those whose nearest training image of the task, by pixels, is of the class. After a ±, and as bands in "
        "the charts: the standard deviation from seed to seed. Charts end at twice the least loss.",
        (long long)settings->steps, (long long)settings->batch, (long long)settings->seeds,
        settings->seeds > 1 ? "s" : "", settings->lr > 0 ? "one for all" : "the method's own",
        (long long)settings->heldout, (long long)settings->n_per_class);
    cJSON_AddStringToObject(spec, "title", "Methods of fine-tuning, side by side");
    cJSON_AddStringToObject(spec, "text", text);
}

static KinditStatus write_page(const BenchAdapt *bench, cJSON *spec) {
    char json[1024], html[1024];
    cJSON *sections = cJSON_AddArrayToObject(spec, "sections");
    TRY(add_section(sections, bench, NULL));
    for (int i = 0; i < bench->n_tasks; i++) TRY(add_section(sections, bench, &bench->tasks[i]));
    TRY(file_path(json, bench->ctx, "%s/report.json", bench->settings->output));
    TRY(file_path(html, bench->ctx, "%s/report.html", bench->settings->output));
    TRY(json_write(bench->ctx, json, spec));
    return html_report(bench->ctx, json, html);
}

KinditStatus bench_adapt_report(const BenchAdapt *bench, cJSON **summary) {
    char curves[1024], grids[1024];
    TRY(file_path(curves, bench->ctx, "%s/curves", bench->settings->output));
    TRY(file_path(grids, bench->ctx, "%s/grids", bench->settings->output));
    TRY(file_make_folder(bench->ctx, curves));
    TRY(file_make_folder(bench->ctx, grids));
    TRY(write_csv(bench, "results", NULL, write_trials));
    cJSON *spec = cJSON_CreateObject();
    describe(spec, bench);
    KinditStatus status = write_page(bench, spec);
    if (summary) {
        const cJSON *first = cJSON_GetArrayItem(cJSON_GetObjectItem(spec, "sections"), 0);
        *summary = cJSON_Duplicate(cJSON_GetObjectItem(cJSON_GetObjectItem(first, "table"), "rows"), true);
    }
    cJSON_Delete(spec);
    return status;
}
