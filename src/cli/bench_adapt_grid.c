// Samples of all methods on a task, one method under the other, with the data's own images on top.
#include <string.h>

#include "base/file.h"
#include "cli/bench_adapt.h"
#include "data/dataset.h"
#include "formats/grid.h"

enum { COLUMNS = 20 }; // about as many

typedef struct Comparison {
    KinditContext *ctx;
    const Dataset *dataset;
    int per_class; // images of a class, side by side
    size_t image;  // bytes
    Grid grid;     // n_rows so far
    const char *captions[BENCH_ADAPT_METHODS + 1];
    uint8_t *pixels; // the grid's
} Comparison;

static uint8_t *cell(const Comparison *comparison, int column) {
    const int at = comparison->grid.n_rows * comparison->grid.n_columns + column;
    return comparison->pixels + (size_t)at * comparison->image;
}

// Of the training images of a class, which lie one after another, those in the middle of equal parts.
static void add_data(Comparison *comparison) {
    const Dataset *dataset = comparison->dataset;
    const uint8_t *images = dataset->images.array.data;
    const int64_t end = dataset->train.first + dataset->train.count;
    int64_t first = dataset->train.first;
    for (int c = 0; c < dataset->n_classes; c++) {
        int64_t n = 0;
        while (first + n < end && dataset_label(dataset, first + n) == c) n++;
        for (int k = 0; k < comparison->per_class && n > 0; k++) {
            const int64_t i = first + n * (2 * k + 1) / (2 * comparison->per_class);
            memcpy(cell(comparison, c * comparison->per_class + k), images + (size_t)i * comparison->image,
                   comparison->image);
        }
        first += n;
    }
    comparison->captions[comparison->grid.n_rows++] = "data";
}

// The first samples of each class, from a trial's file.
static KinditStatus add_samples(Comparison *comparison, const char *path, const char *method, int n_per_class) {
    const Dataset *dataset = comparison->dataset;
    Npy npy;
    TRY(npy_open(&npy, comparison->ctx, path));
    const size_t expected = (size_t)dataset->n_classes * (size_t)n_per_class * comparison->image;
    KinditStatus status = KINDIT_OK;
    if (npy.array.dtype != DTYPE_U8 || npy.array.n_bytes != expected)
        status =
            context_fail(comparison->ctx, KINDIT_ERROR_FORMAT,
                         "%s: expected %zu bytes of samples, found %zu: remove the trial's files, to make it again",
                         path, expected, npy.array.n_bytes);
    for (int c = 0; c < dataset->n_classes && !status; c++)
        memcpy(cell(comparison, c * comparison->per_class),
               (const uint8_t *)npy.array.data + (size_t)(c * n_per_class) * comparison->image,
               (size_t)comparison->per_class * comparison->image);
    npy_close(&npy);
    if (!status) comparison->captions[comparison->grid.n_rows++] = method;
    return status;
}

static KinditStatus add_rows(Comparison *comparison, const BenchAdapt *bench, const BenchTask *task) {
    const int n = (int)bench->settings->n_per_class;
    add_data(comparison);
    for (int m = 0; m < bench->n_methods; m++) {
        char path[1024];
        TRY(file_path(path, bench->ctx, "%s/trials/%s/%s-0.npy", bench->settings->output, task->name,
                      bench->methods[m]->name));
        if (file_exists(path)) TRY(add_samples(comparison, path, bench->methods[m]->name, n));
    }
    return KINDIT_OK;
}

static KinditStatus draw(Comparison *comparison, const char *path) {
    Image page;
    comparison->grid.pixels = comparison->pixels;
    comparison->grid.captions = comparison->captions;
    TRY(grid_draw(&page, comparison->ctx, &comparison->grid));
    const KinditStatus status = image_write_png(comparison->ctx, path, &page);
    image_close(&page);
    return status;
}

KinditStatus bench_adapt_grid(const BenchAdapt *bench, const BenchTask *task, const char *path, int *per_class) {
    const int n_per_class = (int)bench->settings->n_per_class;
    Comparison comparison = {.ctx = bench->ctx};
    Dataset *dataset;
    TRY(dataset_open(&dataset, bench->ctx, task->path));
    const int fit = dataset->n_classes < COLUMNS ? COLUMNS / dataset->n_classes : 1;
    *per_class = comparison.per_class = fit < n_per_class ? fit : n_per_class;
    comparison.dataset = dataset;
    comparison.image = (size_t)dataset->size * (size_t)dataset->size * (size_t)dataset->channels;
    comparison.grid = (Grid){
        .size = dataset->size, .channels = dataset->channels, .n_columns = dataset->n_classes * comparison.per_class};
    const size_t cells = (size_t)(bench->n_methods + 1) * (size_t)comparison.grid.n_columns;
    KinditStatus status = memory_alloc(bench->ctx, cells, comparison.image, &comparison.pixels);
    if (!status) status = add_rows(&comparison, bench, task);
    if (!status) status = draw(&comparison, path);
    memory_free(&comparison.pixels);
    dataset_close(&dataset);
    return status;
}
