#include "cli/sweep.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "cli/html.h"
#include "data/dataset.h"
#include "diffusion/sampler.h"
#include "metrics/nearest.h"

enum { LEARNGENE_STEPS = 5, LEARNGENE_PARTS = 8 };

typedef struct Sweep {
    const Assembly *assembly;
    const SweepSettings *settings;
    KinditContext *ctx;
    Dataset *dataset;
    char csv[1024], point[1024]; // the table; the model of the point at hand
    FileWriter table;
    int n; // samples of a point
    int *labels, *dataset_labels;
    float *images;
    uint8_t *pixels;
    int done, total;
    double began;
} Sweep;

// ---- a point -------------------------------------------------------------------------------------------------------

static KinditStatus measure_samples(Sweep *sweep, const Model *model, double *accuracy) {
    const DitConfig *config = &model->dit->config;
    SamplerSettings sampling = sampler_settings_default();
    NearestResult result = {0};
    sampling.method = SAMPLER_DDIM;
    sampling.steps = 25;
    TRY(sampler_run(model, &sampling, 0, sweep->n, sweep->labels, sweep->images));
    sampler_to_pixels(sweep->images, sweep->n, config->channels, config->image_size, sweep->pixels);
    TRY(nearest_measure(&result, sweep->ctx, model->engine, sweep->dataset, sweep->dataset->train, sweep->n,
                        sweep->pixels, sweep->dataset_labels));
    *accuracy = (double)result.correct / (double)result.n;
    nearest_close(&result);
    return KINDIT_OK;
}

// Through a file, so that what is measured is what a reader of it gets.
static KinditStatus measure_accuracy(Sweep *sweep, const BudgetChoice *choice, double *accuracy) {
    Model *model;
    TRY(assembly_write(sweep->assembly, choice, sweep->point, true));
    KinditStatus status = model_open(&model, sweep->ctx, sweep->assembly->parts->engine, sweep->point, NULL);
    unlink(sweep->point);
    if (!status) status = measure_samples(sweep, model, accuracy);
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
    fprintf(sweep->table.stream, "%d,%d,%.0f,%d", cut->n_learngene, cut->n_tailor, cost->of[BUDGET_BYTES], sweep->n);
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
        status = html_svg_curve(writer.stream, sweep->ctx, sweep->csv, "bytes", names, true);
        if (!status)
            status = file_commit(&writer, sweep->ctx);
        else
            file_abandon(&writer);
    }
    cJSON_Delete(names);
    return status;
}

static KinditStatus choose_labels(Sweep *sweep) {
    const Model *parts = sweep->assembly->parts;
    const int per_class = sweep->settings->n_per_class;
    for (int c = 0; c < parts->dit->config.n_classes; c++) {
        const int found = dataset_find_class(sweep->dataset, parts->classes[c].id);
        if (found < 0)
            return context_fail(sweep->ctx, KINDIT_ERROR_ARGUMENT, "%s: has no class \"%s\", which the model draws",
                                sweep->settings->data, parts->classes[c].id);
        for (int i = 0; i < per_class; i++) {
            sweep->labels[c * per_class + i] = c;
            sweep->dataset_labels[c * per_class + i] = found;
        }
    }
    return KINDIT_OK;
}

static KinditStatus open_sweep(Sweep *sweep) {
    KinditContext *ctx = sweep->ctx;
    const DitConfig *config = &sweep->assembly->parts->dit->config;
    const int64_t n = (int64_t)config->n_classes * sweep->settings->n_per_class;
    const size_t image = (size_t)config->channels * (size_t)config->image_size * (size_t)config->image_size;
    if (n < 1 || n > INT32_MAX)
        return context_fail(ctx, KINDIT_ERROR_ARGUMENT, "a sweep of %lld samples a point cannot be", (long long)n);
    TRY(dataset_open(&sweep->dataset, ctx, sweep->settings->data));
    if (sweep->dataset->latents || sweep->dataset->size != config->image_size ||
        sweep->dataset->channels != config->channels)
        return context_fail(ctx, KINDIT_ERROR_ARGUMENT,
                            "%s: expected images of %d x %d, %d channels, as the model draws", sweep->settings->data,
                            config->image_size, config->image_size, config->channels);
    sweep->n = (int)n;
    TRY(memory_alloc(ctx, (size_t)n, sizeof *sweep->labels, &sweep->labels));
    TRY(memory_alloc(ctx, (size_t)n, sizeof *sweep->dataset_labels, &sweep->dataset_labels));
    TRY(memory_alloc(ctx, (size_t)n, image * sizeof *sweep->images, &sweep->images));
    TRY(memory_alloc(ctx, (size_t)n, image, &sweep->pixels));
    TRY(choose_labels(sweep));
    TRY(file_make_folder(ctx, sweep->settings->folder));
    TRY(file_path(sweep->csv, ctx, "%s/sweep.csv", sweep->settings->folder));
    return file_path(sweep->point, ctx, "%s/point.%ld.tmp.safetensors", sweep->settings->folder, (long)getpid());
}

KinditStatus sweep_run(const Assembly *assembly, const SweepSettings *settings) {
    Sweep sweep = {.assembly = assembly, .settings = settings, .ctx = assembly->parts->ctx, .began = clock_seconds()};
    KinditStatus status = open_sweep(&sweep);
    if (!status) status = write_table(&sweep);
    if (!status) status = write_plot(&sweep);
    memory_free(&sweep.labels);
    memory_free(&sweep.dataset_labels);
    memory_free(&sweep.images);
    memory_free(&sweep.pixels);
    dataset_close(&sweep.dataset);
    return status;
}
