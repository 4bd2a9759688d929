#include "train/train_log.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/file.h"

// ---- metrics.csv ---------------------------------------------------------------------------------------------------

// Length of the part of an old metrics.csv to keep: whole rows up to `step`. *seconds is the last such row's.
static size_t kept_length(const char *header, const char *text, size_t size, int64_t step, double *seconds) {
    size_t kept = 0;
    for (size_t at = 0; at < size;) {
        const char *end = memchr(text + at, '\n', size - at);
        if (!end) break; // cut off while it was written
        char row[256];
        const size_t length = (size_t)(end - text) + 1 - at;
        if (length >= sizeof row) break;
        memcpy(row, text + at, length);
        row[length] = '\0';
        int64_t row_step;
        double row_seconds;
        if (at == 0 && strcmp(row, header) != 0) break;
        if (at > 0) {
            if (sscanf(row, "%" SCNd64 ",%lf,", &row_step, &row_seconds) != 2 || row_step > step) break;
            *seconds = row_seconds;
        }
        at += length;
        kept = at;
    }
    return kept;
}

static KinditStatus rewrite_csv(TrainLog *log, const char *path, int64_t step) {
    const char *header = log->header;
    if (!file_exists(path)) return file_write(log->ctx, path, header, strlen(header));
    FileMap old;
    TRY(file_map(&old, log->ctx, path));
    const size_t kept = kept_length(header, (const char *)old.data, old.size, step, &log->earlier);
    KinditStatus status =
        kept > 0 ? file_write(log->ctx, path, old.data, kept) : file_write(log->ctx, path, header, strlen(header));
    file_unmap(&old);
    return status;
}

static KinditStatus open_files(TrainLog *log, int64_t step) {
    char path[1024];
    TRY(file_path(path, log->ctx, "%s/metrics.csv", log->run));
    TRY(rewrite_csv(log, path, step));
    log->csv = fopen(path, "ae");
    if (!log->csv) return context_fail(log->ctx, KINDIT_ERROR_IO, "%s: cannot append: %s", path, strerror(errno));
    return tensorboard_open(&log->board, log->ctx, log->run);
}

KinditStatus train_log_open(TrainLog *out, KinditContext *ctx, const char *run, const char *task,
                            const char *const terms[2], const TrainSettings *settings, double flops_per_image,
                            int64_t step) {
    *out = (TrainLog){.ctx = ctx,
                      .settings = settings,
                      .task = task,
                      .terms = terms,
                      .flops_per_image = flops_per_image,
                      .began = clock_seconds()};
    snprintf(out->header, sizeof out->header, "step,seconds,loss,%s,%s,grad_norm,lr,images_per_second,gflops\n",
             terms[0], terms[1]);
    KinditStatus status = file_path(out->run, ctx, "%s", run);
    if (!status) status = open_files(out, step);
    if (status) train_log_close(out);
    return status;
}

void train_log_close(TrainLog *log) {
    if (log->csv) fclose(log->csv);
    tensorboard_close(&log->board);
    *log = (TrainLog){0};
}

// ---- steps ---------------------------------------------------------------------------------------------------------

void train_log_summary(const TrainLog *log, TrainResult *result) {
    const double images = (double)log->n * log->settings->batch * log->settings->accumulate;
    result->loss = log->n > 0 ? log->loss / (double)log->n : log->last_loss;
    result->images_per_second = log->n > 0 ? images / log->step_seconds : log->last_images_per_second;
    result->flops_per_second = result->images_per_second * log->flops_per_image;
}

static KinditStatus write_scalars(TrainLog *log, int64_t step, double lr, const TrainResult *mean) {
    char terms[2][64];
    for (int i = 0; i < 2; i++) snprintf(terms[i], sizeof terms[i], "train/%s", log->terms[i]);
    const struct {
        const char *tag;
        double value;
    } scalars[] = {{"train/loss", mean->loss},
                   {terms[0], log->term[0] / (double)log->n},
                   {terms[1], log->term[1] / (double)log->n},
                   {"train/grad_norm", log->gradient_norm / (double)log->n},
                   {"train/lr", lr},
                   {"speed/images_per_second", mean->images_per_second},
                   {"speed/gflops", mean->flops_per_second / 1e9}};
    for (size_t i = 0; i < sizeof scalars / sizeof *scalars; i++)
        TRY(tensorboard_add_scalar(log->board, log->ctx, scalars[i].tag, step, scalars[i].value));
    return tensorboard_flush(log->board, log->ctx);
}

static KinditStatus write_row(TrainLog *log, int64_t step, double lr, const TrainResult *mean, const char *text) {
    const double n = (double)log->n, seconds = log->earlier + clock_seconds() - log->began;
    int written = fprintf(log->csv, "%" PRId64 ",%.3f,%.7g,%.7g,%.7g,%.7g,%.7g,%.2f,%.3f\n", step, seconds, mean->loss,
                          log->term[0] / n, log->term[1] / n, log->gradient_norm / n, lr, mean->images_per_second,
                          mean->flops_per_second / 1e9);
    if (written < 0 || fflush(log->csv) != 0)
        return context_fail(log->ctx, KINDIT_ERROR_IO, "%s/metrics.csv: cannot write: %s", log->run, strerror(errno));
    TRY(write_scalars(log, step, lr, mean));
    context_log(log->ctx, KINDIT_LOG_INFO, "step %" PRId64 "  %s", step, text);
    log->last_loss = mean->loss;
    log->last_images_per_second = mean->images_per_second;
    log->n = 0;
    log->loss = log->term[0] = log->term[1] = log->gradient_norm = log->step_seconds = 0;
    return KINDIT_OK;
}

KinditStatus train_log_step(TrainLog *log, const StepReport *report) {
    TrainResult mean;
    char text[128];
    log->n++;
    log->loss += report->loss;
    for (int i = 0; i < 2; i++) log->term[i] += report->term[i];
    log->gradient_norm += report->gradient_norm;
    log->step_seconds += report->seconds;
    train_log_summary(log, &mean);
    snprintf(text, sizeof text, "loss %.4f  %.0f images/s  %.1f GFLOP/s", mean.loss, mean.images_per_second,
             mean.flops_per_second / 1e9);
    KinditProgress progress = {.task = log->task,
                               .done = report->step,
                               .total = log->settings->steps,
                               .seconds = clock_seconds() - log->began,
                               .text = text};
    context_progress(log->ctx, &progress);
    const int64_t every = log->settings->log_every;
    const bool due = every && (report->step % every == 0 || report->step == log->settings->steps);
    return due ? write_row(log, report->step, report->lr, &mean, text) : KINDIT_OK;
}
