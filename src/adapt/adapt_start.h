// Where a fine-tuned model starts.
#ifndef ADAPT_ADAPT_START_H
#define ADAPT_ADAPT_START_H

#include "adapt/adapt_methods.h"

// Gives `model`, whose weights are fresh (dit_init), those of the base as the method has them: by name, q, k and v from
// a fused one where they are apart; then the tailors of the classes that the base was opened with, in turn; then the
// adapters, with what they need of the base. A singular value decomposition that fails is a numeric error.
KinditStatus adapt_start(const AdaptMethod *method, const Model *base, Model *model, uint64_t seed);

#endif
