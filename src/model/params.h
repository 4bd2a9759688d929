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

typedef enum ParamRole { // bits, so that several can be named at once
    ROLE_SHARED = 1,     // biases, embeddings, adaLN, ...: trained with the learngene, shipped with it
    ROLE_LEARNGENE = 2,  // class-agnostic components, with the tailors' rows of the same tensor
    ROLE_LABELS = 4,     // the label table: a row of each tailor and the null row, or all rows of a dense model
    ROLE_ADAPTER = 8     // what a fine-tuning method adds beside frozen weights
} ParamRole;

enum { PARAM_MAX_DIMS = 4, PARAM_NAME_SIZE = 96 };

typedef struct ParamSpec {
    char name[PARAM_NAME_SIZE]; // as in the file: the original DiT state dict's, plus .U .s .V
    ParamRole role;
    int n_dims;
    int64_t shape[PARAM_MAX_DIMS];       // of the shared rows; shape[0] may be 0
    int64_t tailor_rows;                 // rows per class, 0 for none
    size_t row;                          // floats per row (product of shape[1..])
    bool frozen;                         // its shared rows are never trained (params_freeze)
    bool quantise;                       // a matrix of products: int8 and int4 files keep it in few bits (storage.h)
    size_t shared_offset, tailor_offset; // where the rows begin in each vector
} ParamSpec;

typedef struct ParamLayout {
    int n_specs, capacity;
    ParamSpec *specs;
    size_t n_shared, n_tailor; // floats of the shared vector, and of one tailor
    size_t n_frozen;           // floats at the front of the shared vector that are never trained
} ParamLayout;

// Appends a tensor and returns its index in *index. Offsets are padded to 16 floats, so that each tensor starts on a
// cache line.
KinditStatus params_declare(ParamLayout *layout, KinditContext *ctx, const char *name, ParamRole role,
                            int64_t tailor_rows, int n_dims, const int64_t *shape, int *index);
void params_layout_close(ParamLayout *layout);
// Freezes the shared rows of the tensors with these roles (or-ed; tailors always train), and moves them to the front of
// the shared vector: what trains is then one piece behind them. To be called before any vector is shaped.
void params_freeze(ParamLayout *layout, unsigned roles);
size_t params_trained(const ParamLayout *layout); // floats of that piece
// Where the gradient of a tensor's shared rows goes, in a vector of params_trained floats; NULL when the tensor is
// frozen, or dshared is NULL: no gradient is wanted.
float *params_gradient(const ParamLayout *layout, int index, float *dshared);
const ParamSpec *params_find(const ParamLayout *layout, const char *name); // NULL: none of this name
size_t params_spec_size(const ParamSpec *spec, int n_classes); // elements of the whole tensor, tailors included

// A set of vectors shaped by a layout: weights, a moment of the optimiser, EMA.
typedef struct ParamSet {
    Engine *engine;
    int n_classes;
    size_t first;   // where `shared` begins in the layout's shared vector: 0, or n_frozen in a set of what trains
    float *shared;  // [layout->n_shared - first]
    float **tailor; // [n_classes][layout->n_tailor]
    float *block;   // the one allocation behind them all
} ParamSet;

// All vectors in one allocation, zeroed; n_classes may be 0.
KinditStatus params_alloc(ParamSet *out, Engine *engine, KinditContext *ctx, const ParamLayout *layout, int n_classes);
// The same without what is frozen: moments, averages.
KinditStatus params_alloc_trained(ParamSet *out, Engine *engine, KinditContext *ctx, const ParamLayout *layout,
                                  int n_classes);
void params_close(ParamSet *set);
// Copies what both sets have.
void params_copy(ParamSet *to, const ParamSet *from, const ParamLayout *layout);

#endif
