// The tailors that a pass computes with, kept in memory while it runs.
#ifndef MODEL_TAILOR_HOLD_H
#define MODEL_TAILOR_HOLD_H

#include "model/model_file.h"

typedef struct TailorHold {
    const Model *model;
    ParamSet params; // the model's, in which tailor[c] is there for the classes held (for all, when the model has no
                     // store)
    int *held, n_held, most;
} TailorHold;

// Room for up to `most` classes at once, reserved in the model's store until the close.
KinditStatus tailor_hold_create(TailorHold *out, const Model *model, int most);
void tailor_hold_close(TailorHold *hold);
// Lets go of what was held, and holds the classes of labels[0..n-1], which are at most `most` different ones; the null
// label, n_classes, needs none. Reads files where need be; on failure nothing is held.
KinditStatus tailor_hold_take(TailorHold *hold, const int *labels, int n);

#endif
