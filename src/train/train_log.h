// What a run tells the world: progress, log lines, metrics.csv, TensorBoard events and grids of samples.
#ifndef TRAIN_TRAIN_LOG_H
#define TRAIN_TRAIN_LOG_H

#include <stdio.h>

#include "formats/tensorboard.h"
#include "train/optimizer.h"
#include "train/trainer.h"

// What one step has to say.
typedef struct StepReport {
    int64_t step;   // number of steps taken, this one included
    double loss;    // mean over the step's samples
    double term[2]; // what it is made of (a guide's distance apart), or told beside it, likewise
    double gradient_norm, lr;
    double seconds; // the step alone took
} StepReport;

typedef struct TrainLog {
    KinditContext *ctx;
    const TrainSettings *settings;
    const char *task;         // what progress calls it
    const char *const *terms; // [2] what metrics.csv and TensorBoard call StepReport.term
    char run[1024], header[256];
    FILE *csv;
    Tensorboard *board;
    double flops_per_image;
    double began, earlier; // clock when this invocation began; seconds that earlier ones had logged
    // Sums over the steps since the last row, and what the last row said.
    int64_t n;
    double loss, term[2], gradient_norm, step_seconds;
    double last_loss, last_images_per_second;
} TrainLog;

// Opens run/metrics.csv for appending, without the rows beyond `step` (a run that was cut off had gone further than its
// checkpoint), and a new file of TensorBoard events. task, terms: string constants. On failure nothing is held.
KinditStatus train_log_open(TrainLog *out, KinditContext *ctx, const char *run, const char *task,
                            const char *const terms[2], const TrainSettings *settings, double flops_per_image,
                            int64_t step);
void train_log_close(TrainLog *log);

// Progress after every step; a row, scalars and a log line after every settings->log_every of them and after the last.
KinditStatus train_log_step(TrainLog *log, const StepReport *report);
// The mean loss and the speed since the last row, or of the last row when no step was taken since.
void train_log_summary(const TrainLog *log, TrainResult *result);

// Draws samples with the averaged weights, a row per class (the first 16), to run/samples/step-N.png and TensorBoard:
// DDIM, few steps, the same noise every time, so that grids of one run can be compared. Latents are shown as they are.
KinditStatus train_log_samples(TrainLog *log, const Model *model, const Optimizer *optimizer, bool latents);

#endif
