// What attention in fp32 (attention.c) and by products of bf16 (attention_bf16.c) share: a head's rows, and the work on
// scores between the products (attention_lanes.c). Nothing outside these includes this.
//
// Scores are kept transposed, (keys, queries): a query is a vector lane, so that maxima, sums and exponentials take
// nothing from other lanes.
#ifndef ENGINE_ATTENTION_H
#define ENGINE_ATTENTION_H

#include "engine/internal.h"
#include "engine/tile.h"

// A (64, 64) tile of scores and its two operands stay in the nearest caches; larger tiles measured no faster.
enum { QUERY_TILE = 64, KEY_BLOCK = 64 };

#define LOG2_E 1.44269504F

typedef struct AttentionShape {
    int tokens, width, heads, head_width, stride;
    float scale;
} AttentionShape;

typedef struct AttentionHead { // the first rows of one head of one sample; q, k, v, dq, dk, dv are `stride` apart
    Activation q, k, v, out, dout, dq, dk, dv;
    float *lse;
} AttentionHead;

static inline Activation attention_row(Activation rows, int stride, int i) {
    return activation_at(rows, (size_t)i * (size_t)stride);
}

// Rows of the head after this one, of `count` buffers, which a core asks for while it computes.
typedef struct NextRows {
    int count;
    struct {
        const char *first;
        size_t stride, bytes;
    } of[3];
} NextRows;

typedef struct RunningSoftmax { // of each query of a tile
    float highest[QUERY_TILE], sum[QUERY_TILE];
    float keep[QUERY_TILE]; // what the last block left of a result of those before it
} RunningSoftmax;

void softmax_start(RunningSoftmax *softmax);
// Scores (keys, lanes) -> 2^(scale (score - highest so far)), in place or, where `pairs` is given, as bf16 in pairs of
// keys, zeros beside a last one alone. `next` (or NULL): its rows `first` on are asked for.
void softmax_block(int keys, int lanes, float scale, float *scores, uint16_t *pairs, RunningSoftmax *softmax,
                   const NextRows *next, int first);
// lse of n queries from the running results (scale without LOG2_E), and the inverse of each sum in `inverse`.
void softmax_finish(int n, float scale, const RunningSoftmax *softmax, float *inverse, float *lse);

// Backward: scores (keys, lanes) -> probabilities, lse in powers of 2; as bf16, too, where `rows` is given ...
void probability_block(int keys, int lanes, float scale, const float *lse, float *scores, uint16_t *rows,
                       const NextRows *next, int first);
// ... delta[i] = x_i . y_i of n rows ...
void attention_dot_rows(int n, int d, const float *x, const float *y, float *delta);
// ... and gradients (keys, lanes) of the probabilities -> of the products q k, in place or as bf16.
typedef struct HalfScores {
    uint16_t *rows, *pairs; // (keys, lanes), and the same in pairs of keys as above
} HalfScores;
void softmax_block_backward(int keys, int lanes, float scale, const float *delta, const float *probabilities,
                            float *gradients, const HalfScores *halves /* or NULL */, const NextRows *next, int first);

// Pieces of a thread's scratch, one after the other; scratch NULL: they are counted only.
static inline float *attention_take(float *scratch, size_t *used, size_t n) {
    float *piece = scratch ? scratch + *used : NULL;
    *used += scratch_size(n);
    return piece;
}

// One head in fp32, or by products of bf16 where gemm_bf16_is_native(). scratch: of the size that ..._scratch says, in
// floats. next: what to ask for, or count 0: the rows of q, k, v; backward also next[1], those of out and dout.
size_t attention_f32_scratch(int tokens, int head_width, bool backward);
void attention_f32_forward(const AttentionShape *shape, const AttentionHead *head, float *scratch,
                           const NextRows *next);
void attention_f32_backward(const AttentionShape *shape, const AttentionHead *head, float *scratch,
                            const NextRows *next);
size_t attention_bf16_scratch(int tokens, int head_width, bool backward);
void attention_bf16_forward(const AttentionShape *shape, const AttentionHead *head, float *scratch,
                            const NextRows *next);
void attention_bf16_backward(const AttentionShape *shape, const AttentionHead *head, float *scratch,
                             const NextRows *next);

#endif
