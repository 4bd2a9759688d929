#include "cli/sweep.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "cli/html.h"
#include "cli/sample_check.h"

enum { LEARNGENE_STEPS = 5, LEARNGENE_PARTS = 8 };

typedef struct Sweep {
    const Assembly *assembly;
    const SweepSettings *settings;
    KinditContext *ctx;
    Dataset *dataset;
    char csv[1024], point[1024]; // the table; the model of the point at hand
    FileWriter table;
    SampleCheck check; // of a point
    int done, total;
    double began;
} Sweep;

// ---- a point -------------------------------------------------------------------------------------------------------

// Through a file, so that what is measured is what a reader of it gets.
static KinditStatus measure_accuracy(Sweep *sweep, const BudgetChoice *choice, double *accuracy) {
    Model *model;
    TRY(assembly_write(sweep->assembly, choice, sweep->point, true));
    KinditStatus status = model_open(&model, sweep->ctx, sweep->assembly->parts->engine, sweep->point, NULL);
    unlink(sweep->point);
    if (!status) status = sample_check_run(&sweep->check, model, accuracy);
    model_close(&model);
    return status;
}

// The accuracy goes under the name of its type, so that each type is a line of the plot.
static void write_row(Sweep *sweep, const BudgetChoice *choice, const BudgetCost *cost, double accuracy) {
    const Cut *cut = &choice->cut;
    char bytes[32];
    printf("%9d %6d %6s %10s %9.1f %%\n", cut->n_learngene, cut->n_tailor, storage_name(choice->type),
           cli_format_bytes(bytes, cost->of[BUDGET_BYTES]), 100 * accuracy);
    fflush(stdout);
    fprintf(sweep->table.stream, "%d,%d,%.0f,%d", cut->n_learngene, cut->n_tailor, cost->of[BUDGET_BYTES],
            sweep->check.n);
    for (int i = 0; i < sweep->settings->n_types; i++) {
        fputc(',', sweep->table.stream);
        if (sweep->settings->types[i] == choice->type) fprintf(sweep->table.stream, "%.4f", accuracy);
    }
    fputc('\n', sweep->table.stream);
}

static KinditStatus sweep_point(Sweep *sweep, const BudgetChoice *choice) {
    KinditContext *ctx = sweep->ctx;
    KinditContextSettings own = ctx->settings;
    BudgetCost cost;
    double accuracy = 0;
    char text[64];
    snprintf(text, sizeof text, "learngene %d, %s", choice->cut.n_learngene, storage_name(choice->type));
    KinditProgress progress = {.task = "sweep",
                               .done = sweep->done,
                               .total = sweep->total,
                               .seconds = clock_seconds() - sweep->began,
                               .text = text};
    context_progress(ctx, &progress);
    TRY(assembly_measure(sweep->assembly, choice, &cost));
    ctx->settings.progress = NULL; // one bar for all points
    KinditStatus status = measure_accuracy(sweep, choice, &accuracy);
    ctx->settings = own;
    TRY(status);
    sweep->done++;
    write_row(sweep, choice, &cost, accuracy);
    return KINDIT_OK;
}

// ---- all points ----------------------------------------------------------------------------------------------------

static KinditStatus sweep_types(Sweep *sweep, BudgetChoice choice) {
    for (int step = 0; step < LEARNGENE_STEPS; step++) {
        const int all = sweep->assembly->parts->dit->config.n_learngene;
        choice.cut.n_learngene = all - all * step / LEARNGENE_PARTS;
        TRY(sweep_point(sweep, &choice));
    }
    return KINDIT_OK;
}

// Row after row along a line of the plot: a type, from all of the learngene down.
static KinditStatus sweep_points(Sweep *sweep) {
    BudgetChoice choice = assembly_everything(sweep->assembly);
    int n_tailors = 0;
    for (int t = choice.cut.n_tailor; t > 0; t /= 2) n_tailors++;
    sweep->total = LEARNGENE_STEPS * n_tailors * sweep->settings->n_types;
    printf("%9s %6s %6s %10s %11s\n", "learngene", "tailor", "type", "weights", "accuracy");
    for (int t = choice.cut.n_tailor; t > 0; t /= 2)
        for (int i = 0; i < sweep->settings->n_types; i++) {
            choice.cut.n_tailor = t;
            choice.type = sweep->settings->types[i];
            TRY(sweep_types(sweep, choice));
        }
    return KINDIT_OK;
}

// ---- files ---------------------------------------------------------------------------------------------------------

static KinditStatus write_table(Sweep *sweep) {
    TRY(file_begin(&sweep->table, sweep->ctx, sweep->csv));
    fputs("learngene,tailor,bytes,samples", sweep->table.stream);
    for (int i = 0; i < sweep->settings->n_types; i++)
        fprintf(sweep->table.stream, ",%s", storage_name(sweep->settings->types[i]));
    fputc('\n', sweep->table.stream);
    KinditStatus status = sweep_points(sweep);
    if (!status) return file_commit(&sweep->table, sweep->ctx);
    file_abandon(&sweep->table);
    return status;
}

static KinditStatus write_plot(const Sweep *sweep) {
    char path[1024];
    FileWriter writer;
    cJSON *names = cJSON_CreateArray();
    for (int i = 0; i < sweep->settings->n_types; i++)
        cJSON_AddItemToArray(names, cJSON_CreateString(storage_name(sweep->settings->types[i])));
    KinditStatus status = file_path(path, sweep->ctx, "%s/sweep.svg", sweep->settings->folder);
    if (!status) status = file_begin(&writer, sweep->ctx, path);
    if (!status) {
        status = html_svg_curve(writer.stream, sweep->ctx, sweep->csv, "bytes", names, (HtmlRange){.from_zero = true});
        if (!status)
            status = file_commit(&writer, sweep->ctx);
        else
            file_abandon(&writer);
    }
    cJSON_Delete(names);
    return status;
}

static KinditStatus open_sweep(Sweep *sweep) {
    KinditContext *ctx = sweep->ctx;
    TRY(dataset_open(&sweep->dataset, ctx, sweep->settings->data));
    TRY(sample_check_open(&sweep->check, sweep->assembly->parts, sweep->dataset, sweep->settings->n_per_class));
    TRY(file_make_folder(ctx, sweep->settings->folder));
    TRY(file_path(sweep->csv, ctx, "%s/sweep.csv", sweep->settings->folder));
    return file_path(sweep->point, ctx, "%s/point.%ld.tmp.safetensors", sweep->settings->folder, (long)getpid());
}

KinditStatus sweep_run(const Assembly *assembly, const SweepSettings *settings) {
    Sweep sweep = {.assembly = assembly, .settings = settings, .ctx = assembly->parts->ctx, .began = clock_seconds()};
    KinditStatus status = open_sweep(&sweep);
    if (!status) status = write_table(&sweep);
    if (!status) status = write_plot(&sweep);
    sample_check_close(&sweep.check);
    dataset_close(&sweep.dataset);
    return status;
}
