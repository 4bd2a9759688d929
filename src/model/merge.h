// A factored model with one class's tailor open, or with none, as an ordinary dense DiT.
#ifndef MODEL_MERGE_H
#define MODEL_MERGE_H

#include "model/model_file.h"

// *out = the dense model that class `class_index` of `model` sees (one class, its label row, the null row), or for -1
// the learngene alone (no class, the null row). Every matrix is U diag(s) V of the open components, each number summed
// in double and rounded once: so outputs differ from the factored model's by single precision's rounding alone. Its
// null label sees the class's matrices too; the factored model's shuts the tailor. A dense model is an argument error.
KinditStatus model_merge(Model **out, const Model *model, int class_index);

// *out = the dense model, of the same classes, that an adapted model is: W and what its adapter makes of it, summed in
// double and rounded once. A model without an adapter is an argument error.
KinditStatus model_merge_adapter(Model **out, const Model *model);
// The same without what its adapter makes of it.
KinditStatus model_strip_adapter(Model **out, const Model *model);

#endif
