// Attention of one head by products of bf16: every operand of a product is rounded to bf16, sums and the work on scores
// are fp32. Of gemm_bf16's two operands the first lies in rows, the second in pairs of rows; a tile of scores is the
// second one forward (probabilities in pairs of keys) and the first one for the gradients of keys and values, so that
//
//     out^T = V^T P      dQ^T = K^T dS      dV = P dO      dK = dS Q
//
// and none of the scores' tiles is transposed. Rows seen as pairs of columns, 4 bytes each, and transposed are columns
// in pairs; pairs of rows transposed are columns.
#include <string.h>

#include "engine/amx.h"
#include "engine/attention.h"
#include "engine/gemm_bf16.h"
#include "engine/rows.h"
#include "engine/simd.h"

// One thread's tiles; d is the width of a head. Depths of products are padded with zeros to whole steps: d to D, T to
// S, a tile's queries to lanes.
typedef struct Bf16Tiles {
    uint16_t *keys, *values;            // (T, D), where the head's rows are not such already
    uint16_t *keys_t, *values_t;        // (d, S): the former backward, the latter forward
    float *pairs;                       // (S / 2, d) or (lanes, D / 2) pairs of bf16, before they are transposed
    uint16_t *queries, *douts;          // (D / 2, lanes, 2) columns in pairs
    uint16_t *query_pairs, *dout_pairs; // (lanes / 2, d, 2) rows in pairs
    float *scores, *gradients;          // (KEY_BLOCK, lanes)
    uint16_t *score_rows;               // (KEY_BLOCK, lanes) ...
    uint16_t *score_pairs;              // ... or in pairs of keys
    float *dkeys, *dvalues;             // (T, d)
    float *out_t;                       // (d, lanes); backward dq
    float *out, *dout;                  // (lanes, d)
} Bf16Tiles;

// bf16 numbers in the room of half as many floats.
static uint16_t *take_halves(float *scratch, size_t *used, size_t n) {
    return (uint16_t *)(void *)attention_take(scratch, used, (n + 1) / 2);
}

// Returns the floats of scratch that they take; scratch NULL: that only.
static size_t tiles_cut(int tokens, int head_width, bool backward, float *scratch, Bf16Tiles *out) {
    const size_t T = (size_t)tokens, S = (size_t)tile_round(tokens, BF16_STEP), d = (size_t)head_width;
    const size_t D = (size_t)tile_round(head_width, BF16_STEP);
    const size_t lanes = (size_t)tile_round(tile_min(tokens, QUERY_TILE), BF16_STEP);
    size_t used = 0;
    *out = (Bf16Tiles){0};
    out->keys = take_halves(scratch, &used, T * D);
    out->values_t = take_halves(scratch, &used, d * S);
    out->pairs = attention_take(scratch, &used, scratch_larger(S / 2 * d, lanes * D / 2));
    out->queries = take_halves(scratch, &used, D * lanes);
    out->scores = attention_take(scratch, &used, KEY_BLOCK * lanes);
    out->score_pairs = take_halves(scratch, &used, KEY_BLOCK * lanes);
    out->out_t = attention_take(scratch, &used, d * lanes);
    out->out = attention_take(scratch, &used, lanes * d);
    if (backward) {
        out->values = take_halves(scratch, &used, T * D);
        out->keys_t = out->values_t;
        out->douts = take_halves(scratch, &used, D * lanes);
        out->query_pairs = take_halves(scratch, &used, lanes * d);
        out->dout_pairs = take_halves(scratch, &used, lanes * d);
        out->gradients = attention_take(scratch, &used, KEY_BLOCK * lanes);
        out->score_rows = take_halves(scratch, &used, KEY_BLOCK * lanes);
        out->dkeys = attention_take(scratch, &used, T * d);
        out->dvalues = attention_take(scratch, &used, T * d);
        out->dout = attention_take(scratch, &used, lanes * d);
    }
    return used;
}

size_t attention_bf16_scratch(int tokens, int head_width, bool backward) {
    Bf16Tiles unused;
    return tiles_cut(tokens, head_width, backward, NULL, &unused);
}

// ---- operands ------------------------------------------------------------------------------------------------------

// n rows -> their columns in pairs (D / 2, lanes, 2), by way of `pairs`.
static void load_column_pairs(int n, int lanes, int d, Activation from, int stride, float *pairs, uint16_t *columns) {
    const int half = tile_round(d, BF16_STEP) / 2;
    rows_load_bf16(n, d, from, stride, (uint16_t *)(void *)pairs, 2 * half);
    memset(pairs + (size_t)n * (size_t)half, 0, (size_t)(lanes - n) * (size_t)half * sizeof *pairs);
    gemm_transpose(lanes, half, pairs, half, (float *)(void *)columns, lanes);
}

// n rows (n, d) = the columns of from (d, lanes), stored.
static void store_columns(int n, int lanes, int d, const float *from, float *rows, Activation to, int stride) {
    gemm_transpose(d, lanes, from, lanes, rows, d);
    rows_store(n, d, rows, d, to, stride, false);
}

// Column l *= factor[l]
ENGINE_CLONES
static void scale_columns(int n, int lanes, const float *factor, float *rows) {
    for (int i = 0; i < n; i++, rows += lanes) {
#pragma omp simd
        for (int l = 0; l < lanes; l++) rows[l] *= factor[l];
    }
}

// ---- forward -------------------------------------------------------------------------------------------------------

// Queries i to i + n; k: rows of the head's keys, k_stride apart.
static void attend_tile(const AttentionShape *shape, const Bf16Tiles *tiles, const AttentionHead *head, int i, int n,
                        const uint16_t *k, int k_stride, const NextRows *next) {
    const int d = shape->head_width, D = tile_round(d, BF16_STEP), S = tile_round(shape->tokens, BF16_STEP);
    const int lanes = tile_round(n, BF16_STEP);
    float inverse[QUERY_TILE] = {0};
    RunningSoftmax softmax;
    softmax_start(&softmax);
    load_column_pairs(n, lanes, d, attention_row(head->q, shape->stride, i), shape->stride, tiles->pairs,
                      tiles->queries);
    for (int j = 0; j < shape->tokens; j += KEY_BLOCK) {
        const int keys = tile_min(KEY_BLOCK, shape->tokens - j);
        gemm_bf16(keys, lanes, D, k + (size_t)j * (size_t)k_stride, k_stride, tiles->queries, lanes, tiles->scores,
                  lanes, false);
        softmax_block(keys, lanes, shape->scale * LOG2_E, tiles->scores, tiles->score_pairs, &softmax, next, j);
        rows_pad_pairs(keys, lanes, tiles->score_pairs);
        if (j > 0) scale_columns(d, lanes, softmax.keep, tiles->out_t);
        gemm_bf16(d, lanes, tile_round(keys, BF16_STEP), tiles->values_t + j, S, tiles->score_pairs, lanes,
                  tiles->out_t, lanes, j > 0);
    }
    softmax_finish(n, shape->scale, &softmax, inverse, head->lse + i);
    scale_columns(d, lanes, inverse, tiles->out_t);
    store_columns(n, lanes, d, tiles->out_t, tiles->out, attention_row(head->out, shape->width, i), shape->width);
}

void attention_bf16_forward(const AttentionShape *shape, const AttentionHead *head, float *scratch,
                            const NextRows *next) {
    const int d = shape->head_width, stride = shape->stride, tokens = shape->tokens;
    int k_stride = stride;
    Bf16Tiles tiles;
    tiles_cut(tokens, d, false, scratch, &tiles);
    const uint16_t *k = rows_read_bf16(tokens, d, head->k, &k_stride, tiles.keys);
    rows_load_columns(tokens, d, head->v, stride, tiles.pairs, tiles.values_t);
    amx_begin();
    for (int i = 0; i < tokens; i += QUERY_TILE)
        attend_tile(shape, &tiles, head, i, tile_min(QUERY_TILE, tokens - i), k, k_stride,
                    i + QUERY_TILE < tokens ? NULL : next);
    amx_end();
}

// ---- backward ------------------------------------------------------------------------------------------------------

// What a tile of queries needs of its rows i to i + n.
static void load_tile_backward(const AttentionShape *shape, const Bf16Tiles *tiles, const AttentionHead *head, int i,
                               int n, float *lse, float *delta) {
    const int d = shape->head_width, lanes = tile_round(n, BF16_STEP), stride = shape->stride, width = shape->width;
    const Activation q = attention_row(head->q, stride, i), dout = attention_row(head->dout, width, i);
    for (int l = 0; l < n; l++) lse[l] = LOG2_E * head->lse[i + l];
    load_column_pairs(n, lanes, d, q, stride, tiles->pairs, tiles->queries);
    load_column_pairs(n, lanes, d, dout, width, tiles->pairs, tiles->douts);
    rows_load_pairs(n, d, q, stride, tiles->query_pairs);
    rows_load_pairs(n, d, dout, width, tiles->dout_pairs);
    rows_load(n, d, attention_row(head->out, width, i), width, tiles->out, d);
    rows_load(n, d, dout, width, tiles->dout, d);
    attention_dot_rows(n, d, tiles->out, tiles->dout, delta);
}

typedef struct KeyRows { // of the head's keys and values
    const uint16_t *k, *v;
    int k_stride, v_stride;
} KeyRows;

static void attend_tile_backward(const AttentionShape *shape, const Bf16Tiles *tiles, const AttentionHead *head, int i,
                                 int n, const KeyRows *rows, const NextRows *next) {
    const int d = shape->head_width, D = tile_round(d, BF16_STEP), S = tile_round(shape->tokens, BF16_STEP);
    const int lanes = tile_round(n, BF16_STEP);
    float lse[QUERY_TILE] = {0}, delta[QUERY_TILE] = {0};
    float *scores = tiles->scores, *gradients = tiles->gradients;
    const HalfScores halves = {tiles->score_rows, tiles->score_pairs};
    load_tile_backward(shape, tiles, head, i, n, lse, delta);
    for (int j = 0; j < shape->tokens; j += KEY_BLOCK) {
        const int keys = tile_min(KEY_BLOCK, shape->tokens - j);
        const size_t first = (size_t)j, at = first * (size_t)d;
        gemm_bf16(keys, lanes, D, rows->k + first * (size_t)rows->k_stride, rows->k_stride, tiles->queries, lanes,
                  scores, lanes, false);
        probability_block(keys, lanes, shape->scale * LOG2_E, lse, scores, tiles->score_rows, next, j);
        gemm_bf16(keys, d, lanes, tiles->score_rows, lanes, tiles->dout_pairs, d, tiles->dvalues + at, d, i > 0);
        gemm_bf16(keys, lanes, D, rows->v + first * (size_t)rows->v_stride, rows->v_stride, tiles->douts, lanes,
                  gradients, lanes, false);
        softmax_block_backward(keys, lanes, shape->scale, delta, scores, gradients, &halves, next ? next + 1 : NULL, j);
        rows_pad_pairs(keys, lanes, halves.pairs);
        gemm_bf16(keys, d, lanes, tiles->score_rows, lanes, tiles->query_pairs, d, tiles->dkeys + at, d, i > 0);
        gemm_bf16(d, lanes, tile_round(keys, BF16_STEP), tiles->keys_t + j, S, tiles->score_pairs, lanes, tiles->out_t,
                  lanes, j > 0);
    }
    store_columns(n, lanes, d, tiles->out_t, tiles->out, attention_row(head->dq, shape->stride, i), shape->stride);
}

void attention_bf16_backward(const AttentionShape *shape, const AttentionHead *head, float *scratch,
                             const NextRows *next) {
    const int d = shape->head_width, stride = shape->stride, tokens = shape->tokens;
    KeyRows rows = {.k_stride = stride, .v_stride = stride};
    Bf16Tiles tiles;
    tiles_cut(tokens, d, true, scratch, &tiles);
    rows.k = rows_read_bf16(tokens, d, head->k, &rows.k_stride, tiles.keys);
    rows.v = rows_read_bf16(tokens, d, head->v, &rows.v_stride, tiles.values);
    rows_load_columns(tokens, d, head->k, stride, tiles.pairs, tiles.keys_t);
    amx_begin();
    for (int i = 0; i < tokens; i += QUERY_TILE)
        attend_tile_backward(shape, &tiles, head, i, tile_min(QUERY_TILE, tokens - i), &rows,
                             i + QUERY_TILE < tokens ? NULL : next);
    amx_end();
    rows_store(tokens, d, tiles.dkeys, d, head->dk, stride, false);
    rows_store(tokens, d, tiles.dvalues, d, head->dv, stride, false);
}
