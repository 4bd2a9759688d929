// Reading what other programs wrote: the tensors, whatever names and pieces they come in.
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "formats/weights.h"
#include "model/exchange_source.h"

static const double position_tolerance = 5e-3; // bfloat16 rounds by 2e-3; positions of another kind are off by 1

// ---- the source ----------------------------------------------------------------------------------------------------

KinditStatus exchange_number_classes(ExchangeSource *source, int n) {
    TRY(memory_alloc(source->ctx, (size_t)n, sizeof *source->classes, &source->classes));
    for (int c = 0; c < n; c++) {
        snprintf(source->classes[c].id, sizeof source->classes[c].id, "%d", c);
        snprintf(source->classes[c].name, sizeof source->classes[c].name, "%d", c);
    }
    source->config.n_classes = n;
    return KINDIT_OK;
}

void exchange_source_close(ExchangeSource *source) {
    safetensors_close(&source->file);
    memory_free(&source->classes);
    cJSON_Delete(source->document);
    *source = (ExchangeSource){0};
}

// ---- tensors -------------------------------------------------------------------------------------------------------

typedef struct Import {
    const ExchangeSource *source;
    const Dit *dit;
    float *values; // the shared vector; NULL while headers are checked, before there is room for it
    Weights weights;
} Import;

// A dense DiT has one embedder; diffusers' blocks each have their own, which training keeps alike if it shares them.
static KinditStatus require_copies(Import *m, const ParamSpec *spec, int part, int n_copies, const Tensor *first) {
    for (int copy = 1; copy < n_copies; copy++) {
        char name[EXCHANGE_NAME_SIZE];
        const Tensor *tensor;
        exchange_name(name, m->source->format, spec->name, part, copy);
        TRY(weights_require(&m->weights, name, first->n_dims, first->shape, &tensor));
        if (tensor->dtype != first->dtype || memcmp(tensor->data, first->data, first->n_bytes) != 0)
            return context_fail(m->source->ctx, KINDIT_ERROR_UNSUPPORTED,
                                "%s: \"%s\" differs from \"%s\": a DiT has one for all blocks", m->source->file.path,
                                name, first->name);
    }
    return KINDIT_OK;
}

// Rows of classes that are not taken lie between those that are and the null label's.
static KinditStatus read_labels(const Import *m, const ParamSpec *spec, const Tensor *tensor) {
    size_t n = (size_t)m->source->config.n_classes * spec->row;
    float *to = m->values + spec->shared_offset;
    TRY(weights_read(&m->weights, tensor, 0, n, to));
    return weights_read(&m->weights, tensor, (size_t)m->source->n_file_classes * spec->row, spec->row, to + n);
}

static KinditStatus read_parameter(Import *m, const ParamSpec *spec, bool is_label) {
    ExchangePlaces places = exchange_places(m->source->format, spec->name, m->dit->config.depth);
    int64_t shape[PARAM_MAX_DIMS];
    memcpy(shape, spec->shape, sizeof shape);
    if (is_label) shape[0] = (int64_t)m->source->n_file_classes + 1;
    shape[0] /= places.n_parts;
    for (int part = 0; part < places.n_parts; part++) {
        char name[EXCHANGE_NAME_SIZE];
        const Tensor *tensor;
        exchange_name(name, m->source->format, spec->name, part, 0);
        TRY(weights_require(&m->weights, name, spec->n_dims, shape, &tensor));
        if (!m->values) {
            TRY(require_copies(m, spec, part, places.n_copies, tensor));
            continue;
        }
        size_t n = (size_t)shape[0] * spec->row;
        TRY(is_label ? read_labels(m, spec, tensor)
                     : weights_read(&m->weights, tensor, 0, n, m->values + spec->shared_offset + (size_t)part * n));
    }
    return KINDIT_OK;
}

// NaN where a number is none.
static double largest_difference(size_t n, const float *a, const float *b) {
    double largest = 0;
    for (size_t i = 0; i < n; i++) {
        const double apart = fabs((double)a[i] - (double)b[i]);
        if (isnan(apart)) return apart;
        if (apart > largest) largest = apart;
    }
    return largest;
}

// The original code's fixed table: kindit computes it, and so it must be that one.
static KinditStatus check_positions(Import *m) {
    const DitConfig *config = &m->dit->config;
    const Tensor *tensor = safetensors_find(&m->source->file, "pos_embed");
    size_t n = (size_t)dit_config_tokens(config) * (size_t)config->width;
    float *expected = NULL, *found = NULL;
    double largest = 0;
    if (!tensor) return KINDIT_OK;
    TRY(weights_require(&m->weights, "pos_embed", 3, (int64_t[]){1, dit_config_tokens(config), config->width},
                        &tensor));
    KinditStatus status = memory_alloc(m->source->ctx, n, sizeof *expected, &expected);
    if (!status) status = memory_alloc(m->source->ctx, n, sizeof *found, &found);
    if (!status) status = weights_read(&m->weights, tensor, 0, n, found);
    if (!status) dit_position_table(config, expected);
    if (!status) largest = largest_difference(n, found, expected);
    if (!status && !(largest <= position_tolerance))
        status = context_fail(
            m->source->ctx, KINDIT_ERROR_UNSUPPORTED,
            "%s: \"pos_embed\" is up to %.2g from the sin-cos table of a %d x %d grid, which alone is "
            "understood here",
            m->source->file.path, largest, config->image_size / config->patch, config->image_size / config->patch);
    memory_free(&expected);
    memory_free(&found);
    return status;
}

static KinditStatus read_parameters(Import *m) {
    for (int i = 0; i < m->dit->layout.n_specs; i++)
        TRY(read_parameter(m, &m->dit->layout.specs[i], i == m->dit->label));
    return KINDIT_OK;
}

// Every tensor is there in its shape, and no other: then the file bounds the memory that its model takes.
static KinditStatus check_all(Import *m) {
    TRY(weights_begin(&m->weights, m->source->ctx, &m->source->file));
    TRY(read_parameters(m));
    if (m->source->format == EXCHANGE_DIT) TRY(check_positions(m));
    weights_ignore(&m->weights, "pos_embed.pos_embed"); // diffusers' fixed table
    return weights_refuse_others(&m->weights, "a DiT of this size");
}

// ---- the model -----------------------------------------------------------------------------------------------------

static KinditStatus build(Import *m, Model **out, Engine *engine) {
    const ExchangeSource *source = m->source;
    const ParamLayout *layout = &m->dit->layout;
    TRY(check_all(m));
    TRY(model_create_blank(out, source->ctx, engine, &source->config, source->classes, source->document, 0));
    KinditStatus status = memory_alloc(source->ctx, layout->n_shared, sizeof *m->values, &m->values);
    if (!status) status = read_parameters(m);
    if (!status) engine_upload(engine, (*out)->params.shared, m->values, layout->n_shared);
    if (status) model_close(out);
    return status;
}

static KinditStatus import_source(Model **out, Engine *engine, const ExchangeSource *source) {
    Dit *dit;
    KinditStatus status = dit_create(&dit, source->ctx, &source->config);
    if (status) return context_prefix(source->ctx, KINDIT_ERROR_FORMAT, source->file.path);
    Import import = {.source = source, .dit = dit};
    status = build(&import, out, engine);
    memory_free(&import.values);
    weights_end(&import.weights);
    dit_close(&dit);
    return status;
}

KinditStatus exchange_import(Model **out, KinditContext *ctx, Engine *engine, const char *path, int heads) {
    ExchangeSource source = {.ctx = ctx, .config = dit_config_default()};
    KinditStatus status;
    *out = NULL;
    source.config.factored = false;
    if (file_is_folder(path)) {
        source.format = EXCHANGE_DIFFUSERS;
        status = exchange_read_diffusers(&source, path);
    } else {
        source.format = EXCHANGE_DIT;
        status = weights_open(&source.file, ctx, path);
        if (!status) status = exchange_read_dit(&source, heads);
    }
    if (!status) status = import_source(out, engine, &source);
    exchange_source_close(&source);
    return status;
}
