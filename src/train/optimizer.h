// AdamW and EMA over a model's vectors, by role: the shared vector, without what is frozen, every step, a tailor only
// when its class was in the batch. An absent tailor gets no gradient, no momentum drift and its own step count; its EMA
// is caught up in closed form.
#ifndef TRAIN_OPTIMIZER_H
#define TRAIN_OPTIMIZER_H

#include "kind/gate.h"
#include "model/params.h"

typedef struct Optimizer {
    Engine *engine;
    const ParamLayout *layout;
    AdamSettings settings;
    ParamSet m, v, ema;    // of what trains
    int64_t step;          // steps taken
    int64_t *tailor_steps; // [n_classes] updates of each tailor
    int64_t *tailor_last;  // [n_classes] value of `step` at its last update
} Optimizer;

KinditStatus optimizer_create(Optimizer *out, KinditContext *ctx, Engine *engine, const ParamLayout *layout,
                              const ParamSet *params, const AdamSettings *settings); // EMA starts at the weights
void optimizer_close(Optimizer *optimizer);
// One step: dshared (params_trained floats), and the gradients of the tailors open in `gate`.
void optimizer_step(Optimizer *optimizer, ParamSet *params, const float *dshared, const ClassGate *gate);
// out, a whole set = EMA of everything as of now, absent tailors caught up, frozen weights as they are; the optimiser's
// own state is untouched.
void optimizer_read_ema(const Optimizer *optimizer, const ParamSet *params, ParamSet *out);

#endif
