// What a comparison starts from: data sets and base models, made where none were given.
#include <string.h>

#include "base/file.h"
#include "cli/bench_adapt.h"
#include "data/import.h"
#include "model/model_run.h"

#define FASHION "/usr/share/datasets/fashion-mnist/"

enum { SIDE = 16 };

// ---- data ----------------------------------------------------------------------------------------------------------

static KinditStatus make_glyphs(KinditContext *ctx, const char *path, const char *charset) {
    ImportSettings import = import_settings_default();
    import.output = path;
    import.size = SIDE;
    return file_is_folder(path) ? KINDIT_OK : import_glyphs(ctx, &import, NULL, charset);
}

static KinditStatus make_fashion(KinditContext *ctx, const char *path) {
    ImportSettings import = import_settings_default();
    import.output = path;
    import.size = SIDE;
    if (file_is_folder(path)) return KINDIT_OK;
    return import_idx(ctx, &import, FASHION "train-images-idx3-ubyte.gz", FASHION "train-labels-idx1-ubyte.gz",
                      FASHION "t10k-images-idx3-ubyte.gz", FASHION "t10k-labels-idx1-ubyte.gz",
                      "T-shirt,Trouser,Pullover,Dress,Coat,Sandal,Shirt,Sneaker,Bag,Boot");
}

static KinditStatus add_task(BenchAdapt *bench, const char *name) {
    BenchTask *task = &bench->tasks[bench->n_tasks++];
    snprintf(task->name, sizeof task->name, "%s", name);
    return file_path(task->path, bench->ctx, "%s/data/%s", bench->settings->output, name);
}

static KinditStatus make_tasks(BenchAdapt *bench) {
    static const char *const letters[] = {"a-e", "f-j", "k-o", "p-t", "u-z"};
    KinditContext *ctx = bench->ctx;
    for (size_t i = 0; i < sizeof letters / sizeof *letters; i++) {
        TRY(add_task(bench, letters[i]));
        TRY(make_glyphs(ctx, bench->tasks[bench->n_tasks - 1].path, letters[i]));
    }
    if (!file_is_folder(FASHION)) {
        context_log(ctx, KINDIT_LOG_WARNING,
                    "no far domain: " FASHION " is not there (Debian's package dataset-fashion-mnist)");
        return KINDIT_OK;
    }
    TRY(add_task(bench, "fashion"));
    return make_fashion(ctx, bench->tasks[bench->n_tasks - 1].path);
}

// ---- bases ---------------------------------------------------------------------------------------------------------

// The model of `make demo`, with a learngene or dense, at 16 x 16.
static DitConfig base_config(bool dense) {
    DitConfig config = dit_config_default();
    config.patch = 4;
    config.width = 128;
    config.depth = 5;
    config.heads = 4;
    config.factored = !dense;
    config.n_learngene = dense ? 0 : 56;
    config.n_tailor = dense ? 0 : 2;
    return config;
}

static KinditStatus make_base(BenchAdapt *bench, bool dense, const char *given, char path[1024]) {
    KinditContext *ctx = bench->ctx;
    char data[1024], record[1024];
    TrainSettings train = train_settings_default();
    TrainResult result;
    int64_t step;
    if (given) return file_path(path, ctx, "%s", given);
    TRY(file_path(path, ctx, "%s/base-%s", bench->settings->output, dense ? "dense" : "kind"));
    TRY(model_run_newest(ctx, path, &step));
    if (step == bench->settings->base_steps) return KINDIT_OK;
    TRY(file_path(record, ctx, "%s/run.json", path));
    TRY(file_path(data, ctx, "%s/data/base", bench->settings->output));
    TRY(make_glyphs(ctx, data, "A-Z0-9"));
    train.batch = 64;
    train.steps = bench->settings->base_steps;
    train.lr = 1e-3;
    train.ema_decay = 0.999;
    train.log_every = 500;
    train.checkpoint_every = 1000;
    train.sample_every = 0;
    const DitConfig config = base_config(dense);
    const TrainJob job = train_job_pretrain(&config);
    return train_run(ctx, bench->engine, path, data, &job, &train, file_exists(record), &result);
}

bool bench_adapt_is_dense(const AdaptMethod *method) {
    return method->bases & ADAPT_DENSE;
}

KinditStatus bench_adapt_prepare(BenchAdapt *bench) {
    const BenchAdaptSettings *settings = bench->settings;
    bool needs[2] = {false, false};
    if (!bench->n_tasks) TRY(make_tasks(bench));
    for (int i = 0; i < bench->n_methods; i++) needs[bench_adapt_is_dense(bench->methods[i])] = true;
    if (needs[false]) TRY(make_base(bench, false, settings->base_kind, bench->base_kind));
    if (needs[true]) TRY(make_base(bench, true, settings->base_dense, bench->base_dense));
    return KINDIT_OK;
}
