// Parameters and their roles. Decomposing, freezing, optimising, checkpointing and counting all follow from the roles.
//
// A model's numbers lie in 1 + n_classes vectors:
//     shared     everything that travels with the learngene, the learngene included
//     tailor[c]  all that belongs to class c: its rows of every factored U, s, V and its row of the label table
// so a tailor is one contiguous vector, and handing one out, updating it, or leaving it alone is a matter of one
// pointer.
//
// A tensor of the model file is the rows of the tailors, class after class, then the shared rows:
//     blocks.0.attn.q.U   (n_classes * N_T + N_G, m1)          y_embedder.embedding_table.weight   (n_classes + 1, D)
// A tensor without tailor rows is shared only.
#ifndef MODEL_PARAMS_H
#define MODEL_PARAMS_H

#include "base/context.h"
#include "base/memory.h"
#include "engine/engine.h"

typedef enum ParamRole {
    ROLE_SHARED,    // biases, embeddings, adaLN, ...: trained with the learngene, shipped with it
    ROLE_LEARNGENE, // class-agnostic components, with the tailors' rows of the same tensor
    ROLE_FROZEN     // kept, never trained (none in the two kinds of linear of today)
} ParamRole;

enum { PARAM_MAX_DIMS = 4, PARAM_NAME_SIZE = 96 };

typedef struct ParamSpec {
    char name[PARAM_NAME_SIZE]; // as in the file: the original DiT state dict's, plus .U .s .V
    ParamRole role;
    int n_dims;
    int64_t shape[PARAM_MAX_DIMS];       // of the shared rows; shape[0] may be 0
    int64_t tailor_rows;                 // rows per class, 0 for none
    size_t row;                          // floats per row (product of shape[1..])
    bool quantise;                       // a matrix of products: int8 and int4 files keep it in few bits (storage.h)
    size_t shared_offset, tailor_offset; // where the rows begin in each vector
} ParamSpec;

typedef struct ParamLayout {
    int n_specs, capacity;
    ParamSpec *specs;
    size_t n_shared, n_tailor; // floats of the shared vector, and of one tailor
} ParamLayout;

// Appends a tensor and returns its index in *index. Offsets are padded to 16 floats, so that each tensor starts on a
// cache line.
KinditStatus params_declare(ParamLayout *layout, KinditContext *ctx, const char *name, ParamRole role,
                            int64_t tailor_rows, int n_dims, const int64_t *shape, int *index);
void params_layout_close(ParamLayout *layout);
size_t params_spec_size(const ParamSpec *spec, int n_classes); // elements of the whole tensor, tailors included

// A set of vectors shaped by a layout: weights, a moment of the optimiser, EMA.
typedef struct ParamSet {
    Engine *engine;
    int n_classes;
    float *shared;  // [layout->n_shared]
    float **tailor; // [n_classes][layout->n_tailor]
    float *block;   // the one allocation behind them all
} ParamSet;

// All vectors in one allocation, zeroed; n_classes may be 0.
KinditStatus params_alloc(ParamSet *out, Engine *engine, KinditContext *ctx, const ParamLayout *layout, int n_classes);
void params_close(ParamSet *set);
void params_copy(ParamSet *to, const ParamSet *from, const ParamLayout *layout);

#endif
