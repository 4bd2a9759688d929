// Softmax attention, tiled so that no (T, T) matrix is ever stored.
//
// A task is one head of one sample. Its keys go in blocks, its queries in tiles: a tile of scores (queries, keys) is
// the only thing quadratic in T. Forward, each block gives a normalised partial result and its log-sum-exp; two partial
// results merge with weights e^(lse_i - lse). Backward recomputes the probabilities from lse:
//
//     P = exp(scale Q K^T - lse)      dV = P^T dO      delta = rowsum(dO * O)
//     dS = scale P * (dO V^T - delta)      dQ = dS K      dK = dS^T Q
//
// Keys (and values, backward) are transposed once a block, so that every product reads rows.
#include <math.h>
#include <omp.h>

#include "engine/fastmath.h"
#include "engine/internal.h"
#include "engine/tile.h"

// Sizes measured on AVX2; a (128, head width) block and a (32, 128) tile stay in the second and first cache.
enum { QUERY_TILE = 32, KEY_BLOCK = 128, PAD = 16 }; // PAD keeps rows of a tile off each other's cache sets

typedef struct AttentionShape {
    int tokens, width, heads, head_width, stride;
    float scale;
} AttentionShape;

static AttentionShape attention_shape(int tokens, int width, int heads, int stride) {
    int head_width = width / heads;
    return (AttentionShape){tokens, width, heads, head_width, stride, 1.0f / sqrtf((float)head_width)};
}

// ---- scratch -------------------------------------------------------------------------------------------------------

// One thread's tiles. Leading dimension: `ld` for those with a column per key, head_width for `partial`.
typedef struct AttentionTiles {
    int ld;
    float *keys, *values;      // (head_width, keys) transposed
    float *scores, *gradients; // (QUERY_TILE, keys)
    float *partial;            // (QUERY_TILE, head_width)
} AttentionTiles;

static int tile_columns(int tokens) {
    return tile_round(tile_min(tokens, KEY_BLOCK), PAD) + PAD;
}

static size_t tiles_size(int tokens, int head_width, bool backward) {
    size_t columns = (size_t)tile_columns(tokens), rows = (size_t)head_width + QUERY_TILE;
    return backward ? 2 * rows * columns : rows * columns + (size_t)(QUERY_TILE * head_width);
}

static AttentionTiles tiles_of_thread(float *scratch, const AttentionShape *shape, bool backward) {
    float *at = scratch + (size_t)omp_get_thread_num() * tiles_size(shape->tokens, shape->head_width, backward);
    size_t ld = (size_t)tile_columns(shape->tokens), rows = (size_t)shape->head_width;
    float *scores = at + rows * ld, *rest = scores + QUERY_TILE * ld;
    if (!backward) return (AttentionTiles){.ld = (int)ld, .keys = at, .scores = scores, .partial = rest};
    return (AttentionTiles){.ld = (int)ld, .keys = at, .scores = scores, .values = rest, .gradients = rest + rows * ld};
}

size_t engine_attention_scratch(int threads, int batch, int tokens, int width, int heads, bool backward) {
    return (size_t)tile_min(threads, batch * heads) * tiles_size(tokens, width / heads, backward);
}

// (rows, columns) with `stride` floats between rows -> (columns, rows) with `ld`.
ENGINE_CLONES static void transpose(int rows, int columns, const float *from, int stride, float *to, int ld) {
    for (int j = 0; j < columns; j++)
        for (int i = 0; i < rows; i++)
            to[(size_t)j * (size_t)ld + (size_t)i] = from[(size_t)i * (size_t)stride + (size_t)j];
}

// ---- forward -------------------------------------------------------------------------------------------------------

// By lanes: a plain maximum is a chain of comparisons, which compilers keep serial for the sake of NaN.
ENGINE_INLINE float highest_score(int n, const float *scores) {
    enum { LANES = 16 };
    float lanes[LANES], highest = scores[0];
    for (int l = 0; l < LANES; l++) lanes[l] = highest;
    int whole = n - n % LANES;
    for (int i = 0; i < whole; i += LANES)
        for (int l = 0; l < LANES; l++) lanes[l] = scores[i + l] > lanes[l] ? scores[i + l] : lanes[l];
    for (int l = 0; l < LANES; l++) highest = lanes[l] > highest ? lanes[l] : highest;
    for (int i = whole; i < n; i++) highest = scores[i] > highest ? scores[i] : highest;
    return highest;
}

// Scores of one query -> probabilities; returns the scores' log-sum-exp.
ENGINE_CLONES static float softmax_row(int n, float scale, float *scores) {
    float highest = highest_score(n, scores), sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int i = 0; i < n; i++) {
        scores[i] = fast_exp(scale * (scores[i] - highest));
        sum += scores[i];
    }
    float inverse = 1.0f / sum;
#pragma omp simd
    for (int i = 0; i < n; i++) scores[i] *= inverse;
    return scale * highest + logf(sum);
}

// out = the softmax average over the keys of `out` (log-sum-exp *lse) and of `partial` together.
ENGINE_CLONES static void merge_row(int n, const float *partial, float partial_lse, float *out, float *lse) {
    float high = *lse > partial_lse ? *lse : partial_lse;
    float merged = high + logf(expf(*lse - high) + expf(partial_lse - high));
    float keep = expf(*lse - merged), add = expf(partial_lse - merged);
#pragma omp simd
    for (int i = 0; i < n; i++) out[i] = keep * out[i] + add * partial[i];
    *lse = merged;
}

// One tile of queries against one block of keys; `first` is the first block.
static void attend_tile(const AttentionShape *shape, const AttentionTiles *tiles, int queries, int keys, const float *q,
                        const float *v, float *out, float *lse, bool first) {
    int d = shape->head_width;
    float lse_tile[QUERY_TILE];
    gemm_tile(GEMM_NN, queries, keys, d, q, shape->stride, tiles->keys, tiles->ld, tiles->scores, tiles->ld, false);
    for (int i = 0; i < queries; i++) lse_tile[i] = softmax_row(keys, shape->scale, tiles->scores + i * tiles->ld);
    if (first) {
        gemm_tile(GEMM_NN, queries, d, keys, tiles->scores, tiles->ld, v, shape->stride, out, shape->width, false);
        for (int i = 0; i < queries; i++) lse[i] = lse_tile[i];
        return;
    }
    gemm_tile(GEMM_NN, queries, d, keys, tiles->scores, tiles->ld, v, shape->stride, tiles->partial, d, false);
    for (int i = 0; i < queries; i++)
        merge_row(d, tiles->partial + i * d, lse_tile[i], out + (size_t)i * (size_t)shape->width, lse + i);
}

static void attend_head(const AttentionShape *shape, const AttentionTiles *tiles, const float *q, const float *k,
                        const float *v, float *out, float *lse) {
    size_t stride = (size_t)shape->stride, width = (size_t)shape->width;
    for (int j = 0; j < shape->tokens; j += KEY_BLOCK) {
        int keys = tile_min(KEY_BLOCK, shape->tokens - j);
        transpose(keys, shape->head_width, k + (size_t)j * stride, shape->stride, tiles->keys, tiles->ld);
        for (int i = 0; i < shape->tokens; i += QUERY_TILE)
            attend_tile(shape, tiles, tile_min(QUERY_TILE, shape->tokens - i), keys, q + (size_t)i * stride,
                        v + (size_t)j * stride, out + (size_t)i * width, lse + i, j == 0);
    }
}

void engine_attention_forward(Engine *engine, int batch, int tokens, int width, int heads, int stride,
                              Activation rows_q, Activation rows_k, Activation rows_v, Activation rows_out,
                              float *lse) {
    const float *q = rows_q.data, *k = rows_k.data, *v = rows_v.data;
    float *out = rows_out.data;
    engine_profile_begin(engine);
    const AttentionShape shape = attention_shape(tokens, width, heads, stride);
    int tasks = batch * heads;
#pragma omp parallel for num_threads(tile_min(engine->threads, tasks)) schedule(static)
    for (int task = 0; task < tasks; task++) {
        AttentionTiles tiles = tiles_of_thread(engine->scratch, &shape, false);
        size_t row = (size_t)(task / heads) * (size_t)tokens,
               column = (size_t)(task % heads) * (size_t)shape.head_width;
        size_t in = row * (size_t)stride + column;
        attend_head(&shape, &tiles, q + in, k + in, v + in, out + row * (size_t)width + column,
                    lse + (size_t)task * (size_t)tokens);
    }
    double pairs = (double)batch * tokens * tokens, elements = (double)batch * tokens * width;
    engine_profile_end(engine, KERNEL_ATTENTION_FORWARD, 4 * pairs * width, 16 * elements);
}

// ---- backward ------------------------------------------------------------------------------------------------------

typedef struct AttentionHead { // pointers at the head's first row
    const float *q, *k, *v, *out, *lse, *dout;
    float *dq, *dk, *dv;
} AttentionHead;

ENGINE_CLONES static void probability_row(int n, float scale, float lse, float *scores) {
#pragma omp simd
    for (int i = 0; i < n; i++) scores[i] = fast_exp(scale * scores[i] - lse);
}

ENGINE_CLONES static float dot_row(int n, const float *x, const float *y) {
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int i = 0; i < n; i++) sum += x[i] * y[i];
    return sum;
}

// gradients: of the probabilities -> of the products q k
ENGINE_CLONES static void softmax_row_backward(int n, float scale, float delta, const float *probabilities,
                                               float *gradients) {
#pragma omp simd
    for (int i = 0; i < n; i++) gradients[i] = scale * probabilities[i] * (gradients[i] - delta);
}

// Queries i .. against keys j ..
static void attend_tile_backward(const AttentionShape *shape, const AttentionTiles *tiles, const AttentionHead *head,
                                 int i, int queries, int j, int keys) {
    int d = shape->head_width, ld = tiles->ld, stride = shape->stride, width = shape->width;
    size_t at_query = (size_t)i * (size_t)stride, at_key = (size_t)j * (size_t)stride;
    const float *q = head->q + at_query, *out = head->out + (size_t)i * (size_t)width;
    const float *dout = head->dout + (size_t)i * (size_t)width;
    float *scores = tiles->scores, *gradients = tiles->gradients;

    gemm_tile(GEMM_NN, queries, keys, d, q, stride, tiles->keys, ld, scores, ld, false);
    for (int row = 0; row < queries; row++) probability_row(keys, shape->scale, head->lse[i + row], scores + row * ld);
    gemm_tile(GEMM_TN, keys, d, queries, scores, ld, dout, width, head->dv + at_key, stride, i > 0);
    gemm_tile(GEMM_NN, queries, keys, d, dout, width, tiles->values, ld, gradients, ld, false);
    for (int row = 0; row < queries; row++) {
        size_t at = (size_t)row * (size_t)width;
        softmax_row_backward(keys, shape->scale, dot_row(d, out + at, dout + at), scores + row * ld,
                             gradients + row * ld);
    }
    gemm_tile(GEMM_NN, queries, d, keys, gradients, ld, head->k + at_key, stride, head->dq + at_query, stride, j > 0);
    gemm_tile(GEMM_TN, keys, d, queries, gradients, ld, q, stride, head->dk + at_key, stride, i > 0);
}

static void attend_head_backward(const AttentionShape *shape, const AttentionTiles *tiles, const AttentionHead *head) {
    for (int j = 0; j < shape->tokens; j += KEY_BLOCK) {
        int keys = tile_min(KEY_BLOCK, shape->tokens - j);
        size_t at = (size_t)j * (size_t)shape->stride;
        transpose(keys, shape->head_width, head->k + at, shape->stride, tiles->keys, tiles->ld);
        transpose(keys, shape->head_width, head->v + at, shape->stride, tiles->values, tiles->ld);
        for (int i = 0; i < shape->tokens; i += QUERY_TILE)
            attend_tile_backward(shape, tiles, head, i, tile_min(QUERY_TILE, shape->tokens - i), j, keys);
    }
}

void engine_attention_backward(Engine *engine, int batch, int tokens, int width, int heads, int stride,
                               Activation rows_q, Activation rows_k, Activation rows_v, Activation rows_out,
                               const float *lse, Activation rows_dout, Activation rows_dq, Activation rows_dk,
                               Activation rows_dv) {
    const float *q = rows_q.data, *k = rows_k.data, *v = rows_v.data, *out = rows_out.data, *dout = rows_dout.data;
    float *dq = rows_dq.data, *dk = rows_dk.data, *dv = rows_dv.data;
    engine_profile_begin(engine);
    const AttentionShape shape = attention_shape(tokens, width, heads, stride);
    int tasks = batch * heads;
#pragma omp parallel for num_threads(tile_min(engine->threads, tasks)) schedule(static)
    for (int task = 0; task < tasks; task++) {
        AttentionTiles tiles = tiles_of_thread(engine->scratch, &shape, true);
        size_t row = (size_t)(task / heads) * (size_t)tokens,
               column = (size_t)(task % heads) * (size_t)shape.head_width;
        size_t in = row * (size_t)stride + column, at = row * (size_t)width + column;
        AttentionHead head = {q + in,    k + in,  v + in,  out + at, lse + (size_t)task * (size_t)tokens,
                              dout + at, dq + in, dk + in, dv + in};
        attend_head_backward(&shape, &tiles, &head);
    }
    double pairs = (double)batch * tokens * tokens, elements = (double)batch * tokens * width;
    engine_profile_end(engine, KERNEL_ATTENTION_BACKWARD, 10 * pairs * width, 32 * elements);
}
