#include "train/optimizer.h"

KinditStatus optimizer_create(Optimizer *out, KinditContext *ctx, Engine *engine, const ParamLayout *layout,
                              const ParamSet *params, const AdamSettings *settings) {
    const int n_classes = params->n_classes;
    *out = (Optimizer){.engine = engine, .layout = layout, .settings = *settings};
    KinditStatus status = params_alloc_trained(&out->m, engine, ctx, layout, n_classes);
    if (!status) status = params_alloc_trained(&out->v, engine, ctx, layout, n_classes);
    if (!status) status = params_alloc_trained(&out->ema, engine, ctx, layout, n_classes);
    if (!status) status = memory_alloc(ctx, (size_t)n_classes, sizeof(int64_t), &out->tailor_steps);
    if (!status) status = memory_alloc(ctx, (size_t)n_classes, sizeof(int64_t), &out->tailor_last);
    if (status) {
        optimizer_close(out);
        return status;
    }
    params_copy(&out->ema, params, layout);
    return KINDIT_OK;
}

void optimizer_close(Optimizer *optimizer) {
    params_close(&optimizer->m);
    params_close(&optimizer->v);
    params_close(&optimizer->ema);
    memory_free(&optimizer->tailor_steps);
    memory_free(&optimizer->tailor_last);
    *optimizer = (Optimizer){0};
}

void optimizer_step(Optimizer *optimizer, ParamSet *params, const float *dshared, const ClassGate *gate) {
    Engine *engine = optimizer->engine;
    const ParamLayout *layout = optimizer->layout;
    const int64_t step = ++optimizer->step;
    engine_adamw(engine, params_trained(layout), &optimizer->settings, step, 0, dshared,
                 params->shared + layout->n_frozen, optimizer->m.shared, optimizer->v.shared, optimizer->ema.shared);
    for (int slot = 0; slot < gate->gate.n_slots; slot++) {
        const int c = gate->slot_class[slot];
        const int64_t missed = step - 1 - optimizer->tailor_last[c];
        engine_adamw(engine, layout->n_tailor, &optimizer->settings, ++optimizer->tailor_steps[c], missed,
                     gate->dtailor[slot], params->tailor[c], optimizer->m.tailor[c], optimizer->v.tailor[c],
                     optimizer->ema.tailor[c]);
        optimizer->tailor_last[c] = step;
    }
}

void optimizer_read_ema(const Optimizer *optimizer, const ParamSet *params, ParamSet *out) {
    engine_copy(optimizer->engine, out->shared, params->shared, optimizer->layout->n_frozen);
    params_copy(out, &optimizer->ema, optimizer->layout);
    for (int c = 0; c < out->n_classes; c++)
        engine_ema_catch_up(optimizer->engine, optimizer->layout->n_tailor, optimizer->settings.ema_decay,
                            optimizer->step - optimizer->tailor_last[c], params->tailor[c], out->tailor[c]);
}
