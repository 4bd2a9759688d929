// THE SEAM. A DiT is written once; what differs between plain training, KIND and the fine-tuning methods is how a
// linear layer computes, and what of it is trained. A kind of linear is one file behind this table of functions.
//     dense      linear_dense.c       y = x W^T + b
//     factored   linear_factored.c    y = ((x [U_G; U_c]^T) * [s_G s_c]) [V_G; V_c] + b, c the sample's class      Eq.
//     5, 8
//     lora, ...  adapter.h            what fine-tuning puts beside one of these, its base
#ifndef MODEL_LINEAR_H
#define MODEL_LINEAR_H

#include "model/adapter.h"
#include "model/params.h"

#define LINEAR_INIT_STD 0.02f
typedef enum LinearInit { LINEAR_INIT_XAVIER, LINEAR_INIT_NORMAL, LINEAR_INIT_ZERO } LinearInit; // NORMAL: std 0.02

enum { LINEAR_ADAPTER = 4, LINEAR_PARAMS = 8 };

typedef struct Linear {
    const struct LinearKind *kind;
    const struct LinearKind *base; // of an adapter: the kind it rides on, whose tensors are declared first; else NULL
    const AdapterConfig *adapter;  // then what its config says
    char name[PARAM_NAME_SIZE];    // "blocks.0.attn.q"
    int index;                     // among the model's linears, in file order
    int m1, m2;                    // input and output width
    int rows;                      // rows per sample: the tokens, or 1 for the conditioning path
    int fan_out; // width of the dense matrix whose variance it starts with (3D for q, k, v: DiT's fused one)
    int n_learngene, n_tailor; // N_G and N_T of a factored layer
    LinearInit init;
    int param[LINEAR_PARAMS]; // indices in the layout, each kind's own order; an adapter's from LINEAR_ADAPTER on
    const ParamLayout *layout;
} Linear;

typedef struct LinearKind {
    const char *name;
    // Declares the tensors of `linear` and keeps their indices in linear->param.
    KinditStatus (*declare)(Linear *linear, KinditContext *ctx, ParamLayout *layout);
    // Initial values of the shared rows (class_index < 0) or of one class's tailor rows, into `vector`: host memory,
    // zeroed before, shaped as the shared or as a tailor vector. An adapter's: of its own tensors, those of the base
    // have their values.
    void (*init)(const Linear *linear, uint64_t seed, int class_index, float *vector);
    // Elements per row that forward leaves in `saved` for backward.
    int (*saved)(const Linear *linear);
    // Floats that it leaves there besides, of what it made of its weights; NULL: none.
    size_t (*kept)(const Linear *linear);
    // Floats of engine scratch for forward or backward, whichever needs more.
    size_t (*scratch)(const Linear *linear, int n_samples, int n_slots);
    // Floats of engine memory besides, in which one forward or backward works; NULL: none.
    size_t (*work)(const Linear *linear, int n_samples);
    // Floats of a pack of its weights with up to n_slots tailors (engine.h: packed weights).
    size_t (*pack)(const Linear *linear, int n_slots);
    // x (n_samples * rows, m1) -> y (n_samples * rows, m2). `shared` is the shared vector; the gate carries the
    // tailors. saved: or none where no backward follows. pack: or NULL.
    void (*forward)(const Linear *linear, Engine *engine, const Gate *gate, const float *shared, Activation x,
                    Activation saved, float *work, Activation y, EnginePack *pack);
    // dx (+)= dL/dx unless dx is none; gradients are added where params_gradient has a place in dshared, and to
    // gate->dtailor. y: what forward made of x; only a block's six matrices have it.
    void (*backward)(const Linear *linear, Engine *engine, const Gate *gate, const float *shared, Activation x,
                     Activation y, Activation saved, float *work, Activation dy, Activation dx, bool accumulate,
                     float *dshared);
    // 2 x multiply-adds of one row with `tailor_components` components of tailors open (N_T: one class's).
    double (*flops)(const Linear *linear, double tailor_components);
    // W (m2, m1) = the dense matrix for the class of `tailor` (NULL: the learngene alone), in double. Host memory.
    KinditStatus (*merge)(const Linear *linear, KinditContext *ctx, const float *shared, const float *tailor,
                          double *W);
} LinearKind;

// The order of param[] in each.
enum { DENSE_WEIGHT, DENSE_BIAS };
enum { FACTORED_U, FACTORED_S, FACTORED_V, FACTORED_BIAS };

enum { LORA_A = LINEAR_ADAPTER, LORA_S, LORA_B, DORA_M }; // DoRA has LoRA's first
enum { LOHA_A1 = LINEAR_ADAPTER, LOHA_B1, LOHA_A2, LOHA_B2 };
enum { OFT_R = LINEAR_ADAPTER };
enum { SVDIFF_SHIFT = LINEAR_ADAPTER };

extern const LinearKind linear_dense, linear_factored, linear_lora, linear_dora, linear_loha, linear_oft, linear_svdiff;

// Floats that the rows in `saved` take: whole cache lines, and behind them is what is kept besides.
static inline size_t linear_saved_floats(const Linear *linear, int n_samples, EngineType type) {
    const size_t n = (size_t)n_samples * (size_t)linear->rows * (size_t)linear->kind->saved(linear);
    return (engine_type_floats(type, n) + 15) / 16 * 16;
}

// W (m2, m1) += sum over k of s_k v_k u_k^T of n components: u (n, m1), s (n), v (n, m2). Host memory.
void linear_add_components(const Linear *linear, int n, const float *u, const float *s, const float *v, double *W);

#endif
