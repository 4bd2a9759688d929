// DiT with adaLN-Zero (Peebles & Xie 2023), written once over the seam (linear.h): forward and the full backward by
// hand.
//
//     x = patchify(image) W_x + b + pos                                     (B*T, D)
//     c = mlp(features(t)) + label row                                      (B, D)
//     a block:  [shift1 scale1 gate1 shift2 scale2 gate2] = silu(c) W_ada   (B, 6D)
//               x += gate1 * attention(modulate(norm(x), shift1, scale1))
//               x += gate2 * mlp(modulate(norm(x), shift2, scale2))
//     out = unpatchify(modulate(norm(x), shift, scale) W_out)               (B, C or 2C, S, S)
//
// A classifier has the same blocks with a head in place of the image: there is neither time nor class to be told, so c
// is one learned row, and each adaLN becomes a LayerNorm's learned scale and shift with a gate per channel.
//
//     out = mean over tokens of modulate(norm(x), shift, scale), times W_head, + b       (B, n_classes)
#ifndef MODEL_DIT_H
#define MODEL_DIT_H

#include "model/linear.h"

#define DIT_NORM_EPS 1e-6 // of every LayerNorm
enum { DIT_FREQUENCIES = 256, DIT_MAX_CLASSES = 1 << 20, DIT_CLASS_NAME_SIZE = 64 };

typedef struct DitConfig {
    int image_size, channels, patch; // the model's input is (channels, image_size, image_size)
    int width, depth, heads, mlp_ratio;
    bool learn_sigma;             // output has 2 * channels planes
    bool classifier;              // output is a logit per class; dense, and without learned sigma
    bool factored;                // KIND; false: every linear dense ("Trad. PT")
    bool fused_qkv, factor_adaln; // the accounting of Table 1; both false: Section 3.2's six matrices
    int n_learngene, n_tailor;    // N_G, N_T per class; 0 when not factored
    int n_classes;
    AdapterConfig adapter; // of each block's q, k, v, o, in, out, which are then apart; kind ADAPTER_NONE: none
    // Where DiTs of other programs compute otherwise; both are as in the original DiT by default.
    int time_shift;      // time frequency i is 10000^(-i / (128 - time_shift)); diffusers: 1
    double mlp_norm_eps; // of the norm before each MLP alone: diffusers' norm_eps
} DitConfig;

// "DiT-B/2" and the like: width, depth, heads, patch of S, B, L, XL with patch 2, 4, 8; other fields stay.
KinditStatus dit_config_preset(DitConfig *config, KinditContext *ctx, const char *name);
DitConfig dit_config_default(void); // DiT-S/2 of 32x32, 4 channels, learned sigma, mlp_ratio 4, factored
// Checks every bound and divisibility; the message names the field.
KinditStatus dit_config_check(const DitConfig *config, KinditContext *ctx);
int dit_config_tokens(const DitConfig *config);
int dit_config_out_channels(const DitConfig *config);
size_t dit_config_output(const DitConfig *config); // floats of a sample's output
// Sets N_G and N_T in the paper's proportions: 53/128 of the width, and width / 256 (at least 1) for each class.
void dit_config_usual_factors(DitConfig *config);
// Heads of the preset of this width and depth, 0 when there is none.
int dit_config_usual_heads(int width, int depth);
// table (tokens, width) = the fixed positions, DiT's get_2d_sincos_pos_embed: the first half of a row encodes the
// column, the second half the row; each half is [sin(p w_i), cos(p w_i)] with w_i = 10000^(-i / (width / 4)).
void dit_position_table(const DitConfig *config, float *table);

typedef struct DitBlock {
    Linear adaln, q, k, v, o, in, out; // with fused_qkv, q is the fused one (m2 = 3D) and k, v are unused
} DitBlock;

// A model's structure: layers and the layout of their parameters; no numbers. A few kilobytes at any size.
typedef struct Dit {
    KinditContext *ctx;
    DitConfig config;
    ParamLayout layout;
    Linear x_embedder, t_in, t_out, final_adaln;
    Linear final_linear; // a classifier's head, whose t_in and t_out are unused
    DitBlock *blocks;    // [depth]
    Linear **linears;    // all of the above, in file order
    int n_linears;
    int label; // parameter index of y_embedder.embedding_table.weight
} Dit;

// With an adapter all else but the labels is frozen: adapters give no gradient to what they ride on.
KinditStatus dit_create(Dit **out, KinditContext *ctx, const DitConfig *config);
void dit_close(Dit **dit);

// Initial values: DiT's (Xavier-uniform, normal 0.02 for labels and time MLP, zero adaLN and final layer), factored
// layers as kind of linear says. `params` is allocated already. Tailor c's numbers depend on the seed and c only.
KinditStatus dit_init(const Dit *dit, ParamSet *params, uint64_t seed);
// Of the adapters' tensors alone, in host memory: `vector` is a shared one that has the rest.
void dit_init_adapters(const Dit *dit, uint64_t seed, float *vector);
KinditStatus dit_init_tailor(const Dit *dit, float *tailor /* engine memory */, Engine *engine, int class_index,
                             uint64_t seed);

// Parameters and FLOPs (2 x multiply-adds) without allocating the model, in the accounting of the paper's
// tables.
typedef struct DitCounts {
    int64_t total;          // every tailor, null row included
    int64_t learngene;      // factored components of the learngene (s included)
    int64_t shared;         // all else that travels with it: biases, embeddings, adaLN, null row
    int64_t tailor;         // one class: its components and label row
    int64_t label_rows;     // the label table, (n_classes + 1) * D
    int64_t trained;        // of the total, what is not frozen
    int64_t position;       // the frozen sin-cos table (not stored, in none of the counts above)
    double flops_linear;    // one image through the linear layers
    double flops_attention; // QK^T and AV
} DitCounts;
// open_tailors: how many classes' tailors are open at once for the FLOPs (1 in ordinary use; the paper's Table 2 uses
// all of a task).
void dit_count(const Dit *dit, double open_tailors, DitCounts *out);
// FLOPs of a step for one image, forward and backward, which takes as much again for the gradients of activations, and
// for those of weights the share of the weights it passes through that train.
double dit_training_flops(const Dit *dit);

// An argument error when max_batch samples have more tokens than the engine's ints count: 2^30.
KinditStatus dit_check_batch(const Dit *dit, int max_batch);

// What a pass keeps, and in what.
typedef struct DitMode {
    bool training;   // what backward needs
    bool pack;       // inference: the weights, packed for the kernels: they stay as they are from one pass to the next;
                     // not those of the conditioning, which is computed for several passes at once
    bool int8;       // inference: the matrices that files keep in few bits multiply as 8-bit integers, where the
                     // processor does such (engine_describe_int8); not the conditioning, of one row a sample
    bool recompute;  // of each block its input alone: backward computes the rest again (same bits, a forward pass more)
    int slots;       // the most tailors that a batch opens; 0: as many as it may have samples
    int passes;      // inference: of so many the conditioning is computed at once (dit_condition); 0: of one
    EngineType type; // of what a block's layers hand to each other; the residual stream and the conditioning stay fp32
} DitMode;

// Memory for activations of up to max_batch samples, planned once. The two counts hold for batches that pass
// dit_check_batch.
typedef struct DitWorkspace DitWorkspace;
size_t dit_workspace_floats(const Dit *dit, int max_batch, DitMode mode); // exact, scratch excluded
size_t dit_scratch_floats(const Dit *dit, int max_batch, int threads, DitMode mode);
KinditStatus dit_workspace_create(DitWorkspace **out, const Dit *dit, Engine *engine, int max_batch, DitMode mode);
void dit_workspace_close(DitWorkspace **workspace);
// With mode.pack or mode.int8: another gate, other tailors or other weights from the next pass on.
void dit_workspace_repack(DitWorkspace *workspace);

// What a pass is given. labels (host): class index or n_classes = null; used by dense models (whose label table is
// shared); factored models read the gate, whose slots must agree. A classifier reads neither t nor labels; its
// gate is shut: every slot is -1.
typedef struct DitBatch {
    int n;
    const float *x;                   // (n, C, S, S)
    const float *t;                   // (n) timesteps as floats, engine memory
    const int *labels;                // (n) host
    const Gate *gate;                 // never NULL; gate->n_samples is n
    const struct DitTargets *targets; // NULL: none
} DitBatch;

// Where the residual stream should be after some of the blocks: what backward adds to the loss.
typedef struct DitTargets {
    const float *const *stream; // [depth] (n, T, D) engine memory after each block; NULL: anywhere
    float weight;               // of each sample's relative error (engine_relative_error) after each of them
    float *error;               // [n] host: backward adds the errors of a sample over the blocks, unweighted
} DitTargets;

// The residual stream (n, T, D) after block i, as the last dit_forward on a training workspace left it.
const float *dit_stream(const Dit *dit, const DitWorkspace *workspace, int i);

// output (n, C or 2C, S, S), of a classifier the logits (n, n_classes).
void dit_forward(const Dit *dit, DitWorkspace *workspace, const float *shared, const DitBatch *batch, float *output);
// dit_forward in two. The conditioning of batch->n samples, up to mode.passes times as many as the workspace has, by
// their t, labels and gate (x is not looked at): it reads each adaLN's weights once for all of them.
void dit_condition(const Dit *dit, DitWorkspace *workspace, const float *shared, const DitBatch *batch);
// The rest, where the conditioning of sample i is that of sample first + i of the last dit_condition (t is not looked
// at).
void dit_forward_conditioned(const Dit *dit, DitWorkspace *workspace, const float *shared, const DitBatch *batch,
                             int first, float *output);
// After dit_forward with the same batch on a training workspace. Adds to dshared (params_trained floats, or NULL) and
// to batch->gate->dtailor; what is frozen gets no gradient, nor is one computed for it.
void dit_backward(const Dit *dit, DitWorkspace *workspace, const float *shared, const DitBatch *batch,
                  const float *doutput, float *dshared);
// What the head of a classifier read in the last pass: (n, D) in engine memory, the features of its samples.
const float *dit_features(const DitWorkspace *workspace);

#endif
