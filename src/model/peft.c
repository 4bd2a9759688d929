#include "model/peft.h"

#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "model/merge.h"
#include "model/model_copy.h"
#include "model/model_folder.h"

// ---- names ---------------------------------------------------------------------------------------------------------

typedef struct PeftTensor {
    AdapterKind kind;
    int param;
    const char *suffix;
    bool transposed; // peft has (rows, components)
} PeftTensor;

static const PeftTensor table[] = {
    {ADAPTER_LORA, LORA_A, "lora_A.weight", false},
    {ADAPTER_LORA, LORA_B, "lora_B.weight", true},
    {ADAPTER_DORA, LORA_A, "lora_A.weight", false},
    {ADAPTER_DORA, LORA_B, "lora_B.weight", true},
    {ADAPTER_DORA, DORA_M, "lora_magnitude_vector", false},
    {ADAPTER_LOHA, LOHA_A1, "hada_w1_a", true},
    {ADAPTER_LOHA, LOHA_B1, "hada_w1_b", false},
    {ADAPTER_LOHA, LOHA_A2, "hada_w2_a", true},
    {ADAPTER_LOHA, LOHA_B2, "hada_w2_b", false},
    {ADAPTER_OFT, OFT_R, "oft_R.weight", false},
};
enum { N_TABLE = sizeof table / sizeof *table, MOST_TENSORS = 4 };

// The module in diffusers, under peft's prefix: of q, k and v by their place in the fused matrix.
static void name_tensor(char out[EXCHANGE_NAME_SIZE], const Linear *linear, const char *suffix) {
    static const char parts[] = "qkv";
    char ours[PARAM_NAME_SIZE + 16], module[EXCHANGE_NAME_SIZE];
    const size_t length = strlen(linear->name);
    const char *part = linear->name[length - 2] == '.' ? strchr(parts, linear->name[length - 1]) : NULL;
    snprintf(ours, sizeof ours, "%.*s%s.weight", (int)(part ? length - 1 : length), linear->name, part ? parts : "");
    exchange_name(module, EXCHANGE_DIFFUSERS, ours, part ? (int)(part - parts) : 0, 0);
    *strrchr(module, '.') = '\0';
    snprintf(out, EXCHANGE_NAME_SIZE, "base_model.model.%.70s.%.32s", module, suffix);
}

// to (columns, rows) = from (rows, columns)
static void transpose(size_t rows, size_t columns, const float *from, float *to) {
    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j < columns; j++) to[j * rows + i] = from[i * columns + j];
}

// ---- writing -------------------------------------------------------------------------------------------------------

typedef struct Peft {
    KinditContext *ctx;
    const Dit *dit;
    Arena arena;
    float *shared; // in host memory
    int n_tensors;
    Tensor *tensors;
} Peft;

static KinditStatus add_tensor(Peft *p, const Linear *linear, const PeftTensor *entry) {
    const ParamSpec *spec = &p->dit->layout.specs[linear->param[entry->param]];
    const size_t n = params_spec_size(spec, 0);
    char name[EXCHANGE_NAME_SIZE], *copy;
    float *data = p->shared + spec->shared_offset;
    name_tensor(name, linear, entry->suffix);
    TRY(arena_copy_string(&p->arena, p->ctx, name, &copy));
    Tensor tensor = {.name = copy, .dtype = DTYPE_F32, .n_dims = spec->n_dims, .data = data};
    memcpy(tensor.shape, spec->shape, (size_t)spec->n_dims * sizeof *spec->shape);
    if (entry->transposed) {
        TRY(arena_alloc(&p->arena, p->ctx, n, sizeof *data, &data));
        transpose((size_t)spec->shape[0], spec->row, tensor.data, data);
        tensor.data = data;
        tensor.shape[0] = spec->shape[1];
        tensor.shape[1] = spec->shape[0];
    }
    p->tensors[p->n_tensors++] = tensor;
    return KINDIT_OK;
}

static KinditStatus gather(Peft *p, const Model *adapted) {
    const Dit *dit = p->dit;
    TRY(arena_alloc(&p->arena, p->ctx, dit->layout.n_shared, sizeof *p->shared, &p->shared));
    TRY(arena_alloc(&p->arena, p->ctx, (size_t)dit->n_linears * MOST_TENSORS, sizeof *p->tensors, &p->tensors));
    engine_download(adapted->engine, p->shared, adapted->params.shared, dit->layout.n_shared);
    for (int i = 0; i < dit->n_linears; i++)
        for (int k = 0; k < N_TABLE && dit->linears[i]->base; k++)
            if (table[k].kind == dit->config.adapter.kind) TRY(add_tensor(p, dit->linears[i], &table[k]));
    return KINDIT_OK;
}

static KinditStatus write_files(Peft *p, const cJSON *config, const Model *base, const char *folder,
                                ExchangeReport *report) {
    static const char *const metadata[][2] = {{"format", "pt"}};
    char path[1024];
    TRY(file_path(path, p->ctx, "%s/adapter_config.json", folder));
    TRY(json_write(p->ctx, path, config));
    TRY(file_path(path, p->ctx, "%s/adapter_model.safetensors", folder));
    TRY(safetensors_write(p->ctx, path, p->tensors, p->n_tensors, metadata, 1));
    TRY(file_path(path, p->ctx, "%s/base", folder));
    return exchange_export(base, EXCHANGE_DIFFUSERS, path, report);
}

static KinditStatus write_folder(Peft *p, const Model *adapted, const cJSON *config, const char *path,
                                 ExchangeReport *report) {
    FolderWriter folder;
    Model *base;
    TRY(gather(p, adapted));
    TRY(model_strip_adapter(&base, adapted));
    KinditStatus status = folder_begin(&folder, p->ctx, path, false);
    if (!status) {
        status = write_files(p, config, base, folder.temporary, report);
        if (!status)
            status = folder_commit(&folder, p->ctx);
        else
            folder_abandon(&folder);
    }
    model_close(&base);
    return status;
}

KinditStatus peft_write(const Model *adapted, const char *path, ExchangeReport *report) {
    Peft p = {.ctx = adapted->ctx, .dit = adapted->dit};
    cJSON *config;
    if (adapted->dit->config.factored)
        return context_fail(p.ctx, KINDIT_ERROR_ARGUMENT,
                            "%s: this adapter rides on a learngene, which diffusers' DiT cannot be", path);
    TRY(peft_config_build(&config, p.ctx, &adapted->dit->config.adapter));
    KinditStatus status = write_folder(&p, adapted, config, path, report);
    arena_close(&p.arena);
    cJSON_Delete(config);
    return status;
}

// ---- reading -------------------------------------------------------------------------------------------------------

// What no one has asked for is no part of the adapter.
static KinditStatus check_used(Peft *p, const Safetensors *file, const bool *used) {
    for (int i = 0; i < file->n_tensors; i++)
        if (!used[i])
            return context_fail(p->ctx, KINDIT_ERROR_FORMAT, "%s: tensor \"%.200s\" is no part of this adapter",
                                file->path, file->tensors[i].name);
    return KINDIT_OK;
}

static KinditStatus read_tensor(Peft *p, const Safetensors *file, const Linear *linear, const PeftTensor *entry,
                                bool *used) {
    const ParamSpec *spec = &p->dit->layout.specs[linear->param[entry->param]];
    const size_t n = params_spec_size(spec, 0);
    const int64_t turned[2] = {spec->shape[1], spec->shape[0]};
    const Tensor *tensor;
    char name[EXCHANGE_NAME_SIZE];
    float *to = p->shared + spec->shared_offset, *values = to;
    name_tensor(name, linear, entry->suffix);
    TRY(safetensors_require(file, p->ctx, name, spec->n_dims, entry->transposed ? turned : spec->shape, &tensor));
    if (entry->transposed) TRY(memory_alloc(p->ctx, n, sizeof *values, &values));
    KinditStatus status = tensor_read_float(tensor, p->ctx, 0, n, values);
    if (entry->transposed) {
        if (!status) transpose(spec->row, (size_t)spec->shape[0], values, to);
        memory_free(&values);
    }
    used[tensor - file->tensors] = true;
    return status;
}

static KinditStatus read_tensors(Peft *p, const Safetensors *file) {
    bool *used;
    TRY(arena_alloc(&p->arena, p->ctx, (size_t)file->n_tensors + 1, sizeof *used, &used));
    memset(used, 0, (size_t)file->n_tensors * sizeof *used);
    for (int i = 0; i < p->dit->n_linears; i++)
        for (int k = 0; k < N_TABLE && p->dit->linears[i]->base; k++)
            if (table[k].kind == p->dit->config.adapter.kind)
                TRY(read_tensor(p, file, p->dit->linears[i], &table[k], used));
    return check_used(p, file, used);
}

static KinditStatus read_config(KinditContext *ctx, const char *folder, AdapterConfig *out) {
    char path[1024];
    cJSON *json;
    TRY(file_path(path, ctx, "%s/adapter_config.json", folder));
    TRY(json_read(&json, ctx, path));
    KinditStatus status = peft_config_parse(json, ctx, path, out);
    cJSON_Delete(json);
    return status;
}

static KinditStatus fill(Peft *p, const char *folder, const Model *dense, Model *out) {
    char path[1024];
    Safetensors file;
    const size_t n = p->dit->layout.n_shared;
    TRY(model_copy_shared(out, dense));
    TRY(arena_alloc(&p->arena, p->ctx, n, sizeof *p->shared, &p->shared));
    engine_download(out->engine, p->shared, out->params.shared, n);
    dit_init_adapters(p->dit, 0, p->shared); // the scale, and what is read below
    TRY(file_path(path, p->ctx, "%s/adapter_model.safetensors", folder));
    TRY(safetensors_open(&file, p->ctx, path));
    KinditStatus status = read_tensors(p, &file);
    safetensors_close(&file);
    if (!status) engine_upload(out->engine, out->params.shared, p->shared, n);
    return status;
}

KinditStatus peft_read(Model **out, const Model *dense, const char *folder) {
    DitConfig config = dense->dit->config;
    KinditContext *ctx = dense->ctx;
    *out = NULL;
    if (config.factored || config.adapter.kind != ADAPTER_NONE)
        return context_fail(ctx, KINDIT_ERROR_ARGUMENT, "%s: an adapter of peft goes on a dense model without another",
                            folder);
    TRY(read_config(ctx, folder, &config.adapter));
    config.fused_qkv = false;
    TRY(model_create_blank(out, ctx, dense->engine, &config, dense->classes, dense->config, 0));
    Peft p = {.ctx = ctx, .dit = (*out)->dit};
    KinditStatus status = fill(&p, folder, dense, *out);
    arena_close(&p.arena);
    if (status) model_close(out);
    return status;
}
