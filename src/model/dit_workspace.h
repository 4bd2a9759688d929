// The memory that a pass through a DiT computes in, planned once: what dit_forward.c reads and writes.
// B samples, T tokens, D width, H hidden width of the MLP, N = B * T rows; R samples whose conditioning is computed at
// once: B, or of several passes B each.
#ifndef MODEL_DIT_WORKSPACE_H
#define MODEL_DIT_WORKSPACE_H

#include "model/dit.h"

// What one block leaves for its backward. Where nothing needs to be left (inference, or backward recomputes), all
// blocks share the second part; in inference x_in and x_mid are both the stream, updated in place.
typedef struct BlockActivations {
    float *ada, *dada;      // (R, 6D) shift1 scale1 gate1 shift2 scale2 gate2, and their gradients (B, 6D)
    Activation saved_adaln; // (B, kind->saved); none in inference
    float *x_in;            // (N, D) the residual stream before attention
    // shared by blocks that leave nothing
    float *x_mid;            // (N, D) the stream before the MLP
    float *mean1, *rstd1;    // (N)
    float *mean2, *rstd2;    // (N)
    float *lse;              // (B, heads, T)
    Activation qkv;          // (N, 3D) when fused, 3 x (N, D) when apart
    Activation attention, o; // (N, D)
    Activation in;           // (N, H) before GELU, which the next layer applies as it reads; in inference behind it
    Activation out;          // (N, D)
    Activation saved_q, saved_k, saved_v, saved_o, saved_in, saved_out; // (N, kind->saved); none in inference
} BlockActivations;

struct DitWorkspace {
    Engine *engine;
    float *memory;
    int max_batch;
    DitMode mode;
    BlockActivations *blocks; // [depth]
    EnginePack *packs;        // [linears], or NULL without mode.pack and mode.int8
    int n_packs;
    float *work;          // of the linear at hand
    float *position;      // (T, D) sin-cos table
    float *patches;       // (N, C p p)
    float *frequencies;   // (R, 256) of the timestep
    float *t_in, *t_silu; // (R, D) inside the timestep MLP
    float *c, *c_silu;    // (R, D) conditioning
    float *x;             // (N, D) the stream's end
    float *ada;           // (R, 2D) shift, scale of the final layer
    Activation norm;      // (N, D) modulated norm: of the place at hand, backward computes it again
    float *mean, *rstd;   // (N)
    float *out_patches;   // (N, p p Cout), then their gradient; a classifier has none, but
    float *features;      // (B, D) the mean token, and
    float *dfeatures;     // (B, D) its gradient
    // gradients, training only
    float *dx;                // (N, D) of the stream
    Activation dy, dn;        // (N, D)
    Activation dqkv, dh;      // (N, 3D), (N, H): in the same place, for they are never both alive
    float *dada;              // (B, 2D) of the final layer
    float *dc_silu, *dc, *dt; // (B, D)
};

#endif
