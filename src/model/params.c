#include "model/params.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PARAM_ALIGN = 16 }; // floats of a 64-byte cache line

static size_t params_pad(size_t n) {
    return (n + PARAM_ALIGN - 1) / PARAM_ALIGN * PARAM_ALIGN;
}

KinditStatus params_declare(ParamLayout *layout, KinditContext *ctx, const char *name, ParamRole role,
                            int64_t tailor_rows, int n_dims, const int64_t *shape, int *index) {
    if (layout->n_specs == layout->capacity) {
        int capacity = layout->capacity ? layout->capacity * 2 : 64;
        ParamSpec *specs = realloc(layout->specs, (size_t)capacity * sizeof *specs);
        if (!specs) return context_fail(ctx, KINDIT_ERROR_MEMORY, "out of memory for %d tensors", capacity);
        layout->specs = specs;
        layout->capacity = capacity;
    }
    ParamSpec spec = {.role = role, .n_dims = n_dims, .tailor_rows = tailor_rows, .row = 1};
    if (snprintf(spec.name, sizeof spec.name, "%s", name) >= (int)sizeof spec.name)
        return context_fail(ctx, KINDIT_ERROR_ARGUMENT, "tensor name '%s' is too long", name);
    for (int d = 0; d < n_dims; d++) {
        spec.shape[d] = shape[d];
        if (d > 0 && !memory_multiply(spec.row, (size_t)shape[d], &spec.row))
            return context_fail(ctx, KINDIT_ERROR_MEMORY, "tensor '%s' overflows", name);
    }
    size_t shared_size, tailor_size;
    if (!memory_multiply(spec.row, (size_t)shape[0], &shared_size) ||
        !memory_multiply(spec.row, (size_t)tailor_rows, &tailor_size) ||
        shared_size > SIZE_MAX / 64 - layout->n_shared || tailor_size > SIZE_MAX / 64 - layout->n_tailor)
        return context_fail(ctx, KINDIT_ERROR_MEMORY, "tensor '%s' overflows", name);
    spec.shared_offset = layout->n_shared;
    spec.tailor_offset = layout->n_tailor;
    layout->n_shared += params_pad(shared_size);
    layout->n_tailor += params_pad(tailor_size);
    *index = layout->n_specs;
    layout->specs[layout->n_specs++] = spec;
    return KINDIT_OK;
}

void params_layout_close(ParamLayout *layout) {
    free(layout->specs);
    *layout = (ParamLayout){0};
}

void params_freeze(ParamLayout *layout, unsigned roles) {
    size_t at = 0;
    for (int frozen = 1; frozen >= 0; frozen--) {
        for (int i = 0; i < layout->n_specs; i++) {
            ParamSpec *spec = &layout->specs[i];
            if (((spec->role & roles) != 0) != frozen) continue;
            spec->frozen = frozen;
            spec->shared_offset = at;
            at += params_pad(params_spec_size(spec, 0));
        }
        if (frozen) layout->n_frozen = at;
    }
}

size_t params_trained(const ParamLayout *layout) {
    return layout->n_shared - layout->n_frozen;
}

float *params_gradient(const ParamLayout *layout, int index, float *dshared) {
    const ParamSpec *spec = &layout->specs[index];
    return spec->frozen || !dshared ? NULL : dshared + (spec->shared_offset - layout->n_frozen);
}

const ParamSpec *params_find(const ParamLayout *layout, const char *name) {
    for (int i = 0; i < layout->n_specs; i++)
        if (strcmp(layout->specs[i].name, name) == 0) return &layout->specs[i];
    return NULL;
}

size_t params_spec_size(const ParamSpec *spec, int n_classes) {
    return spec->row * ((size_t)spec->shape[0] + (size_t)spec->tailor_rows * (size_t)n_classes);
}

// A set whose shared vector begins at `first` of the layout's.
static KinditStatus params_alloc_from(ParamSet *out, Engine *engine, KinditContext *ctx, const ParamLayout *layout,
                                      int n_classes, size_t first) {
    *out = (ParamSet){.engine = engine, .n_classes = n_classes, .first = first};
    const size_t n_shared = layout->n_shared - first;
    size_t tailors;
    if (!memory_multiply(layout->n_tailor, (size_t)n_classes, &tailors) || tailors > SIZE_MAX / 8 - n_shared)
        return context_fail(ctx, KINDIT_ERROR_MEMORY, "%d tailors of %zu floats overflow", n_classes, layout->n_tailor);
    TRY(engine_alloc(engine, n_shared + tailors, &out->block));
    KinditStatus status = memory_alloc(ctx, (size_t)n_classes + 1, sizeof *out->tailor, &out->tailor);
    if (status) {
        params_close(out);
        return status;
    }
    out->shared = out->block;
    for (int c = 0; c < n_classes; c++) out->tailor[c] = out->block + n_shared + (size_t)c * layout->n_tailor;
    return KINDIT_OK;
}

KinditStatus params_alloc(ParamSet *out, Engine *engine, KinditContext *ctx, const ParamLayout *layout, int n_classes) {
    return params_alloc_from(out, engine, ctx, layout, n_classes, 0);
}

KinditStatus params_alloc_trained(ParamSet *out, Engine *engine, KinditContext *ctx, const ParamLayout *layout,
                                  int n_classes) {
    return params_alloc_from(out, engine, ctx, layout, n_classes, layout->n_frozen);
}

void params_close(ParamSet *set) {
    if (set->engine) engine_free(set->engine, &set->block);
    memory_free(&set->tailor);
    *set = (ParamSet){0};
}

void params_copy(ParamSet *to, const ParamSet *from, const ParamLayout *layout) {
    const size_t first = to->first > from->first ? to->first : from->first;
    engine_copy(to->engine, to->shared + (first - to->first), from->shared + (first - from->first),
                layout->n_shared - first);
    for (int c = 0; c < to->n_classes; c++) engine_copy(to->engine, to->tailor[c], from->tailor[c], layout->n_tailor);
}
