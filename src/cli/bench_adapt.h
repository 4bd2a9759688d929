// `kindit bench adapt`: the methods of fine-tuning on the same tasks, from the same base models, at equal steps. In
// DIR:
//
//   comparison.json            what all trials have in common; whoever goes on must ask for the same
//   data/, base-kind/, base-dense/        what was not given: data sets, and the models that methods start from
//   trials/TASK/METHOD-SEED.json, .png, .npy    a finished trial and its samples: not made again
//   trials/TASK/METHOD-SEED/   the run of a trial that is not finished, which goes on
//   report.html, report.json, results.csv, curves/*.csv, grids/*.png    of the finished trials, written anew after each
#ifndef CLI_BENCH_ADAPT_H
#define CLI_BENCH_ADAPT_H

#include "adapt/adapt.h"
#include "cli/cli.h"

typedef struct BenchAdaptSettings {
    const char *output, *base_kind, *base_dense, *methods; // NULL: not given
    int64_t seeds, steps, base_steps, batch;
    int64_t points;               // of the curve of each trial, at most
    int64_t heldout, n_per_class; // samples that a point's loss, and a trial's accuracy for each class, is measured on
    double lr;                    // of every method; 0: each one's own
    double max_seconds;           // 0: no limit
    bool json;
} BenchAdaptSettings;

enum { BENCH_ADAPT_METHODS = 16, BENCH_ADAPT_TASKS = 64 }; // at most; as many methods as a chart has lines

typedef struct BenchTask {
    char name[64], path[1024]; // of its data set
} BenchTask;

typedef struct BenchAdapt {
    KinditContext *ctx;
    Engine *engine;
    const BenchAdaptSettings *settings;
    BenchTask tasks[BENCH_ADAPT_TASKS];
    int n_tasks;
    const AdaptMethod *methods[BENCH_ADAPT_METHODS];
    int n_methods;
    char base_kind[1024], base_dense[1024]; // as model_open takes them
    cJSON *trials;                          // array of what finished trials found, as their files have it
    double began;
    int n_done; // trials begun and ended
} BenchAdapt;

// Whether a method starts from the dense base; if not, from the one with a learngene.
bool bench_adapt_is_dense(const AdaptMethod *method);

// Fills in tasks, unless there are some, and bases: made in DIR where settings give none and they are not there yet.
// Glyphs of Debian's fonts, upper-case letters and digits for the bases, lower-case ones in five tasks; Fashion-MNIST.
KinditStatus bench_adapt_prepare(BenchAdapt *bench);

// Reads the trial's file, or trains and measures, from where it was left, and writes it. *out, for bench->trials, is
// NULL when time was up first. A loss that is no longer finite is a finding ("failed"), not an error.
KinditStatus bench_adapt_trial(cJSON **out, BenchAdapt *bench, const BenchTask *task, const AdaptMethod *method,
                               int64_t seed);

// Writes a PNG: the task's images, then the first samples of each class by each method that has some, of seed 0;
// *per_class side by side.
KinditStatus bench_adapt_grid(const BenchAdapt *bench, const BenchTask *task, const char *path, int *per_class);

// Writes what bench->trials say; *summary, for the caller to delete, is an array of objects: a method's means over all
// tasks. `summary` may be NULL.
KinditStatus bench_adapt_report(const BenchAdapt *bench, cJSON **summary);

#endif
