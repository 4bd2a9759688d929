// The methods of fine-tuning, a line of one table each: which models each takes, and what of them it trains. What is
// trained of a model follows from the roles of its parameters (model/params.h); the trainer does not know the methods.
#ifndef ADAPT_ADAPT_METHODS_H
#define ADAPT_ADAPT_METHODS_H

#include "model/model_file.h"

// Models that a method can start from; bits.
typedef enum AdaptBase { ADAPT_FACTORED = 1, ADAPT_DENSE = 2 } AdaptBase;

// Which of the base's blocks the new model starts with.
typedef enum AdaptBlocks {
    ADAPT_ALL_BLOCKS,
    ADAPT_LAST_BLOCKS,    // those before them are fresh (Heur-LG)
    ADAPT_SIMILAR_BLOCKS, // those most like a briefly trained model's; the others are fresh (Auto-LG)
    ADAPT_NEEDED_BLOCKS   // those that the output needs most; there are no others, and the base teaches (Laptop-diff)
} AdaptBlocks;

// What the base's weights are made into.
typedef enum AdaptStart {
    ADAPT_AS_IS,
    ADAPT_PRINCIPAL,     // the adapter takes the strongest singular components, the base keeps the rest (PiSSA)
    ADAPT_ALL_VECTORS,   // each of the six matrices in all of its singular components
    ADAPT_RANDOM_VECTORS // N_G of them, chosen at random, are a learngene
} AdaptStart;

typedef struct AdaptMethod {
    const char *name;
    const char *summary; // one line, for people
    unsigned bases;      // AdaptBase
    unsigned frozen;     // roles whose shared rows stay as they are; tailors always train
    double lr;           // the paper's Table 7
    double label_dropout;
    AdapterKind adapter; // rides on the base's six matrices
    AdaptStart start;
    AdaptBlocks blocks;
} AdaptMethod;

extern const AdaptMethod adapt_methods[];
extern const int n_adapt_methods;

// An argument error that lists the methods when there is none of this name.
KinditStatus adapt_method_find(const AdaptMethod **out, KinditContext *ctx, const char *name);

// Whether the learngene, and all that is shared with it, stays as it is: then tailors of this method fit the
// decomposed base.
bool adapt_method_keeps_learngene(const AdaptMethod *method);

#endif
