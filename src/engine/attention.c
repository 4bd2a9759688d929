// Softmax attention, tiled so that no (T, T) matrix is ever stored.
//
// A task is one head of one sample. Its rows are gathered into contiguous fp32 tiles: keys and values of the whole
// head, queries a tile at a time. Scores are kept transposed, (keys, queries): a query is a vector lane, so that its
// maximum, sum and exponentials need nothing from other lanes. Forward, a tile of queries meets the keys block by block
// and keeps a running maximum m and sum (online softmax); the output is divided by the sum once, at the end:
//
//     S = K Q^T      P = exp(scale S - m)      out = P^T V / sum P      lse = m + log sum P
//
// Backward recomputes the probabilities from lse:
//
//     P = exp(scale S - lse)      dV = P dO      delta = rowsum(dO * O)
//     dS = scale P * (V dO^T - delta)      dQ = dS^T K      dK = dS Q
#include <math.h>
#include <omp.h>
#include <string.h>

#include "engine/internal.h"
#include "engine/rows.h"
#include "engine/simd.h"
#include "engine/tile.h"

enum { QUERY_TILE = 64, KEY_BLOCK = 64, LANES = 16 };

#define SCORE_RANGE 100.0f
#define LOG2_E 1.44269504f
#define LN_2 0.693147181f

typedef struct AttentionShape {
    int tokens, width, heads, head_width, stride;
    float scale;
} AttentionShape;

static AttentionShape attention_shape(int tokens, int width, int heads, int stride) {
    int head_width = width / heads;
    return (AttentionShape){tokens, width, heads, head_width, stride, 1.0f / sqrtf((float)head_width)};
}

// ---- scratch -------------------------------------------------------------------------------------------------------

// One thread's tiles; d is the head's width. Columns per query are padded to whole vectors (LANES).
typedef struct AttentionTiles {
    float *keys, *values;       // (T, d)
    float *dkeys, *dvalues;     // (T, d); backward only
    float *queries, *douts;     // (QUERY_TILE, d)
    float *queries_t, *douts_t; // (d, QUERY_TILE)
    float *scores, *gradients;  // (KEY_BLOCK, QUERY_TILE)
    float *out;                 // (QUERY_TILE, d)
} AttentionTiles;

static float *take(float *scratch, size_t *used, size_t n) {
    float *piece = scratch ? scratch + *used : NULL;
    *used += scratch_size(n);
    return piece;
}

static size_t tiles_cut(int tokens, int head_width, bool backward, float *scratch, AttentionTiles *out) {
    size_t lanes = (size_t)tile_round(tile_min(tokens, QUERY_TILE), LANES), d = (size_t)head_width, used = 0;
    size_t block = (size_t)tile_min(tokens, KEY_BLOCK);
    AttentionTiles tiles = {0};
    tiles.keys = take(scratch, &used, (size_t)tokens * d);
    tiles.values = take(scratch, &used, (size_t)tokens * d);
    tiles.queries = take(scratch, &used, lanes * d);
    tiles.queries_t = take(scratch, &used, lanes * d);
    tiles.scores = take(scratch, &used, lanes * block);
    tiles.out = take(scratch, &used, lanes * d);
    if (backward) {
        tiles.dkeys = take(scratch, &used, (size_t)tokens * d);
        tiles.dvalues = take(scratch, &used, (size_t)tokens * d);
        tiles.douts = take(scratch, &used, lanes * d);
        tiles.douts_t = take(scratch, &used, lanes * d);
        tiles.gradients = take(scratch, &used, lanes * block);
    }
    if (out) *out = tiles;
    return used;
}

size_t engine_attention_scratch(int threads, int batch, int tokens, int width, int heads, bool backward) {
    return (size_t)tile_min(threads, batch * heads) * tiles_cut(tokens, width / heads, backward, NULL, NULL);
}

// ---- tiles of queries ----------------------------------------------------------------------------------------------

// Rows of queries -> `rows` (n, d) and transposed (d, lanes), the columns beyond n zero.
static void load_transposed(int n, int lanes, int d, Activation from, int stride, float *rows, float *transposed) {
    rows_load(n, d, from, stride, rows, d);
    memset(rows + (size_t)n * (size_t)d, 0, (size_t)(lanes - n) * (size_t)d * sizeof *rows);
    gemm_transpose(lanes, d, rows, d, transposed, lanes);
}

// 2^(x - high) for x <= high, x taken as low where it is below (high - low <= 120); relative error below 2e-7. NaN
// stays NaN. 2^y = 2^n 2^r with |r| <= 1/2, the latter by a minimax polynomial. A floor of each lane's own, because a
// constant one makes compilers branch over all the rest.
ENGINE_INLINE float exp2_between(float low, float x, float high) {
    float y = (low > x ? low : x) - high;
    const float magic = 12582912.0f; // 1.5 * 2^23: leaves the nearest integer in the low bits
    float shifted = y + magic, r = y - (shifted - magic);
    float p = 1.3264727313e-3f;
    p = p * r + 9.6715129912e-3f;
    p = p * r + 5.5507335812e-2f;
    p = p * r + 2.4022242427e-1f;
    p = p * r + 6.9314700365e-1f;
    p = p * r + 1.0f;
    uint32_t exponent, bits;
    memcpy(&exponent, &shifted, sizeof exponent);
    memcpy(&bits, &p, sizeof bits);
    bits += exponent << 23;
    memcpy(&p, &bits, sizeof p);
    return p;
}

// log2 x for normal x > 0, NaN for NaN; absolute error below 1e-7 max(1, |log2 x|). x = 2^n m with m in
// [sqrt 1/2, sqrt 2); log m = 2 artanh t, t = (m - 1) / (m + 1).
ENGINE_INLINE float log2_positive(float x) {
    uint32_t bits, sqrt_half = 0x3F3504F3u;
    memcpy(&bits, &x, sizeof bits);
    uint32_t exponent = (bits - sqrt_half + (127u << 23)) >> 23; // n + 127
    bits -= (exponent - 127u) << 23;
    float m;
    memcpy(&m, &bits, sizeof m);
    float t = (m - 1.0f) / (m + 1.0f), square = t * t;
    float series = 1.0f + square * (1.0f / 3 + square * (1.0f / 5 + square * (1.0f / 7 + square * (1.0f / 9))));
    return (float)((int32_t)exponent - 127) + 2 * LOG2_E * t * series + (x - x);
}

// ---- forward -------------------------------------------------------------------------------------------------------

typedef struct RunningSoftmax { // of each query
    _Alignas(64) float highest[QUERY_TILE], sum[QUERY_TILE], keep[QUERY_TILE];
} RunningSoftmax;

// Scores (keys, lanes) -> 2^(scale (score - highest so far)); keep: what earlier blocks' results are to be scaled by.
ENGINE_CLONES static void softmax_block(int keys, int lanes, float scale, float *scores, RunningSoftmax *softmax) {
    float *highest = softmax->highest, *sum = softmax->sum, *keep = softmax->keep;
    float high[QUERY_TILE], low[QUERY_TILE];
#pragma omp simd
    for (int l = 0; l < lanes; l++) keep[l] = scale * highest[l];
    const float *row = scores;
    for (int i = 0; i < keys; i++, row += lanes) {
#pragma omp simd
        for (int l = 0; l < lanes; l++) highest[l] = row[l] > highest[l] ? row[l] : highest[l];
    }
#pragma omp simd
    for (int l = 0; l < lanes; l++) {
        high[l] = scale * highest[l];
        low[l] = high[l] - SCORE_RANGE;
        keep[l] = exp2_between(low[l], keep[l], high[l]);
        sum[l] *= keep[l];
    }
    for (int i = 0; i < keys; i++, scores += lanes) {
#pragma omp simd
        for (int l = 0; l < lanes; l++) {
            scores[l] = exp2_between(low[l], scale * scores[l], high[l]);
            sum[l] += scores[l];
        }
    }
}

// The running results -> lse, and sum -> its inverse
ENGINE_CLONES static void softmax_finish(int n, float scale, RunningSoftmax *softmax, float *lse) {
#pragma omp simd
    for (int i = 0; i < n; i++) {
        lse[i] = scale * softmax->highest[i] + LN_2 * log2_positive(softmax->sum[i]);
        softmax->sum[i] = 1.0f / softmax->sum[i];
    }
}

// Row i *= factors[i]
ENGINE_CLONES static void scale_rows(int n, int d, const float *factors, float *rows) {
    for (int i = 0; i < n; i++, rows += d) {
#pragma omp simd
        for (int c = 0; c < d; c++) rows[c] *= factors[i];
    }
}

static void attend_tile(const AttentionShape *shape, const AttentionTiles *tiles, int n, Activation q, Activation out,
                        float *lse) {
    int d = shape->head_width, lanes = tile_round(n, LANES);
    RunningSoftmax softmax;
    for (int l = 0; l < lanes; l++) softmax.highest[l] = -INFINITY, softmax.sum[l] = 0;
    load_transposed(n, lanes, d, q, shape->stride, tiles->queries, tiles->queries_t);
    for (int j = 0; j < shape->tokens; j += KEY_BLOCK) {
        int keys = tile_min(KEY_BLOCK, shape->tokens - j);
        size_t at = (size_t)j * (size_t)d;
        gemm_tile(GEMM_NN, keys, lanes, d, tiles->keys + at, d, tiles->queries_t, lanes, tiles->scores, lanes, false);
        softmax_block(keys, lanes, shape->scale * LOG2_E, tiles->scores, &softmax);
        if (j > 0) scale_rows(n, d, softmax.keep, tiles->out);
        gemm_tile(GEMM_TN, n, d, keys, tiles->scores, lanes, tiles->values + at, d, tiles->out, d, j > 0);
    }
    softmax_finish(n, shape->scale, &softmax, lse);
    scale_rows(n, d, softmax.sum, tiles->out);
    rows_store(n, d, tiles->out, d, out, shape->width, false);
}

void engine_attention_forward(Engine *engine, int batch, int tokens, int width, int heads, int stride, Activation q,
                              Activation k, Activation v, Activation out, float *lse) {
    engine_profile_begin(engine);
    const AttentionShape shape = attention_shape(tokens, width, heads, stride);
    int tasks = batch * heads, d = shape.head_width;
    size_t size = tiles_cut(tokens, d, false, NULL, NULL);
#pragma omp parallel for num_threads(tile_min(engine->threads, tasks)) schedule(static)
    for (int task = 0; task < tasks; task++) {
        AttentionTiles tiles;
        tiles_cut(tokens, d, false, engine->scratch + (size_t)omp_get_thread_num() * size, &tiles);
        size_t row = (size_t)(task / heads) * (size_t)tokens, column = (size_t)(task % heads) * (size_t)d;
        size_t in = row * (size_t)stride + column;
        rows_load(tokens, d, activation_at(k, in), stride, tiles.keys, d);
        rows_load(tokens, d, activation_at(v, in), stride, tiles.values, d);
        for (int i = 0; i < tokens; i += QUERY_TILE)
            attend_tile(&shape, &tiles, tile_min(QUERY_TILE, tokens - i),
                        activation_at(q, in + (size_t)i * (size_t)stride),
                        activation_at(out, (row + (size_t)i) * (size_t)width + column),
                        lse + (size_t)task * (size_t)tokens + i);
    }
    double pairs = (double)batch * tokens * tokens, elements = (double)batch * tokens * width;
    engine_profile_end(engine, KERNEL_ATTENTION_FORWARD, 4 * pairs * width, 16 * elements);
}

// ---- backward ------------------------------------------------------------------------------------------------------

typedef struct AttentionHead { // at the head's first row
    Activation q, k, v, out, dout, dq, dk, dv;
    const float *lse;
} AttentionHead;

ENGINE_CLONES static void probability_block(int keys, int lanes, float scale, const float *lse, float *scores) {
    for (int i = 0; i < keys; i++, scores += lanes) {
#pragma omp simd
        for (int l = 0; l < lanes; l++) scores[l] = exp2_between(lse[l] - SCORE_RANGE, scale * scores[l], lse[l]);
    }
}

// delta[i] = x_i . y_i
ENGINE_CLONES static void dot_rows(int n, int d, const float *x, const float *y, float *delta) {
    for (int i = 0; i < n; i++, x += d, y += d) {
        float sum = 0;
#pragma omp simd reduction(+ : sum)
        for (int c = 0; c < d; c++) sum += x[c] * y[c];
        delta[i] = sum;
    }
}

// gradients: of the probabilities -> of the products q k
ENGINE_CLONES static void softmax_block_backward(int keys, int lanes, float scale, const float *delta,
                                                 const float *probabilities, float *gradients) {
    for (int i = 0; i < keys; i++, probabilities += lanes, gradients += lanes) {
#pragma omp simd
        for (int l = 0; l < lanes; l++) gradients[l] = scale * probabilities[l] * (gradients[l] - delta[l]);
    }
}

// Queries i .. i + n
static void attend_tile_backward(const AttentionShape *shape, const AttentionTiles *tiles, const AttentionHead *head,
                                 int i, int n) {
    int d = shape->head_width, lanes = tile_round(n, LANES), stride = shape->stride, width = shape->width;
    size_t at_in = (size_t)i * (size_t)stride, at_out = (size_t)i * (size_t)width;
    float lse[QUERY_TILE] = {0}, delta[QUERY_TILE] = {0};
    for (int l = 0; l < n; l++) lse[l] = LOG2_E * head->lse[i + l];
    load_transposed(n, lanes, d, activation_at(head->q, at_in), stride, tiles->queries, tiles->queries_t);
    load_transposed(n, lanes, d, activation_at(head->dout, at_out), width, tiles->douts, tiles->douts_t);
    rows_load(n, d, activation_at(head->out, at_out), width, tiles->out, d);
    dot_rows(n, d, tiles->out, tiles->douts, delta);
    for (int j = 0; j < shape->tokens; j += KEY_BLOCK) {
        int keys = tile_min(KEY_BLOCK, shape->tokens - j);
        size_t at = (size_t)j * (size_t)d;
        float *scores = tiles->scores, *gradients = tiles->gradients;
        gemm_tile(GEMM_NN, keys, lanes, d, tiles->keys + at, d, tiles->queries_t, lanes, scores, lanes, false);
        probability_block(keys, lanes, shape->scale * LOG2_E, lse, scores);
        gemm_tile(GEMM_NN, keys, d, n, scores, lanes, tiles->douts, d, tiles->dvalues + at, d, i > 0);
        gemm_tile(GEMM_NN, keys, lanes, d, tiles->values + at, d, tiles->douts_t, lanes, gradients, lanes, false);
        softmax_block_backward(keys, lanes, shape->scale, delta, scores, gradients);
        gemm_tile(GEMM_NN, keys, d, n, gradients, lanes, tiles->queries, d, tiles->dkeys + at, d, i > 0);
        gemm_tile(GEMM_TN, n, d, keys, gradients, lanes, tiles->keys + at, d, tiles->out, d, j > 0);
    }
    rows_store(n, d, tiles->out, d, activation_at(head->dq, at_in), stride, false);
}

static void attend_head_backward(const AttentionShape *shape, const AttentionTiles *tiles, const AttentionHead *head) {
    int d = shape->head_width, stride = shape->stride, tokens = shape->tokens;
    rows_load(tokens, d, head->k, stride, tiles->keys, d);
    rows_load(tokens, d, head->v, stride, tiles->values, d);
    for (int i = 0; i < tokens; i += QUERY_TILE)
        attend_tile_backward(shape, tiles, head, i, tile_min(QUERY_TILE, tokens - i));
    rows_store(tokens, d, tiles->dkeys, d, head->dk, stride, false);
    rows_store(tokens, d, tiles->dvalues, d, head->dv, stride, false);
}

void engine_attention_backward(Engine *engine, int batch, int tokens, int width, int heads, int stride, Activation q,
                               Activation k, Activation v, Activation out, const float *lse, Activation dout,
                               Activation dq, Activation dk, Activation dv) {
    engine_profile_begin(engine);
    const AttentionShape shape = attention_shape(tokens, width, heads, stride);
    int tasks = batch * heads, d = shape.head_width;
    size_t size = tiles_cut(tokens, d, true, NULL, NULL);
#pragma omp parallel for num_threads(tile_min(engine->threads, tasks)) schedule(static)
    for (int task = 0; task < tasks; task++) {
        AttentionTiles tiles;
        tiles_cut(tokens, d, true, engine->scratch + (size_t)omp_get_thread_num() * size, &tiles);
        size_t row = (size_t)(task / heads) * (size_t)tokens, column = (size_t)(task % heads) * (size_t)d;
        size_t in = row * (size_t)stride + column, at = row * (size_t)width + column;
        AttentionHead head = {activation_at(q, in),   activation_at(k, in),    activation_at(v, in),
                              activation_at(out, at), activation_at(dout, at), activation_at(dq, in),
                              activation_at(dk, in),  activation_at(dv, in),   lse + (size_t)task * (size_t)tokens};
        attend_head_backward(&shape, &tiles, &head);
    }
    double pairs = (double)batch * tokens * tokens, elements = (double)batch * tokens * width;
    engine_profile_end(engine, KERNEL_ATTENTION_BACKWARD, 10 * pairs * width, 32 * elements);
}
