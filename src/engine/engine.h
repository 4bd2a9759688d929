// The engine: every number the layers above compute is computed through these calls. Buffers are engine memory (float *
// here; another backend may hand out device pointers), which callers pass around but never read or write: they go
// through engine_upload and engine_download. Rows are tokens: a buffer (N, m) is row-major.
//
// Calls cannot fail: what could fail (memory) is reserved beforehand, with engine_reserve and the `_scratch` functions.
// Results do not depend on the number of threads: every sum has a fixed order.
//
// Backward convention: `dx` receives the gradient of the input. With `accumulate` true it is added to what dx holds,
// otherwise dx is overwritten. Parameter gradients are always added (they are zeroed once a step).
#ifndef ENGINE_ENGINE_H
#define ENGINE_ENGINE_H

#include "base/context.h"
#include "base/rng.h"

typedef struct Engine Engine;

// Threads from the context's settings. KINDIT_GEMM in the environment names what shall run the products.
KinditStatus engine_create(Engine **out, KinditContext *ctx);
void engine_close(Engine **engine);
int engine_threads(const Engine *engine);
// What runs the products here: "libxsmm 1.17 (hsw)", "OpenBLAS 0.3.21 (Zen)", "plain C (AVX2)".
const char *engine_describe(const Engine *engine);
// What multiplies bf16: "AMX", or "fp32" where the processor has nothing better. KINDIT_BF16 in the environment names
// it.
const char *engine_describe_bf16(void);
// What multiplies 8-bit integers: "AMX", "AVX-512 VNNI", "ARM dot products", or "none". KINDIT_INT8 in the environment
// names it.
const char *engine_describe_int8(void);

// ---- memory --------------------------------------------------------------------------------------------------------
KinditStatus engine_alloc(Engine *engine, size_t n, float **out);   // zeroed, 64-byte aligned; freed with engine_free
void engine_free(Engine *engine, float **buffer);                   // frees and nulls
size_t engine_allocated(const Engine *engine);                      // bytes now held, scratch included
KinditStatus engine_reserve(Engine *engine, size_t scratch_floats); // grows the scratch to at least this
void engine_upload(Engine *engine, float *to, const float *from, size_t n);   // host -> engine
void engine_download(Engine *engine, float *to, const float *from, size_t n); // engine -> host
void engine_copy(Engine *engine, float *to, const float *from, size_t n);
void engine_zero(Engine *engine, float *buffer, size_t n);
bool engine_all_finite(Engine *engine, const float *buffer, size_t n);

// ---- activations: what layers hand to each other -------------------------------------------------------------------
// Stored in fp32, or in bf16 (rounded to nearest even) for half the memory. What a kernel keeps in cache, every sum,
// all parameters and their gradients are fp32; a product whose rows come in bf16 rounds its weights to bf16 too, so
// that its operands are those of a processor with bf16 instructions.
typedef enum EngineType { ENGINE_F32, ENGINE_BF16 } EngineType;
typedef struct Activation {
    void *data; // NULL: none
    EngineType type;
    bool gelu; // a product reads gelu(data) (tanh form), and its dx is the gradient of data itself; as y, without
               // `accumulate`, it receives gelu(y)
} Activation;
size_t engine_type_size(EngineType type);                 // bytes of an element
size_t engine_type_floats(EngineType type, size_t n);     // floats of engine memory that n elements take
Activation activation_f32(const float *data);             // an fp32 buffer as an activation
Activation activation_at(Activation from, size_t offset); // `offset` elements further on; of none, none

// ---- packed weights ------------------------------------------------------------------------------------------------
// Products read weights in an order of their own, into which each call packs them: in scratch, or where the caller
// (sampling) says that they stay as they are, once, in memory of the caller's. A pack belongs to one layer, one type of
// x, and, where gated, to the tailors of one gate.
//
// Integers are -127 .. 127 times a scale: of weights one a row of W, U or V, exactly as formats/quant.h stores them in
// 8 bits; of what is read one a row and piece of ROW_PIECE columns; of hidden values one a row.
typedef struct EnginePack {
    float *weights; // engine memory of the size that ..._pack says, or NULL: in scratch, at each call
    bool ready;     // false: packed by the next call, which sets it
    bool int8;      // as 8-bit integers, and rows rounded to such as they are read, where the processor multiplies them
} EnginePack;

// ---- dense product: y (N, m2) = x (N, m1) W^T + b,  W (m2, m1) as PyTorch stores it --------------------------------
size_t engine_linear_scratch(int n, int m1, int m2); // floats of scratch for forward or backward
size_t engine_linear_pack(int m1, int m2);           // floats of a pack
// Packs W now, for rows of `type`, into pack->weights. The forward call reads no W beside a pack that is ready: it may
// be NULL there, and the matrix itself be gone.
void engine_linear_prepare(Engine *engine, int m1, int m2, EngineType type, const float *W, EnginePack *pack);
void engine_linear_forward(Engine *engine, int n, int m1, int m2, Activation x, const float *W,
                           const float *bias /* (m2) or NULL */, Activation y, EnginePack *pack /* or NULL */);
// dx (N, m1) or none, dW (m2, m1) or NULL, dbias (m2) or NULL
void engine_linear_backward(Engine *engine, int n, int m1, int m2, Activation x, const float *W, Activation dy,
                            Activation dx, bool accumulate, float *dW, float *dbias);

// ---- class-gated low-rank product (paper Eq. 5 and 8) --------------------------------------------------------------
//     y = ((x [U_G; U_c]^T) * [s_G s_c]) [V_G; V_c] + b          c the class of the row's sample
// Component-major: U (r, m1), V (r, m2). A slot is an open tailor of this batch; a sample with slot -1 (null label, or
// all tailors shut) uses the learngene alone. Nothing is multiplied by a tailor that the gate shuts.
typedef struct Gate {
    int n_samples;
    int n_slots;                // tailors open in this batch
    const int *slot;            // [n_samples] slot of each sample, -1: learngene only
    const float *const *tailor; // [n_slots] the parameter vector of each open tailor
    float *const *dtailor;      // [n_slots] its gradient vector; NULL when no gradient is wanted
} Gate;

typedef struct GatedShape {
    int rows; // rows (tokens) per sample: buffers have n_samples * rows rows
    int m1, m2;
    int n_learngene, n_tailor; // N_G and N_T; either may be 0; without N_T the gate's slots are not looked at
    bool frozen;               // the learngene, which gets no gradient
} GatedShape;

typedef struct GatedWeights {
    const float *U, *s, *V;              // learngene: (N_G, m1) (N_G) (N_G, m2)
    const float *bias;                   // (m2) or NULL
    size_t tailor_U, tailor_s, tailor_V; // where (N_T, m1) (N_T) (N_T, m2) begin in a tailor's vector
} GatedWeights;

typedef struct GatedGradients {
    float *U, *s, *V; // of the learngene; U and V NULL, or s: frozen
    float *bias;      // or NULL
} GatedGradients;

// Columns of the hidden values that gradients need: the last so many, N_G + N_T or N_T.
static inline int engine_gated_kept(const GatedShape *shape) {
    return shape->n_tailor + (shape->frozen ? 0 : shape->n_learngene);
}
size_t engine_gated_scratch(const GatedShape *shape, int n_samples, int n_slots);
size_t engine_gated_pack(const GatedShape *shape, int n_slots); // floats of a pack for up to n_slots tailors
// a (n_samples * rows, engine_gated_kept) or none receives x [U_G; U_c]^T before sigma (backward needs it); its last
// N_T columns are 0 where no tailor is open. With `accumulate` the product is added to y; there is no bias then.
void engine_gated_forward(Engine *engine, const GatedShape *shape, const Gate *gate, const GatedWeights *w,
                          Activation x, Activation a, Activation y, bool accumulate, EnginePack *pack /* or NULL */);
void engine_gated_backward(Engine *engine, const GatedShape *shape, const Gate *gate, const GatedWeights *w,
                           Activation x, Activation a, Activation dy, Activation dx /* or none */, bool accumulate,
                           const GatedGradients *dw);

// ---- what fine-tuning methods put beside a product -----------------------------------------------------------------
// LoRA and DoRA. M (m2, m1) = W + sum over k of s_k b_k a_k^T: W (m2, m1), A (r, m1), s (r), B (r, m2). With `lengths`
// (m2) its rows are brought to these, and `norms` (m2) receives what they were; NULL both: as they are.
typedef struct LoraShape {
    int m1, m2, r;
} LoraShape;
typedef struct LoraFactors {
    const float *A, *s, *B, *lengths;
} LoraFactors;
size_t engine_lora_scratch(const LoraShape *shape);
void engine_lora_form(Engine *engine, const LoraShape *shape, const LoraFactors *f, const float *W, float *norms,
                      float *M);
// Gradients of A and B from x (n, m1) and the gradient dy (n, m2) of x M^T; nothing of M's size is formed.
typedef struct LoraGradients {
    float *A, *B;
} LoraGradients;
size_t engine_lora_backward_scratch(const LoraShape *shape, int n);
void engine_lora_backward(Engine *engine, const LoraShape *shape, int n, const LoraFactors *f, const float *norms,
                          Activation x, Activation dy, const LoraGradients *d);
// dlengths (m) += the gradient of the rows' lengths, norms counted as constants, from the product y (n, m) = x M^T +
// bias and its gradient. A length of 0 leaves nothing in y to tell it by, and gets none.
size_t engine_lengths_scratch(int n, int m);
void engine_lengths_backward(Engine *engine, int n, int m, Activation y, const float *bias, const float *lengths,
                             Activation dy, float *dlengths);

// LoHa. out (m2, m1) = W + scale (A1^T B1) * (A2^T B2), element by element; the gradients follow from G = dL/d out and
// both products (2, m2, m1), which forward leaves where it is given a place.
typedef struct HadamardShape {
    int m1, m2, r;
    float scale;
} HadamardShape;
typedef struct HadamardFactors {
    const float *a1, *b1, *a2, *b2; // a (r, m2), b (r, m1)
} HadamardFactors;
typedef struct HadamardGradients {
    float *a1, *b1, *a2, *b2;
} HadamardGradients;
void engine_hadamard_forward(Engine *engine, const HadamardShape *shape, const HadamardFactors *f, const float *W,
                             float *products /* or NULL */, float *out);
void engine_hadamard_backward(Engine *engine, const HadamardShape *shape, const HadamardFactors *f,
                              const float *products, const float *G, const HadamardGradients *d);

// OFT. Each of the `blocks` equal pieces of a row is multiplied by its own rotation, of Cayley's transform of the skew
// matrix whose upper triangle is in q (engine/cayley.h, `terms` too): y (n, m) = x diag(R_1, R_2, ...). First R
// (blocks, b, b) of q. Forward is what multiplies x where y would be multiplied by W (m2, m): out (m2, m) = W diag(R_1,
// ...)^T. type: of x; what products are rounded to.
size_t engine_rotate_scratch(int n, int m2, int m, int blocks, int terms);
void engine_rotate_build(Engine *engine, int m, int blocks, int terms, const float *q, float *R);
void engine_rotate_form(Engine *engine, int m2, int m, int blocks, const float *R, const float *W, EngineType type,
                        float *out);
enum { ENGINE_ROTATE_NARROW = 256 }; // width of the widest block that is not wide
static inline bool engine_rotate_is_wide(int b) {
    return b > ENGINE_ROTATE_NARROW;
}
// dq += the gradient, where blocks are wide from G (m2, m), the gradient of `out` ...
void engine_rotate_backward(Engine *engine, int m2, int m, int blocks, int terms, const float *q, const float *R,
                            const float *W, const float *G, EngineType type, float *dq);
// ... and where they are narrow from dy (n, m), the gradient of y, with dx; dx: or none; dq: or NULL.
void engine_rotate_rows_backward(Engine *engine, int n, int m, int blocks, int terms, const float *q, const float *R,
                                 Activation x, Activation dy, Activation dx, bool accumulate, float *dq);

// SVDiff. sigma (n) = relu(s + d); dd += dsigma where s + d is more than 0.
void engine_shift_forward(Engine *engine, int n, const float *s, const float *d, float *sigma);
void engine_shift_backward(Engine *engine, int n, const float *s, const float *d, const float *dsigma, float *dd);

// ---- attention: softmax(q k^T / sqrt(d)) v, heads h of width d side by side in D = h * d ---------------------------
// q, k, v start at qkv + 0, + D, + 2D of rows that are `stride` floats apart when they share one buffer (fused qkv:
// stride 3D), or are three buffers (stride D). out (B*T, D). lse (B, h, T): log-sum-exp of each row, kept for backward.
// Floats of scratch with engine_threads() == threads: each thread keeps the tiles of the (sample, head) it works on.
size_t engine_attention_scratch(int threads, int batch, int tokens, int width, int heads, bool backward);
void engine_attention_forward(Engine *engine, int batch, int tokens, int width, int heads, int stride, Activation q,
                              Activation k, Activation v, Activation out, float *lse);
void engine_attention_backward(Engine *engine, int batch, int tokens, int width, int heads, int stride, Activation q,
                               Activation k, Activation v, Activation out, const float *lse, Activation dout,
                               Activation dq, Activation dk,
                               Activation dv); // dq, dk, dv have the same stride, overwritten

// ---- LayerNorm (no affine) with adaLN modulation: y = norm(x) * (1 + scale_b) + shift_b ----------------------------
// x, y (B*T, D); shift, scale: row b at shift + b * stride (they lie inside the (B, 6D) adaLN output). eps is added to
// the variance: 1e-6 in DiT. mean, rstd (B*T).
void engine_norm_modulate_forward(Engine *engine, int batch, int tokens, int width, const float *x, const float *shift,
                                  const float *scale, int stride, float eps, Activation y, float *mean, float *rstd);
// Floats of scratch for the backward calls here and below: the sums of parts of the tokens.
size_t engine_norm_scratch(int batch, int tokens, int width);
// dx accumulates if asked; dshift, dscale (same stride) are overwritten.
void engine_norm_modulate_backward(Engine *engine, int batch, int tokens, int width, const float *x, const float *scale,
                                   int stride, const float *mean, const float *rstd, Activation dy, float *dx,
                                   bool accumulate, float *dshift, float *dscale);

// ---- gated residual (adaLN-Zero): out = x + gate_b * y -------------------------------------------------------------
// x, y, out (B*T, D), gate row b at gate + b * stride; out may be x.
void engine_residual_forward(Engine *engine, int batch, int tokens, int width, const float *x, Activation y,
                             const float *gate, int stride, float *out);
// Given dout: dy = gate_b * dout, dgate_b = sum over tokens of y * dout (overwritten). (dx is dout itself.)
void engine_residual_backward(Engine *engine, int batch, int tokens, int width, Activation y, const float *gate,
                              int stride, const float *dout, Activation dy, float *dgate);

// ---- where a residual meets the next branch's norm: both in one pass over memory -----------------------------------
// engine_residual_forward into `out`, then engine_norm_modulate_forward of `out` into `normed`: their arguments, in
// this order. out may be x; gate_stride belongs to gate, stride to shift and scale.
void engine_residual_norm_forward(Engine *engine, int batch, int tokens, int width, const float *x, Activation y,
                                  const float *gate, int gate_stride, float *out, const float *shift,
                                  const float *scale, int stride, float eps, Activation normed, float *mean,
                                  float *rstd);
// engine_norm_modulate_backward (x is what the forward call named out) into dx, then engine_residual_backward with that
// dx, complete, as dout: their arguments, in this order. gate_stride belongs to gate and dgate.
void engine_residual_norm_backward(Engine *engine, int batch, int tokens, int width, const float *x, const float *scale,
                                   int stride, const float *mean, const float *rstd, Activation dnormed, float *dx,
                                   bool accumulate, float *dshift, float *dscale, Activation y, const float *gate,
                                   int gate_stride, Activation dy, float *dgate);

// ---- elementwise ---------------------------------------------------------------------------------------------------
void engine_silu_forward(Engine *engine, size_t n, const float *x, float *y);
void engine_silu_backward(Engine *engine, size_t n, const float *x, const float *dy, float *dx, bool accumulate);
// x = x Phi(x), GELU as its paper and most ViTs have it; the tanh form, which DiT has, is in the products (Activation).
void engine_gelu_exact(Engine *engine, size_t n, float *x);

// ---- DiT's edges ---------------------------------------------------------------------------------------------------
// Image (B, C, S, S) <-> patches (B*T, C*p*p), T = (S/p)^2 row-major; inside a patch the order is (c, py, px) for the
// embedding (as Conv2d weights flatten) ...
void engine_patchify(Engine *engine, int batch, int channels, int size, int patch, const float *image, float *patches);
// ... and (py, px, c) for the final layer's output, as DiT's unpatchify reads it. The two directions of the latter:
void engine_unpatchify(Engine *engine, int batch, int channels, int size, int patch, const float *patches,
                       float *image);
void engine_unpatchify_backward(Engine *engine, int batch, int channels, int size, int patch, const float *dimage,
                                float *dpatches);
void engine_add_position(Engine *engine, int batch, int tokens, int width, const float *position /* (T, D) */,
                         float *x /* (B*T, D) += */);
// out (B, n): cos(t f_i), sin(t f_i) with f_i = 10000^(-i / (n/2 - shift)): for n 256 the original DiT has shift 0,
// i/128, and diffusers shift 1, i/127.
void engine_timestep_features(Engine *engine, int batch, int n, int shift, const float *t, float *out);
// out (B, D) += row of each sample: null_row for slot -1, else gate->tailor[slot] + offset (the label row is the
// tailor's).
void engine_label_forward(Engine *engine, int width, const Gate *gate, const float *null_row, size_t offset,
                          float *out);
void engine_label_backward(Engine *engine, int width, const Gate *gate, const float *dout, float *dnull_row,
                           size_t offset);
// Dense table (K+1, D), rows by label[b] (host ints): out (B, D) += rows, dtable += sums over samples.
void engine_table_forward(Engine *engine, int batch, int width, const int *label, const float *table, float *out);
void engine_table_backward(Engine *engine, int batch, int width, const int *label, const float *dout, float *dtable);

// ---- classification ------------------------------------------------------------------------------------------------
// y (B, D) = the mean of each sample's T rows of x (B*T, D); backward: every row of dx (overwritten) is dy / T.
void engine_mean_forward(Engine *engine, int batch, int tokens, int width, Activation x, float *y);
void engine_mean_backward(Engine *engine, int batch, int tokens, int width, const float *dy, float *dx);
// loss (B, host) = -log softmax(logits)[label] in nats, labels (B) host; dlogits = weight * d(mean over batch of loss)
// / d logits, both (B, classes).
void engine_cross_entropy(Engine *engine, int batch, int classes, const float *logits, const int *labels, float weight,
                          float *loss, float *dlogits);
// best (B, host) = the class of the largest logit, the first of equals.
void engine_best_class(Engine *engine, int batch, int classes, const float *logits, int *best);

// ---- diffusion -----------------------------------------------------------------------------------------------------
// Standard normal numbers for (n_samples, size), sample i keyed by keys[i].
void engine_fill_normal(Engine *engine, int n_samples, size_t size, const RngKey *keys, float *out);
// x_t = a_b x_0 + b_b eps per sample.
void engine_noise(Engine *engine, int batch, size_t size, const float *a /* host */, const float *b /* host */,
                  const float *x0, const float *eps, float *xt);
// uint8 pixels (host) to [-1, 1].
void engine_pixels(Engine *engine, size_t n, const uint8_t *pixels /* host */, float *out);

// The training loss (diffusion/loss.h) per sample, and its gradient by the model's output (B, C or 2C, S, S).
typedef struct LossTerms { // host arrays per sample, of the timestep t of each: see diffusion/schedule.h
    const float *sqrt_recip, *sqrt_recipm1; // x0 = sqrt_recip x_t - sqrt_recipm1 eps
    const float *mean_x0, *mean_xt;         // posterior mean coefficients
    const float *log_variance_low,
        *log_variance_range; // the learned range: low, high - low (taken in double, it is tiny)
    const int *is_first;     // t == 0: decoder NLL instead of KL
} LossTerms;
// mse, vlb (B, host): means over the sample's elements; vlb in bits, with epsilon detached. vlb and `terms` NULL: plain
// MSE (C output channels). doutput = d(mean over batch of mse + vlb) * weight / d output.
void engine_loss(Engine *engine, int batch, int channels, size_t plane, const float *output, const float *x0,
                 const float *xt, const float *eps, const LossTerms *terms, float weight, float *mse, float *vlb,
                 float *doutput);

// How far features are from where they should be, per sample: error[b] (host) += e_b = || x_b - target_b ||^2 /
// || target_b ||^2 and dx += weight * d e_b / d x_b, for x, target, dx (B, size). A target of zeros is left out.
void engine_relative_error(Engine *engine, int batch, size_t size, const float *x, const float *target, float weight,
                           float *error, float *dx);

// One sampler step (DDPM ancestral or DDIM), elementwise; see diffusion/sampler.h for the meaning of the coefficients:
// eps = model epsilon (after guidance), x0 = clip?(x0_xt x - x0_eps eps), x' = mean_x0 x0 + mean_xt x + mean_eps eps +
// sigma z, sigma = exp(0.5 * (frac * log_high + (1 - frac) * log_low)) with frac = (v + 1) / 2 of the variance
// channels, or fixed.
typedef struct SamplerStep {
    float x0_xt, x0_eps; // predicted x0
    bool clip;           // to [-1, 1]; epsilon is then recomputed from the clipped x0
    float mean_x0, mean_xt, mean_eps;
    bool learned_variance;
    float log_low, log_high; // learned range
    float sigma;             // fixed standard deviation otherwise
    bool add_noise;
} SamplerStep;
void engine_sampler_step(Engine *engine, int batch, int channels, int out_channels, size_t plane,
                         const SamplerStep *step, const float *output, const float *noise /* or NULL */, float *x);
// Classifier-free guidance: output[b] = uncond[b] + w (cond[b] - uncond[b]) on the first `guided` channels; the others
// keep cond.
void engine_guide(Engine *engine, int batch, int out_channels, int guided, size_t plane, float w, const float *uncond,
                  float *cond);

// ---- optimiser: AdamW, then EMA, one pass over memory --------------------------------------------------------------
typedef struct AdamSettings {
    float lr, beta1, beta2, eps, weight_decay;
    float ema_decay;
    float gradient_scale; // multiplies g first (clipping, accumulation)
} AdamSettings;
// step >= 1: bias correction. ema_gap >= 0: EMA steps missed since the last update (the parameter stood still: closed
// form ema = w + decay^gap (ema - w)), applied before the update; then one ordinary EMA step. ema may be NULL.
void engine_adamw(Engine *engine, size_t n, const AdamSettings *settings, int64_t step, int64_t ema_gap, const float *g,
                  float *w, float *m, float *v, float *ema);
// The ema_gap steps that `ema` missed while `w` stood still, in the closed form above.
void engine_ema_catch_up(Engine *engine, size_t n, float ema_decay, int64_t ema_gap, const float *w, float *ema);
double engine_sum_squares(Engine *engine, size_t n, const float *x); // fixed order, double

// ---- machine -------------------------------------------------------------------------------------------------------
// What the engine's own loops use here: "x86-64-v4" (AVX-512), "x86-64-v3" (AVX2), "x86-64" (SSE2), "NEON", "scalar".
const char *engine_vectors(void);
// Multiply-adds from registers on all threads, FLOP/s, now: what multiplies operands of this type here.
double engine_measure_peak(Engine *engine, EngineType type);
double engine_measure_bandwidth(Engine *engine); // triad, bytes/s; 0 when out of memory
// Time spent in each kernel since engine_profile_reset; off by default.
typedef struct EngineProfile {
    const char *name;
    int64_t calls;
    double seconds, flops, bytes;
} EngineProfile;
void engine_profile_enable(Engine *engine, bool on);
void engine_profile_reset(Engine *engine);
int engine_profile_read(const Engine *engine, EngineProfile *out, int capacity); // sorted by seconds; returns the count

#endif
