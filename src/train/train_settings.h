// A run's settings as JSON, and its record: run.json, which says all that a run is a function of.
//   {"format": 1, "model": {config of the model, classes included}, "settings": {...}, "data": {"path", "samples",
//   "source_sha256"}, "adapt": {what else a run of fine-tuning is a function of; none in pre-training}}
#ifndef TRAIN_TRAIN_SETTINGS_H
#define TRAIN_TRAIN_SETTINGS_H

#include "base/json.h"
#include "train/trainer.h"

// The record of a run of this model on this data; `adapt` (copied) may be NULL. Caller frees with cJSON_Delete.
KinditStatus train_record_build(cJSON **out, KinditContext *ctx, const DitConfig *config, const TrainSettings *settings,
                                const Dataset *dataset, const cJSON *adapt);
// An argument error naming the first difference between the record of `run` and what is asked for now, other than those
// that a resumed run may have: steps, max_seconds, recompute, the *_every, keep_checkpoints, sample_per_class, and
// where the data and the adapted model lie (each section's "path").
KinditStatus train_record_compare(KinditContext *ctx, const char *run, const cJSON *old, const cJSON *asked);

// How a run's passes compute.
DitMode train_mode(const TrainSettings *settings);

// What it takes to go on with an older record: each field must be there (but for flags and the shift, 0 when absent),
// of its type and range.
KinditStatus train_settings_parse(const cJSON *json, KinditContext *ctx, const char *name, TrainSettings *out);

#endif
