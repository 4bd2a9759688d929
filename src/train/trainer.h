// Training, of which it does not know what for: loader -> noise -> gate -> forward -> loss -> backward -> AdamW + EMA,
// with checkpoints that lose nothing. A classifier, which its config says it is, learns labels and sees no noise.
//
// A run folder holds run.json (settings), metrics.csv, TensorBoard events, samples/step-N.png and checkpoints/step-N/
// (see checkpoint.h). A run is a function of its settings and data: 2N steps = N steps, stop, resume, N steps, bit for
// bit.
#ifndef TRAIN_TRAINER_H
#define TRAIN_TRAINER_H

#include "data/dataset.h"
#include "model/model_file.h"

typedef struct TrainSettings {
    int batch, accumulate; // samples per micro-batch, micro-batches per step
    int64_t steps;         // optimiser steps in all
    double max_seconds;    // stop in an orderly way after this long (0: no limit); resume goes on
    double lr, weight_decay, beta1, beta2, adam_eps, ema_decay;
    int64_t warmup; // steps of linear warm-up of lr (0: none, as DiT)
    int64_t decay;  // last steps over which lr falls linearly to 0 (0: none, as DiT; more than there are: all of them);
                    // a resume to other `steps` moves it
    double label_dropout; // 0 for a classifier, as it is not told a label
    int shift;            // images are moved at random by up to so many pixels; 0: none
    bool mse_only;        // Eq. 1; a model without learned sigma always trains so
    int diffusion_steps;  // 1000
    double beta_first, beta_last;
    uint64_t seed;
    bool bf16;      // activations in bf16; weights, gradients and the optimiser stay fp32
    bool recompute; // keep each block's input alone and compute the rest again in backward: less memory, same bits
    int64_t log_every, checkpoint_every, sample_every; // steps; 0: never (a checkpoint is always left at the end)
    int keep_checkpoints;                              // older ones are removed; 0: keep all
    int sample_per_class;                              // grid columns
} TrainSettings;
TrainSettings train_settings_default(void); // DiT's: batch 256, lr 1e-4, EMA 0.9999, dropout 0.1, ...
// Checks every range; the message names the field.
KinditStatus train_settings_check(const TrainSettings *settings, KinditContext *ctx);

// What is trained. Pre-training is one such job; each method of fine-tuning (src/adapt) is another.
typedef struct TrainJob {
    const char *task; // what progress calls it: "pretrain"
    DitConfig config; // the model's structure; image size, channels and classes are the data set's
    unsigned frozen;  // roles of which the shared rows stay as they start (params_freeze); 0: all train
    // The first weights of the model, all zero before. Not called when a checkpoint has them.
    KinditStatus (*start)(const struct TrainJob *job, Model *model, uint64_t seed);
    const struct TrainGuide *guide; // what it adds to the loss (train_step.h); NULL: nothing
    const cJSON *adapt; // what else the run is a function of, in run.json and the model's config; NULL: nothing
} TrainJob;
TrainJob train_job_pretrain(const DitConfig *config); // everything, from dit_init

typedef struct TrainResult {
    int64_t step; // reached
    double loss;  // mean of the last log interval
    double images_per_second, flops_per_second;
    size_t peak_bytes; // engine memory held while stepping
    bool finished;     // all steps done
} TrainResult;

// What an existing run was started with, as run.json says: where a resumed run takes what its caller doesn't change.
// *adapt, NULL in pre-training, is freed with cJSON_Delete.
KinditStatus train_record_read(KinditContext *ctx, const char *run, TrainSettings *settings, DitConfig *config,
                               char data[1024], cJSON **adapt);

// An argument error when the folder `run` already holds a run: one cannot be started there.
KinditStatus train_check_new(KinditContext *ctx, const char *run);

// Starts a run in a folder `run` that holds none yet, or with `resume` goes on from its newest complete checkpoint,
// from the start when there is none yet. Of a resumed run only `steps`, `max_seconds`, `recompute`, the *_every,
// `keep_checkpoints` and `sample_per_class` may differ from its record (and data set and adapted model may have moved);
// any other difference is an argument error naming it. The model's classes, image size and channels are the data set's;
// with `mse_only` it has no learned sigma. Cancelled: finishes the step, checkpoints, returns KINDIT_CANCELLED. A loss
// that is not finite: KINDIT_ERROR_NUMERIC before the weights are touched, the last good checkpoint stays and is named.
// *result is filled in all cases.
KinditStatus train_run(KinditContext *ctx, Engine *engine, const char *run, const char *data, const TrainJob *job,
                       const TrainSettings *settings, bool resume, TrainResult *result);

// Engine memory a step needs, without allocating it, buffers' own book-keeping (64 bytes each) excluded. A checkpoint
// or a grid of samples takes one more set of weights for as long as it is made. For `kindit info --train`.
typedef struct TrainMemory {
    size_t weights, optimizer, gradients, activations, scratch, batch, total; // bytes
} TrainMemory;
KinditStatus train_predict_memory(TrainMemory *out, KinditContext *ctx, const DitConfig *config,
                                  const TrainSettings *settings, int threads);

#endif
