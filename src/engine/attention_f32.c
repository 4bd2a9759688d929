// Attention of one head in fp32: its rows, stored in fp32 or bf16, are gathered into contiguous tiles, keys and values
// of the whole head, queries a tile at a time. Of all operands only the queries (and their gradients, backward) need
// transposing.
#include <string.h>

#include "engine/attention.h"
#include "engine/rows.h"
#include "engine/simd.h"

enum { LANES = 16 }; // a tile's columns are padded to whole vectors

// One thread's tiles; d is the width of a head.
typedef struct AttentionTiles {
    float *keys, *values;       // (T, d)
    float *dkeys, *dvalues;     // (T, d)
    float *queries, *douts;     // (QUERY_TILE, d)
    float *queries_t, *douts_t; // (d, lanes) transposed
    float *scores, *gradients;  // (KEY_BLOCK, lanes)
    float *out;                 // (QUERY_TILE, d); backward first the output, then dq
} AttentionTiles;

// Returns the floats of scratch that one thread's tiles take; scratch NULL: that only.
static size_t tiles_cut(int tokens, int head_width, bool backward, float *scratch, AttentionTiles *out) {
    size_t d = (size_t)head_width, head = (size_t)tokens * d, used = 0;
    size_t lanes = (size_t)tile_round(tile_min(tokens, QUERY_TILE), LANES), tile = lanes * d;
    size_t block = (size_t)tile_min(tokens, KEY_BLOCK) * lanes;
    *out = (AttentionTiles){0};
    out->keys = attention_take(scratch, &used, head);
    out->values = attention_take(scratch, &used, head);
    out->queries = attention_take(scratch, &used, tile);
    out->queries_t = attention_take(scratch, &used, tile);
    out->scores = attention_take(scratch, &used, block);
    out->out = attention_take(scratch, &used, tile);
    if (backward) {
        out->dkeys = attention_take(scratch, &used, head);
        out->dvalues = attention_take(scratch, &used, head);
        out->douts = attention_take(scratch, &used, tile);
        out->douts_t = attention_take(scratch, &used, tile);
        out->gradients = attention_take(scratch, &used, block);
    }
    return used;
}

size_t attention_f32_scratch(int tokens, int head_width, bool backward) {
    AttentionTiles unused;
    return tiles_cut(tokens, head_width, backward, NULL, &unused);
}

// n rows -> (n, d) and, transposed, (d, lanes), its columns beyond n zero.
static void load_transposed(int n, int lanes, int d, Activation from, int stride, float *rows, float *transposed) {
    rows_load(n, d, from, stride, rows, d);
    memset(rows + (size_t)n * (size_t)d, 0, (size_t)(lanes - n) * (size_t)d * sizeof *rows);
    gemm_transpose(lanes, d, rows, d, transposed, lanes);
}

// Row i *= factor[i]
ENGINE_CLONES
static void scale_rows(int n, int d, const float *factor, float *rows) {
    for (int i = 0; i < n; i++, rows += d) {
#pragma omp simd
        for (int c = 0; c < d; c++) rows[c] *= factor[i];
    }
}

static void attend_tile(const AttentionShape *shape, const AttentionTiles *tiles, int n, Activation q, Activation out,
                        float *lse, const NextRows *next) {
    int d = shape->head_width, lanes = tile_round(n, LANES);
    float inverse[QUERY_TILE];
    RunningSoftmax softmax;
    softmax_start(&softmax);
    load_transposed(n, lanes, d, q, shape->stride, tiles->queries, tiles->queries_t);
    for (int j = 0; j < shape->tokens; j += KEY_BLOCK) {
        int keys = tile_min(KEY_BLOCK, shape->tokens - j);
        size_t at = (size_t)j * (size_t)d;
        gemm_tile(GEMM_NN, keys, lanes, d, tiles->keys + at, d, tiles->queries_t, lanes, tiles->scores, lanes, false);
        softmax_block(keys, lanes, shape->scale * LOG2_E, tiles->scores, NULL, &softmax, next, j);
        if (j > 0) scale_rows(n, d, softmax.keep, tiles->out);
        gemm_tile(GEMM_TN, n, d, keys, tiles->scores, lanes, tiles->values + at, d, tiles->out, d, j > 0);
    }
    softmax_finish(n, shape->scale, &softmax, inverse, lse);
    scale_rows(n, d, inverse, tiles->out);
    rows_store(n, d, tiles->out, d, out, shape->width, false);
}

void attention_f32_forward(const AttentionShape *shape, const AttentionHead *head, float *scratch,
                           const NextRows *next) {
    int d = shape->head_width, stride = shape->stride, tokens = shape->tokens;
    AttentionTiles tiles;
    tiles_cut(tokens, d, false, scratch, &tiles);
    rows_load(tokens, d, head->k, stride, tiles.keys, d);
    rows_load(tokens, d, head->v, stride, tiles.values, d);
    for (int i = 0; i < tokens; i += QUERY_TILE)
        attend_tile(shape, &tiles, tile_min(QUERY_TILE, tokens - i), attention_row(head->q, stride, i),
                    attention_row(head->out, shape->width, i), head->lse + i, i + QUERY_TILE < tokens ? NULL : next);
}

// Queries i to i + n
static void attend_tile_backward(const AttentionShape *shape, const AttentionTiles *tiles, const AttentionHead *head,
                                 int i, int n, const NextRows *next) {
    int d = shape->head_width, lanes = tile_round(n, LANES), stride = shape->stride, width = shape->width;
    float lse[QUERY_TILE] = {0}, delta[QUERY_TILE] = {0}, *scores = tiles->scores, *gradients = tiles->gradients;
    for (int l = 0; l < n; l++) lse[l] = LOG2_E * head->lse[i + l];
    load_transposed(n, lanes, d, attention_row(head->q, stride, i), stride, tiles->queries, tiles->queries_t);
    load_transposed(n, lanes, d, attention_row(head->dout, width, i), width, tiles->douts, tiles->douts_t);
    rows_load(n, d, attention_row(head->out, width, i), width, tiles->out, d);
    attention_dot_rows(n, d, tiles->out, tiles->douts, delta);
    for (int j = 0; j < shape->tokens; j += KEY_BLOCK) {
        int keys = tile_min(KEY_BLOCK, shape->tokens - j);
        size_t at = (size_t)j * (size_t)d;
        gemm_tile(GEMM_NN, keys, lanes, d, tiles->keys + at, d, tiles->queries_t, lanes, scores, lanes, false);
        probability_block(keys, lanes, shape->scale * LOG2_E, lse, scores, NULL, next, j);
        gemm_tile(GEMM_NN, keys, d, n, scores, lanes, tiles->douts, d, tiles->dvalues + at, d, i > 0);
        gemm_tile(GEMM_NN, keys, lanes, d, tiles->values + at, d, tiles->douts_t, lanes, gradients, lanes, false);
        softmax_block_backward(keys, lanes, shape->scale, delta, scores, gradients, NULL, next ? next + 1 : NULL, j);
        gemm_tile(GEMM_NN, keys, d, n, gradients, lanes, tiles->queries, d, tiles->dkeys + at, d, i > 0);
        gemm_tile(GEMM_TN, n, d, keys, gradients, lanes, tiles->keys + at, d, tiles->out, d, j > 0);
    }
    rows_store(n, d, tiles->out, d, attention_row(head->dq, stride, i), stride, false);
}

void attention_f32_backward(const AttentionShape *shape, const AttentionHead *head, float *scratch,
                            const NextRows *next) {
    int d = shape->head_width, stride = shape->stride, tokens = shape->tokens;
    AttentionTiles tiles;
    tiles_cut(tokens, d, true, scratch, &tiles);
    rows_load(tokens, d, head->k, stride, tiles.keys, d);
    rows_load(tokens, d, head->v, stride, tiles.values, d);
    for (int i = 0; i < tokens; i += QUERY_TILE)
        attend_tile_backward(shape, &tiles, head, i, tile_min(QUERY_TILE, tokens - i),
                             i + QUERY_TILE < tokens ? NULL : next);
    rows_store(tokens, d, tiles.dkeys, d, head->dk, stride, false);
    rows_store(tokens, d, tiles.dvalues, d, head->dv, stride, false);
}
