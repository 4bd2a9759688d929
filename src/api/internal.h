// What the public names stand for.
#ifndef API_INTERNAL_H
#define API_INTERNAL_H

#include "model/model_tailors.h"

struct KinditModel {
    KinditContext *ctx; // borrowed
    Engine *engine;
    Model *model;
};

#endif
