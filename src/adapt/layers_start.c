// Where a model of a method of layers starts.
#include "adapt/layers.h"

static void copy_rows(const Model *base, const ParamSpec *from, int first, Model *model, const ParamSpec *to, int at,
                      size_t n) {
    engine_copy(model->engine, model->params.shared + to->shared_offset + (size_t)at * to->row,
                base->params.shared + from->shared_offset + (size_t)first * from->row, n * from->row);
}

static KinditStatus copy_tensor(const Model *base, const ParamSpec *from, Model *model, const char *name) {
    const ParamSpec *to = params_find(&model->dit->layout, name);
    if (!to || params_spec_size(to, 0) != params_spec_size(from, 0))
        return context_fail(model->ctx, KINDIT_ERROR_ARGUMENT, "the new model has no place for the base's \"%s\"",
                            from->name);
    copy_rows(base, from, 0, model, to, 0, (size_t)from->shape[0]);
    return KINDIT_OK;
}

static KinditStatus copy_labels(const Model *base, Model *model) {
    const ParamSpec *from = &base->dit->layout.specs[base->dit->label],
                    *to = &model->dit->layout.specs[model->dit->label];
    const int n = model->dit->config.n_classes, null_label = base->dit->config.n_classes;
    int *row;
    TRY(block_map_classes(&row, model->ctx, model->classes, n, base));
    for (int c = 0; c <= n; c++)
        if (row[c] != null_label || c == n) copy_rows(base, from, row[c], model, to, c, 1);
    memory_free(&row);
    return KINDIT_OK;
}

KinditStatus layers_start(const cJSON *record, const Model *base, Model *model) {
    const Dit *dit = base->dit;
    BlockMap map;
    TRY(block_map_read(&map, model->ctx, record, model->dit->config.depth, dit->config.depth));
    for (int i = 0; i < dit->layout.n_specs; i++) {
        const ParamSpec *from = &dit->layout.specs[i];
        char name[PARAM_NAME_SIZE];
        if (i != dit->label && block_map_place(&map, from->name, name)) TRY(copy_tensor(base, from, model, name));
    }
    return copy_labels(base, model);
}
