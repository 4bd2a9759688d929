// Choosing the blocks of the base that a model of a method of layers starts with (docs/method.md says what of it is our
// reading). Models are looked at on the first batch of the run: its images, noise and timesteps. Of classes that the
// base does not know by id it is given the null label.
#ifndef ADAPT_CHOOSE_BLOCKS_H
#define ADAPT_CHOOSE_BLOCKS_H

#include "adapt/block_map.h"
#include "train/trainer.h"

typedef struct BlockChoice {
    Model *base; // borrowed
    const Dataset *dataset;
    const TrainSettings *train; // of the run
    const char *run;            // folder of the run: auto-lg's model is trained in RUN/pseudo, which is then removed
    int n_keep;
    int64_t pseudo_steps;
} BlockChoice;

KinditStatus choose_blocks(BlockMap *out, KinditContext *ctx, AdaptBlocks which, const BlockChoice *choice);

// What is kept goes by these scores, [depth of the base] each. The base's weights are changed and put back.
// Similarity (similarity_cka) of the stream after each block to that of another model of the same structure, whose
// classes are the data set's; an example is a token.
KinditStatus choose_by_similarity(double *score, KinditContext *ctx, const BlockChoice *choice, Model *other);
// Mean squared change of the epsilon that the base predicts, when the block is left out.
KinditStatus choose_by_error(double *score, KinditContext *ctx, const BlockChoice *choice);

#endif
