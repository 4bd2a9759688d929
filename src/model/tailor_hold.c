#include "model/tailor_hold.h"

#include "model/tailor_store.h"

KinditStatus tailor_hold_create(TailorHold *out, const Model *model, int most) {
    *out = (TailorHold){.model = model, .params = model->params};
    if (!model->store) return KINDIT_OK;
    size_t n = (size_t)model->params.n_classes;
    KinditStatus status = memory_alloc(model->ctx, n, sizeof *out->params.tailor, &out->params.tailor);
    if (!status) status = memory_alloc(model->ctx, n, sizeof *out->held, &out->held);
    if (!status) {
        tailor_store_reserve(model->store, most);
        out->most = most;
    } else {
        tailor_hold_close(out);
    }
    return status;
}

static void let_go(TailorHold *hold) {
    for (int i = 0; i < hold->n_held; i++) {
        tailor_store_release(hold->model->store, hold->model->tailors[hold->held[i]]);
        hold->params.tailor[hold->held[i]] = NULL;
    }
    hold->n_held = 0;
}

void tailor_hold_close(TailorHold *hold) {
    if (!hold->model || !hold->model->store) return;
    let_go(hold);
    if (hold->most) tailor_store_reserve(hold->model->store, -hold->most);
    memory_free(&hold->params.tailor);
    memory_free(&hold->held);
    *hold = (TailorHold){0};
}

KinditStatus tailor_hold_take(TailorHold *hold, const int *labels, int n) {
    const Model *model = hold->model;
    if (!model->store) return KINDIT_OK;
    let_go(hold);
    for (int i = 0; i < n; i++) {
        int c = labels[i];
        if (c >= model->n_tailors || hold->params.tailor[c]) continue;
        KinditStatus status = tailor_store_hold(model->store, model->ctx, model->tailors[c], &hold->params.tailor[c]);
        if (status) {
            let_go(hold);
            return status;
        }
        hold->held[hold->n_held++] = c;
    }
    return KINDIT_OK;
}
