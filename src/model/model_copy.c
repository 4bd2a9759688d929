#include "model/model_copy.h"

#include <stdio.h>
#include <string.h>

// The last rows of the tensor `name` become rows first .. first + n - 1 of `from`.
static KinditStatus copy_rows(Model *to, const Model *from, const ParamSpec *spec, size_t first, size_t n,
                              const char *name) {
    const ParamSpec *own = params_find(&to->dit->layout, name);
    if (!own || own->row != spec->row || (size_t)own->shape[0] < n)
        return context_fail(to->ctx, KINDIT_ERROR_ARGUMENT, "the new model has no place for the base's \"%s\"", name);
    const size_t skip = (size_t)own->shape[0] - n;
    engine_copy(to->engine, to->params.shared + own->shared_offset + skip * own->row,
                from->params.shared + spec->shared_offset + first * spec->row, n * spec->row);
    return KINDIT_OK;
}

KinditStatus model_copy_tensor(Model *to, const Model *from, const ParamSpec *spec) {
    static const char parts[] = "qkv";
    const char *fused = strstr(spec->name, "qkv.");
    const size_t n = (size_t)spec->shape[0];
    if (!fused || params_find(&to->dit->layout, spec->name)) return copy_rows(to, from, spec, 0, n, spec->name);
    for (size_t i = 0; i < 3; i++) {
        char name[PARAM_NAME_SIZE];
        snprintf(name, sizeof name, "%.*s%c%s", (int)(fused - spec->name), spec->name, parts[i], fused + strlen(parts));
        TRY(copy_rows(to, from, spec, i * (n / 3), n / 3, name));
    }
    return KINDIT_OK;
}

KinditStatus model_copy_shared(Model *to, const Model *from) {
    for (int i = 0; i < from->dit->layout.n_specs; i++) TRY(model_copy_tensor(to, from, &from->dit->layout.specs[i]));
    return KINDIT_OK;
}
