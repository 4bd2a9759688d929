// How sure a classifier is of real images, of what a plain model draws, of what the decomposable one draws, and of what
// its learngene draws alone: the paper's Table 5, as a table, a plot and grids of the images.
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "cli/eval.h"
#include "cli/html_bars.h"
#include "cli/progress.h"
#include "cli/sample_options.h"
#include "formats/grid.h"

enum { ROWS_MOST = 4, GRID_ROWS = 8, GRID_COLUMNS = 8 };

static struct { const char *data, *plain, *output; } settings;

static const Option *activations_options(int *n) {
    static const Option own[] = {
        {"--data", NULL, OPTION_STRING, &settings.data, "DIR", "the data set of the real images (required)", 0, 0,
         NULL},
        {"--plain", NULL, OPTION_STRING, &settings.plain, "MODEL",
         "a plain model (`kindit pretrain --kind off`) to be measured beside the decomposable one", 0, 0, NULL},
        {"--output", "-o", OPTION_STRING, &settings.output, "DIR",
         "folder for report, table, plot and grids (required)", 0, 0, NULL},
    };
    static Option all[EVAL_OPTIONS];
    *n = eval_join_options(all, own, sizeof own / sizeof *own);
    return all;
}

typedef struct Row {
    const char *key, *name;
    Side side;
    ProbabilityStatistics statistics;
} Row;

typedef struct Activations {
    KinditContext *ctx;
    Looker looker;
    Row rows[ROWS_MOST];
    int n_rows;
} Activations;

// ---- grids ---------------------------------------------------------------------------------------------------------

// Some images of a side: a row for each of its first classes that has any; of images without classes, the first.
typedef struct Pictures {
    int rows, columns; // at most GRID_ROWS and GRID_COLUMNS
    bool labelled;     // is a row of one class?
    int size, channels;
    int n, of_class[GRID_ROWS];
    uint8_t *pixels; // (rows, columns, size, size, channels), zero where there is none
} Pictures;

// What the learngene draws alone is of no class, whatever it was asked for.
static bool has_classes(const Side *side) {
    return side->n_classes > 0 && !(side->model && side->sampler.no_tailors && !side->sampler.keep_label_rows);
}

static void plan_pictures(Pictures *out, const Side *side) {
    int n_of[GRID_ROWS] = {0};
    *out = (Pictures){.columns = GRID_COLUMNS};
    out->rows = side->n < GRID_ROWS * GRID_COLUMNS ? (int)(side->n + GRID_COLUMNS - 1) / GRID_COLUMNS : GRID_ROWS;
    for (int64_t i = 0; i < side->n && has_classes(side); i++) {
        const int label = feature_set_label(side->set, i);
        if (label >= 0 && label < GRID_ROWS) n_of[label]++;
    }
    int most = 0;
    for (int r = 0; r < GRID_ROWS; r++)
        if (n_of[r] > most) most = n_of[r];
    if (most == 0) return;
    out->labelled = true;
    out->rows = side->n_classes < GRID_ROWS ? side->n_classes : GRID_ROWS;
    out->columns = most < GRID_COLUMNS ? most : GRID_COLUMNS;
}

static KinditStatus place_picture(Pictures *out, const Side *side, KinditContext *ctx, const Image *image, int label) {
    const size_t bytes = (size_t)image->width * (size_t)image->height * (size_t)image->channels;
    if (!out->pixels) {
        out->size = image->width;
        out->channels = image->channels;
        TRY(memory_alloc(ctx, (size_t)(out->rows * out->columns), bytes, &out->pixels));
    }
    if (image->width != out->size || image->height != out->size || image->channels != out->channels)
        return context_fail(ctx, KINDIT_ERROR_UNSUPPORTED,
                            "%s: images of several shapes make no grid; import them with `kindit data folder`",
                            side->path);
    const int at = out->labelled ? label * out->columns + out->of_class[label]++ : out->n;
    memcpy(out->pixels + (size_t)at * bytes, image->pixels, bytes);
    out->n++;
    return KINDIT_OK;
}

// Is there a place left for an image of that class?
static bool is_wanted(const Pictures *pictures, int label) {
    if (!pictures->labelled) return pictures->n < pictures->rows * pictures->columns;
    return label >= 0 && label < pictures->rows && pictures->of_class[label] < pictures->columns;
}

// The first that were drawn come 8 of a class in a row.
static KinditStatus draw_pictures(Pictures *out, KinditContext *ctx, const Side *side) {
    enum { MOST = GRID_ROWS * GRID_COLUMNS };
    const ExtractDrawing drawing = side_drawing(side);
    const DitConfig *config = &side->model->dit->config;
    const size_t bytes = (size_t)config->image_size * (size_t)config->image_size * (size_t)config->channels;
    const int n = side->n < MOST ? (int)side->n : MOST;
    int labels[MOST];
    uint8_t *pixels;
    TRY(memory_alloc(ctx, MOST, bytes, &pixels));
    KinditStatus status = extract_draw(&drawing, ctx, n, labels, pixels);
    for (int i = 0; i < n && !status; i++) {
        const Image image = {config->image_size, config->image_size, config->channels, pixels + (size_t)i * bytes};
        if (is_wanted(out, labels[i])) status = place_picture(out, side, ctx, &image, labels[i]);
    }
    memory_free(&pixels);
    return status;
}

static KinditStatus take_pictures(Pictures *out, KinditContext *ctx, const Side *side) {
    for (int64_t i = 0; i < side->n && out->n < out->rows * out->columns; i++) {
        const int label = image_source_label(side->source, i);
        Image image;
        if (!is_wanted(out, label)) continue;
        TRY(image_source_read(side->source, ctx, i, &image));
        KinditStatus status = place_picture(out, side, ctx, &image, label);
        image_close(&image);
        TRY(status);
    }
    return KINDIT_OK;
}

static KinditStatus write_grid(const Activations *all, const Row *row) {
    const Side *side = &row->side;
    const char *captions[GRID_ROWS];
    char path[1024];
    Pictures pictures;
    Image page = {0};
    plan_pictures(&pictures, side);
    KinditStatus status =
        side->model ? draw_pictures(&pictures, all->ctx, side) : take_pictures(&pictures, all->ctx, side);
    for (int r = 0; r < GRID_ROWS; r++)
        captions[r] = pictures.labelled && r < pictures.rows ? side->classes[r].name : "";
    const Grid grid = {pictures.size, pictures.channels, pictures.rows, pictures.columns, captions, pictures.pixels};
    if (!status) status = file_path(path, all->ctx, "%s/%s.png", settings.output, row->key);
    if (!status) status = grid_draw(&page, all->ctx, &grid);
    if (!status) status = image_write_png(all->ctx, path, &page);
    image_close(&page);
    memory_free(&pictures.pixels);
    return status;
}

// ---- rows ----------------------------------------------------------------------------------------------------------

// n: images of it, 0 for all that exist. A row that cannot be opened is closed with the others.
static KinditStatus open_row(Activations *all, const char *path, const KinditSampleSettings *drawing, int64_t n,
                             const char *key, const char *name) {
    Row *row = &all->rows[all->n_rows++];
    row->key = key;
    row->name = name;
    return side_open(&row->side, &all->looker, path, drawing, (SourceSplit)eval_settings.split, n);
}

// All at once: what cannot be opened is said before anything is drawn. Tailors are shut for the last row alone,
// whatever the options of drawing say.
static KinditStatus open_rows(Activations *all, const char *model) {
    KinditSampleSettings drawing = sample_options_settings(), shut = drawing;
    const int64_t n = eval_settings.n;
    drawing.no_tailors = drawing.keep_label_rows = false;
    shut.no_tailors = true;
    TRY(open_row(all, settings.data, &drawing, 0, "images", "raw images"));
    if (settings.plain) TRY(open_row(all, settings.plain, &drawing, n, "plain", "plain model"));
    TRY(open_row(all, model, &drawing, n, "whole", "learngene and tailors"));
    return open_row(all, model, &shut, n, "learngene", "learngene alone");
}

static KinditStatus measure_row(Activations *all, Row *row) {
    FeatureRows logits;
    TRY(side_extract(&row->side, &all->looker, row->name));
    TRY(feature_set_rows(&logits, row->side.set, FEATURE_LOGITS, NULL, row->side.n));
    KinditStatus status = probability_statistics(&row->statistics, all->ctx, &logits);
    feature_rows_close(&logits);
    return status ? context_prefix(all->ctx, status, row->name) : write_grid(all, row);
}

// ---- the files -----------------------------------------------------------------------------------------------------

static KinditStatus commit_or_abandon(FileWriter *writer, KinditContext *ctx, KinditStatus status) {
    if (!status) return file_commit(writer, ctx);
    file_abandon(writer);
    return status;
}

static void write_plot(FILE *out, const Activations *all) {
    double values[3][ROWS_MOST];
    const char *names[ROWS_MOST];
    for (int r = 0; r < all->n_rows; r++) {
        names[r] = all->rows[r].name;
        values[0][r] = all->rows[r].statistics.entropy;
        values[1][r] = all->rows[r].statistics.variance;
        values[2][r] = all->rows[r].statistics.kurtosis;
    }
    const HtmlBars groups[3] = {{"entropy", values[0]}, {"variance", values[1]}, {"kurtosis", values[2]}};
    html_svg_bars(out, groups, 3, names, all->n_rows);
}

static KinditStatus write_svg(const Activations *all) {
    char path[1024];
    FileWriter writer;
    TRY(file_path(path, all->ctx, "%s/activations.svg", settings.output));
    TRY(file_begin(&writer, all->ctx, path));
    write_plot(writer.stream, all);
    return file_commit(&writer, all->ctx);
}

static KinditStatus write_csv(const Activations *all) {
    char path[1024];
    FileWriter writer;
    TRY(file_path(path, all->ctx, "%s/activations.csv", settings.output));
    TRY(file_begin(&writer, all->ctx, path));
    fputs("images,n,entropy,variance,kurtosis\n", writer.stream);
    for (int r = 0; r < all->n_rows; r++)
        fprintf(writer.stream, "%s,%lld,%.10g,%.10g,%.10g\n", all->rows[r].name, (long long)all->rows[r].statistics.n,
                all->rows[r].statistics.entropy, all->rows[r].statistics.variance, all->rows[r].statistics.kurtosis);
    return file_commit(&writer, all->ctx);
}

static KinditStatus write_page(FILE *out, const Activations *all) {
    html_begin(out, "How sure the classifier is");
    html_element(
        out, "p",
        "Entropy (natural logarithm), variance and excess kurtosis of the classifier's vector of probabilities, "
        "averaged over images.");
    write_plot(out, all);
    fputs("<table><tr><th>images of</th><th>n</th><th>entropy</th><th>variance</th><th>kurtosis</th></tr>\n", out);
    for (int r = 0; r < all->n_rows; r++) {
        const ProbabilityStatistics *s = &all->rows[r].statistics;
        fprintf(out, "<tr><td>%s</td><td>%lld</td><td>%.4g</td><td>%.4g</td><td>%.4g</td></tr>\n", all->rows[r].name,
                (long long)s->n, s->entropy, s->variance, s->kurtosis);
    }
    fputs("</table>\n", out);
    for (int r = 0; r < all->n_rows; r++) {
        char path[1024];
        TRY(file_path(path, all->ctx, "%s/%s.png", settings.output, all->rows[r].key));
        TRY(html_image(out, all->ctx, path, all->rows[r].name));
    }
    html_end(out);
    return KINDIT_OK;
}

static KinditStatus write_files(const Activations *all) {
    char path[1024];
    FileWriter writer;
    TRY(write_csv(all));
    TRY(write_svg(all));
    TRY(file_path(path, all->ctx, "%s/report.html", settings.output));
    TRY(file_begin(&writer, all->ctx, path));
    return commit_or_abandon(&writer, all->ctx, write_page(writer.stream, all));
}

static int print_rows(const Activations *all) {
    const VisionInfo *info = vision_info(all->looker.network);
    if (eval_settings.json) {
        cJSON *json = cJSON_CreateObject(), *rows = cJSON_AddArrayToObject(json, "rows");
        cJSON_AddStringToObject(json, "network", info->name);
        cJSON_AddStringToObject(json, "network_sha256", info->sha256);
        for (int r = 0; r < all->n_rows; r++) {
            cJSON *row = cJSON_CreateObject();
            cJSON_AddStringToObject(row, "images", all->rows[r].name);
            cJSON_AddNumberToObject(row, "n", (double)all->rows[r].statistics.n);
            cJSON_AddNumberToObject(row, "entropy", all->rows[r].statistics.entropy);
            cJSON_AddNumberToObject(row, "variance", all->rows[r].statistics.variance);
            cJSON_AddNumberToObject(row, "kurtosis", all->rows[r].statistics.kurtosis);
            cJSON_AddItemToArray(rows, row);
        }
        return cli_print_json(json);
    }
    printf("%-22s %7s %9s %11s %9s\n", "images of", "n", "entropy", "variance", "kurtosis");
    for (int r = 0; r < all->n_rows; r++) {
        const ProbabilityStatistics *s = &all->rows[r].statistics;
        printf("%-22s %7lld %9.4f %11.4e %9.2f\n", all->rows[r].name, (long long)s->n, s->entropy, s->variance,
               s->kurtosis);
    }
    printf("%s/report.html\n", settings.output);
    return EXIT_DONE;
}

static KinditStatus measure(Activations *all, const char *model) {
    TRY(eval_open_looker(&all->looker, all->ctx));
    const VisionInfo *info = vision_info(all->looker.network);
    if (info->n_logits == 0)
        return context_fail(all->ctx, KINDIT_ERROR_ARGUMENT,
                            "the network %s does not classify: name one that does (--network), or train one "
                            "(`kindit eval train-features`)",
                            info->name);
    TRY(open_rows(all, model));
    TRY(file_make_folder(all->ctx, settings.output));
    for (int r = 0; r < all->n_rows; r++) TRY(measure_row(all, &all->rows[r]));
    return write_files(all);
}

static int activations_run(KinditContext *ctx, int n_positional, char **positional) {
    (void)n_positional;
    Activations all = {.ctx = ctx};
    int code = sample_options_check("eval activations");
    if (code) return code;
    if (!settings.data || !settings.output) return cli_usage("eval activations", "--data DIR and -o FOLDER are needed");
    KinditStatus status = measure(&all, positional[0]);
    progress_finish();
    code = status ? cli_report(ctx, status) : print_rows(&all);
    for (int r = 0; r < all.n_rows; r++) side_close(&all.rows[r].side);
    looker_close(&all.looker);
    return code;
}

const Command command_eval_activations = {
    .name = "eval activations",
    .summary = "how sure a classifier is of images, real and drawn: the paper's Table 5",
    .arguments = "MODEL --data DIR -o DIR [options]",
    .examples = "kindit eval activations models/letters.safetensors --plain run --data data/glyphs --n 2000 --sampler "
                "ddim --steps 25 -o table5",
    .notes = "Entropy, variance and kurtosis of the vector of probabilities, averaged over the images: of a data set, "
             "of what a plain model draws, of what MODEL draws with its tailors, and of what its learngene draws alone "
             "(with --no-tailors --keep-label-rows: with each class's label row). The folder gets report.html, "
             "activations.csv, activations.svg and a grid of each row's images.",
    .min_positional = 1,
    .max_positional = 1,
    .options = activations_options,
    .run = activations_run,
};
