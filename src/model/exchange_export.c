// Writing what other programs read.
#include <string.h>

#include "base/json.h"
#include "model/exchange.h"
#include "model/model_folder.h"

enum { NULL_CLASS = 1000 }; // DiTPipeline asks for this label to have none, whatever the model says

typedef struct Export {
    const Model *model;
    KinditContext *ctx;
    ExchangeFormat format;
    const char *path;
    Arena arena;
    float *values; // the shared vector, as the other program is to have it
    int n_tensors;
    Tensor *tensors;
} Export;

// ---- tensors -------------------------------------------------------------------------------------------------------

static KinditStatus add_tensor(Export *e, const char *name, int n_dims, const int64_t *shape, const float *data) {
    Tensor *tensor = &e->tensors[e->n_tensors++];
    char *copy;
    TRY(arena_copy_string(&e->arena, e->ctx, name, &copy));
    *tensor = (Tensor){.name = copy, .dtype = DTYPE_F32, .n_dims = n_dims, .data = data};
    memcpy(tensor->shape, shape, (size_t)n_dims * sizeof *shape);
    return KINDIT_OK;
}

// The label table with the null row where the pipeline looks for it: rows that no class has are null rows too.
static KinditStatus pad_labels(Export *e, const ParamSpec *spec, const float **data, int64_t *rows) {
    const float *table = e->values + spec->shared_offset;
    int n = e->model->dit->config.n_classes;
    float *padded;
    if (n > NULL_CLASS)
        return context_fail(e->ctx, KINDIT_ERROR_ARGUMENT,
                            "%s: %d classes, and DiTPipeline has room for %d: export fewer", e->path, n, NULL_CLASS);
    TRY(arena_alloc(&e->arena, e->ctx, (NULL_CLASS + 1) * spec->row, sizeof *padded, &padded));
    for (int i = 0; i <= NULL_CLASS; i++)
        memcpy(padded + (size_t)i * spec->row, table + (size_t)(i < n ? i : n) * spec->row, spec->row * sizeof *padded);
    *data = padded;
    *rows = NULL_CLASS + 1;
    return KINDIT_OK;
}

static KinditStatus add_parameter(Export *e, const ParamSpec *spec, bool is_label) {
    ExchangePlaces places = exchange_places(e->format, spec->name, e->model->dit->config.depth);
    const float *data = e->values + spec->shared_offset;
    int64_t shape[PARAM_MAX_DIMS];
    memcpy(shape, spec->shape, sizeof shape);
    if (is_label && e->format == EXCHANGE_DIFFUSERS) TRY(pad_labels(e, spec, &data, &shape[0]));
    shape[0] /= places.n_parts;
    for (int copy = 0; copy < places.n_copies; copy++)
        for (int part = 0; part < places.n_parts; part++) {
            char name[EXCHANGE_NAME_SIZE];
            exchange_name(name, e->format, spec->name, part, copy);
            TRY(add_tensor(e, name, spec->n_dims, shape, data + (size_t)part * (size_t)shape[0] * spec->row));
        }
    return KINDIT_OK;
}

// The original code keeps its fixed table of positions among the parameters.
static KinditStatus add_positions(Export *e) {
    const DitConfig *config = &e->model->dit->config;
    int64_t shape[3] = {1, dit_config_tokens(config), config->width};
    float *table;
    TRY(arena_alloc(&e->arena, e->ctx, (size_t)(shape[1] * shape[2]), sizeof *table, &table));
    dit_position_table(config, table);
    return add_tensor(e, "pos_embed", 3, shape, table);
}

static KinditStatus gather(Export *e, ExchangeReport *report) {
    const Dit *dit = e->model->dit;
    const ParamLayout *layout = &dit->layout;
    int time_shift = e->format == EXCHANGE_DIFFUSERS;
    size_t most = 1 + (size_t)layout->n_specs * 3 * (size_t)dit->config.depth; // parts and copies
    *report = (ExchangeReport){.norm_eps_lost = e->format == EXCHANGE_DIT && dit->config.mlp_norm_eps != DIT_NORM_EPS};
    TRY(arena_alloc(&e->arena, e->ctx, layout->n_shared, sizeof *e->values, &e->values));
    TRY(arena_alloc(&e->arena, e->ctx, most, sizeof *e->tensors, &e->tensors));
    engine_download(e->model->engine, e->values, e->model->params.shared, layout->n_shared);
    if (dit->config.time_shift != time_shift)
        TRY(exchange_refit_time(e->ctx, dit, time_shift, e->values, &report->time_error));
    for (int i = 0; i < layout->n_specs; i++) TRY(add_parameter(e, &layout->specs[i], i == dit->label));
    return e->format == EXCHANGE_DIT ? add_positions(e) : KINDIT_OK;
}

// ---- the original code's file --------------------------------------------------------------------------------------

// Its names and shapes do not say all that we know (heads, classes): that goes where no one else looks.
static KinditStatus write_dit(Export *e) {
    DitConfig config = e->model->dit->config;
    cJSON *json;
    config.time_shift = 0;
    config.mlp_norm_eps = DIT_NORM_EPS;
    TRY(model_config_merge(&json, e->ctx, e->model->config, &config, e->model->classes));
    char *text = cJSON_PrintUnformatted(json);
    cJSON_Delete(json);
    if (!text) return context_fail(e->ctx, KINDIT_ERROR_MEMORY, "%s: out of memory for the config", e->path);
    const char *metadata[][2] = {{"format", "pt"}, {"kindit_source", text}};
    KinditStatus status = safetensors_write(e->ctx, e->path, e->tensors, e->n_tensors, metadata, 2);
    cJSON_free(text);
    return status;
}

// ---- diffusers' folder ---------------------------------------------------------------------------------------------

typedef struct Number {
    const char *key;
    double value;
} Number;

// {"_class_name": ..., ...numbers}; NULL when out of memory.
static cJSON *new_document(const char *class_name, const Number *numbers, int n) {
    cJSON *json = cJSON_CreateObject();
    bool good = cJSON_AddStringToObject(json, "_class_name", class_name) &&
                cJSON_AddStringToObject(json, "_diffusers_version", "0.30.0"); // the first with this class
    for (int i = 0; i < n && good; i++) good = cJSON_AddNumberToObject(json, numbers[i].key, numbers[i].value);
    if (good) return json;
    cJSON_Delete(json);
    return NULL;
}

// Writes folder/name and deletes the document; one that `good` says is incomplete is out of memory.
static KinditStatus write_document(const Export *e, const char *folder, const char *name, cJSON *json, bool good) {
    char path[1024];
    KinditStatus status = file_path(path, e->ctx, "%s/%s", folder, name);
    if (!status && !good) status = context_fail(e->ctx, KINDIT_ERROR_MEMORY, "%s: out of memory", path);
    if (!status) status = json_write(e->ctx, path, json);
    cJSON_Delete(json);
    return status;
}

static KinditStatus write_transformer_config(const Export *e, const char *folder) {
    const DitConfig *config = &e->model->dit->config;
    int head_width = config->width / config->heads;
    const Number numbers[] = {
        {"num_attention_heads", config->heads},
        {"attention_head_dim", head_width},
        {"in_channels", config->channels},
        {"out_channels", dit_config_out_channels(config)},
        {"num_layers", config->depth},
        {"sample_size", config->image_size},
        {"patch_size", config->patch},
        {"num_embeds_ada_norm", NULL_CLASS},
        {"norm_eps", config->mlp_norm_eps},
        {"norm_num_groups", 32},
        {"dropout", 0},
    };
    cJSON *json = new_document("DiTTransformer2DModel", numbers, sizeof numbers / sizeof *numbers);
    bool good = cJSON_AddStringToObject(json, "activation_fn", "gelu-approximate") &&
                cJSON_AddStringToObject(json, "norm_type", "ada_norm_zero") &&
                cJSON_AddBoolToObject(json, "norm_elementwise_affine", false) &&
                cJSON_AddBoolToObject(json, "attention_bias", true) &&
                cJSON_AddBoolToObject(json, "upcast_attention", false);
    return write_document(e, folder, "transformer/config.json", json, good);
}

// A number of the run that trained the model, or DiT's.
static double training_number(const Export *e, const char *key, double otherwise) {
    const cJSON *training = cJSON_GetObjectItemCaseSensitive(e->model->config, "training");
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(training, key);
    return cJSON_IsNumber(item) ? item->valuedouble : otherwise;
}

static KinditStatus write_scheduler_config(const Export *e, const char *folder) {
    const Number numbers[] = {
        {"num_train_timesteps", training_number(e, "diffusion_steps", 1000)},
        {"beta_start", training_number(e, "beta_first", 1e-4)},
        {"beta_end", training_number(e, "beta_last", 0.02)},
        {"steps_offset", 0},
    };
    int channels = e->model->dit->config.channels;
    cJSON *json = new_document("DDIMScheduler", numbers, sizeof numbers / sizeof *numbers);
    bool good = cJSON_AddStringToObject(json, "beta_schedule", "linear") &&
                cJSON_AddStringToObject(json, "prediction_type", "epsilon") &&
                cJSON_AddStringToObject(json, "timestep_spacing", "leading") &&
                cJSON_AddBoolToObject(json, "set_alpha_to_one", true) &&
                cJSON_AddBoolToObject(json, "clip_sample", channels == 1 || channels == 3); // pixels have a range
    return write_document(e, folder, "scheduler/scheduler_config.json", json, good);
}

// ["library", "class"]; both NULL: a component that the user brings.
static bool add_component(cJSON *json, const char *name, const char *library, const char *class_name) {
    cJSON *pair = cJSON_AddArrayToObject(json, name);
    return pair && cJSON_AddItemToArray(pair, library ? cJSON_CreateString(library) : cJSON_CreateNull()) &&
           cJSON_AddItemToArray(pair, library ? cJSON_CreateString(class_name) : cJSON_CreateNull());
}

static KinditStatus write_index(const Export *e, const char *folder) {
    cJSON *json = new_document("DiTPipeline", NULL, 0);
    bool good = add_component(json, "transformer", "diffusers", "DiTTransformer2DModel") &&
                add_component(json, "scheduler", "diffusers", "DDIMScheduler") &&
                add_component(json, "vae", NULL, NULL);
    cJSON *labels = good ? cJSON_AddObjectToObject(json, "id2label") : NULL;
    good = labels != NULL;
    for (int c = 0; c < e->model->dit->config.n_classes && good; c++) {
        char key[16];
        snprintf(key, sizeof key, "%d", c);
        good = cJSON_AddStringToObject(labels, key, e->model->classes[c].name) != NULL;
    }
    return write_document(e, folder, "model_index.json", json, good);
}

static KinditStatus write_folder_files(const Export *e, const char *folder) {
    static const char *const metadata[][2] = {{"format", "pt"}};
    char path[1024];
    TRY(file_path(path, e->ctx, "%s/scheduler", folder));
    TRY(file_make_folder(e->ctx, path));
    TRY(file_path(path, e->ctx, "%s/transformer", folder));
    TRY(file_make_folder(e->ctx, path));
    TRY(file_path(path, e->ctx, "%s/transformer/diffusion_pytorch_model.safetensors", folder));
    TRY(safetensors_write(e->ctx, path, e->tensors, e->n_tensors, metadata, 1));
    TRY(write_transformer_config(e, folder));
    TRY(write_scheduler_config(e, folder));
    return write_index(e, folder);
}

static KinditStatus write_diffusers(Export *e) {
    FolderWriter folder;
    if (e->model->dit->config.mlp_ratio != 4)
        return context_fail(e->ctx, KINDIT_ERROR_ARGUMENT,
                            "%s: mlp_ratio is %d, and diffusers' DiT has 4: export --to dit", e->path,
                            e->model->dit->config.mlp_ratio);
    TRY(folder_begin(&folder, e->ctx, e->path, false));
    KinditStatus status = write_folder_files(e, folder.temporary);
    if (!status) return folder_commit(&folder, e->ctx);
    folder_abandon(&folder);
    return status;
}

KinditStatus exchange_export(const Model *model, ExchangeFormat format, const char *path, ExchangeReport *report) {
    Export e = {.model = model, .ctx = model->ctx, .format = format, .path = path};
    if (model->dit->config.factored)
        return context_fail(e.ctx, KINDIT_ERROR_ARGUMENT, "%s: other programs take one class or the learngene alone",
                            path);
    if (file_exists(path) && !file_is_folder(path))
        return context_fail(e.ctx, KINDIT_ERROR_ARGUMENT, "%s: exists; choose another name, or remove it first", path);
    KinditStatus status = gather(&e, report);
    if (!status) status = format == EXCHANGE_DIT ? write_dit(&e) : write_diffusers(&e);
    arena_close(&e.arena);
    return status;
}
