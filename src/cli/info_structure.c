#include <math.h>

#include "cli/cli.h"
#include "cli/info.h"

void info_add_int(cJSON *json, const char *key, int64_t value) {
    cJSON_AddNumberToObject(json, key, (double)value);
}

static void add_config(cJSON *json, const DitConfig *config) {
    cJSON *object = cJSON_AddObjectToObject(json, "config");
    cJSON_AddStringToObject(object, "kind", config->factored ? "kind" : "dense");
    if (config->classifier) cJSON_AddStringToObject(object, "head", "classifier: mean token to classes");
    info_add_int(object, "image_size", config->image_size);
    info_add_int(object, "channels", config->channels);
    info_add_int(object, "patch", config->patch);
    info_add_int(object, "tokens", dit_config_tokens(config));
    info_add_int(object, "width", config->width);
    info_add_int(object, "depth", config->depth);
    info_add_int(object, "heads", config->heads);
    info_add_int(object, "mlp_ratio", config->mlp_ratio);
    cJSON_AddBoolToObject(object, "learn_sigma", config->learn_sigma);
    if (config->factored) {
        info_add_int(object, "n_learngene", config->n_learngene);
        info_add_int(object, "n_tailor", config->n_tailor);
        cJSON_AddBoolToObject(object, "fused_qkv", config->fused_qkv);
        cJSON_AddBoolToObject(object, "factor_adaln", config->factor_adaln);
    }
    info_add_int(object, "n_classes", config->n_classes);
    if (config->adapter.kind != ADAPTER_NONE) cJSON_AddItemToObject(object, "adapter", adapter_build(&config->adapter));
}

static void add_parameters(cJSON *json, const DitConfig *config, const DitCounts *counts, double open) {
    cJSON *object = cJSON_AddObjectToObject(json, "parameters");
    int64_t D = config->width, shared_rows = config->factored ? 1 : config->n_classes + 1;
    info_add_int(object, "total", counts->total);
    info_add_int(object, "total_without_label", counts->total - counts->label_rows);
    info_add_int(object, "label_rows", counts->label_rows);
    info_add_int(object, "shared", counts->shared);
    if (config->factored) {
        int64_t assembled = counts->learngene + counts->shared + counts->tailor;
        info_add_int(object, "learngene", counts->learngene);
        info_add_int(object, "tailor", counts->tailor);
        info_add_int(object, "tailors", counts->tailor * config->n_classes);
        info_add_int(object, "assembled", assembled);
        info_add_int(object, "assembled_without_label", assembled - D * (shared_rows + 1));
        info_add_int(object, "trainable", llround(open * (double)counts->tailor + (double)D));
        info_add_int(object, "trainable_without_label", llround(open * (double)(counts->tailor - D)));
    }
    info_add_int(object, "position_table", counts->position);
}

static void add_flops(cJSON *json, const DitConfig *config, const DitCounts *counts, double open) {
    cJSON *object = cJSON_AddObjectToObject(json, "flops");
    cJSON_AddNumberToObject(object, "linear", counts->flops_linear);
    cJSON_AddNumberToObject(object, "attention", counts->flops_attention);
    cJSON_AddNumberToObject(object, "total", counts->flops_linear + counts->flops_attention);
    if (config->factored) cJSON_AddNumberToObject(object, "open_tailors", open);
}

static KinditStatus add_memory(cJSON *json, KinditContext *ctx, const DitConfig *config,
                               const TrainSettings *settings) {
    Engine *engine;
    TRY(engine_create(&engine, ctx));
    int threads = engine_threads(engine);
    engine_close(&engine);
    TrainMemory memory;
    TRY(train_predict_memory(&memory, ctx, config, settings, threads));
    cJSON *object = cJSON_AddObjectToObject(json, "training_bytes");
    info_add_int(object, "weights", (int64_t)memory.weights);
    info_add_int(object, "optimizer", (int64_t)memory.optimizer);
    info_add_int(object, "gradients", (int64_t)memory.gradients);
    info_add_int(object, "activations", (int64_t)memory.activations);
    info_add_int(object, "scratch", (int64_t)memory.scratch);
    info_add_int(object, "batch", (int64_t)memory.batch);
    info_add_int(object, "total", (int64_t)memory.total);
    cJSON *with = cJSON_AddObjectToObject(json, "training");
    info_add_int(with, "batch", settings->batch);
    info_add_int(with, "accumulate", settings->accumulate);
    info_add_int(with, "threads", threads);
    return KINDIT_OK;
}

KinditStatus info_add_structure(cJSON *json, KinditContext *ctx, const DitConfig *config, const InfoRequest *request) {
    Dit *dit;
    DitCounts counts;
    TRY(dit_create(&dit, ctx, config));
    dit_count(dit, request->open_tailors, &counts);
    add_config(json, config);
    add_parameters(json, config, &counts, request->open_tailors);
    add_flops(json, config, &counts, request->open_tailors);
    dit_close(&dit);
    return request->train ? add_memory(json, ctx, config, &request->settings) : KINDIT_OK;
}
