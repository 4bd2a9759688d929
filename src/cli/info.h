// What `kindit info` knows of each thing, as one JSON document that is printed for machines or for people.
#ifndef CLI_INFO_H
#define CLI_INFO_H

#include "model/model_file.h"
#include "train/trainer.h"

// What to say of a model's structure beyond the model itself.
typedef struct InfoRequest {
    double open_tailors; // classes counted as open at once
    bool train;          // predict the memory of a training step, with these settings
    TrainSettings settings;
} InfoRequest;

// Parameters by role, FLOPs and config of a structure, added to `json`; no weights are made or read.
KinditStatus info_add_structure(cJSON *json, KinditContext *ctx, const DitConfig *config, const InfoRequest *request);
// A model, checkpoint, run, learngene or tailor file, data set or any other .safetensors, added to `json`; headers
// only.
KinditStatus info_add_path(cJSON *json, KinditContext *ctx, const char *path, const InfoRequest *request);
// The processor, what the engine uses of it, and its limits, measured now (takes a second); added to `json`.
KinditStatus info_add_machine(cJSON *json, KinditContext *ctx);
// json[key] = value.
void info_add_int(cJSON *json, const char *key, int64_t value);
// The document as an indented table on stdout: numbers scaled by what their keys name, lists on wrapped lines.
void info_print(const cJSON *json);

#endif
