// A model's shared weights as those of another with the same tensors.
#ifndef MODEL_MODEL_COPY_H
#define MODEL_MODEL_COPY_H

#include "model/model_file.h"

// Each tensor of `from` becomes the last rows of the one of its name in `to`: all of them, but for a dense model's
// label table, in which rows of classes come before the null row. A fused q, k and v becomes three where `to` has them
// apart. An argument error that names what `to` has no place for. What else `to` has stays as it is.
KinditStatus model_copy_shared(Model *to, const Model *from);
// One tensor of `from` so.
KinditStatus model_copy_tensor(Model *to, const Model *from, const ParamSpec *spec);

#endif
