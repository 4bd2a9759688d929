// Softmax attention, tiled so that no (T, T) matrix is ever stored.
//
// A task is one head of one sample. Its rows, stored in fp32 or bf16, are gathered into contiguous fp32 tiles: keys and
// values of the whole head, queries a tile at a time. Scores are kept transposed, (keys, queries): a query is a vector
// lane, so that maxima, sums and exponentials take nothing from other lanes, and of all operands only the queries (and
// their gradients, backward) need transposing. Forward, a tile of queries meets the keys block by block with a running
// maximum m (online softmax, Milakov and Gimelshein 2018); the output is divided by the sum once, at the end:
//
//     S = K Q^T      P = exp(scale S - m)      out = P^T V / sum P      lse = m + log sum P
//
// Backward recomputes the probabilities from lse (FlashAttention, Dao et al. 2022):
//
//     P = exp(scale S - lse)      dV = P dO      delta = rowsum(dO * O)
//     dS = scale P * (V dO^T - delta)      dQ = dS^T K      dK = dS Q
//
// Exponentials are powers of 2. At 64 tokens a head takes as long to come from memory as its products take: while a
// task computes it asks for the next one's rows.
#include <math.h>
#include <omp.h>
#include <string.h>

#include "engine/internal.h"
#include "engine/rows.h"
#include "engine/simd.h"
#include "engine/tile.h"

// A (64, 64) tile of scores and its two operands stay in the nearest caches; larger tiles measured no faster. A tile's
// columns are padded to whole vectors.
enum { QUERY_TILE = 64, KEY_BLOCK = 64, LANES = 16 };

#define LOG2_E 1.44269504F
#define LN_2 0.693147181F

typedef struct AttentionShape {
    int tokens, width, heads, head_width, stride;
    float scale;
} AttentionShape;

static AttentionShape attention_shape(int tokens, int width, int heads, int stride) {
    int head_width = width / heads;
    return (AttentionShape){tokens, width, heads, head_width, stride, 1.0F / sqrtf((float)head_width)};
}

// First row of a task's head; rows are `stride` elements apart.
static Activation head_at(const AttentionShape *shape, Activation rows, int stride, int task) {
    size_t row = (size_t)(task / shape->heads) * (size_t)shape->tokens;
    return activation_at(rows, row * (size_t)stride + (size_t)(task % shape->heads) * (size_t)shape->head_width);
}

static Activation row_at(Activation rows, int stride, int i) {
    return activation_at(rows, (size_t)i * (size_t)stride);
}

// ---- scratch -------------------------------------------------------------------------------------------------------

// One thread's tiles; d is the width of a head.
typedef struct AttentionTiles {
    float *keys, *values;       // (T, d)
    float *dkeys, *dvalues;     // (T, d)
    float *queries, *douts;     // (QUERY_TILE, d)
    float *queries_t, *douts_t; // (d, lanes) transposed
    float *scores, *gradients;  // (KEY_BLOCK, lanes)
    float *out;                 // (QUERY_TILE, d); backward first the output, then dq
} AttentionTiles;

static float *take(float *scratch, size_t *used, size_t n) {
    float *piece = scratch ? scratch + *used : NULL;
    *used += scratch_size(n);
    return piece;
}

// Returns the floats of scratch that one thread's tiles take; scratch NULL: that only.
static size_t tiles_cut(int tokens, int head_width, bool backward, float *scratch, AttentionTiles *out) {
    size_t d = (size_t)head_width, head = (size_t)tokens * d, used = 0;
    size_t lanes = (size_t)tile_round(tile_min(tokens, QUERY_TILE), LANES), tile = lanes * d;
    size_t block = (size_t)tile_min(tokens, KEY_BLOCK) * lanes;
    *out = (AttentionTiles){0};
    out->keys = take(scratch, &used, head);
    out->values = take(scratch, &used, head);
    out->queries = take(scratch, &used, tile);
    out->queries_t = take(scratch, &used, tile);
    out->scores = take(scratch, &used, block);
    out->out = take(scratch, &used, tile);
    if (backward) {
        out->dkeys = take(scratch, &used, head);
        out->dvalues = take(scratch, &used, head);
        out->douts = take(scratch, &used, tile);
        out->douts_t = take(scratch, &used, tile);
        out->gradients = take(scratch, &used, block);
    }
    return used;
}

size_t engine_attention_scratch(int threads, int batch, int tokens, int width, int heads, bool backward) {
    AttentionTiles unused;
    return (size_t)tile_min(threads, batch * heads) * tiles_cut(tokens, width / heads, backward, NULL, &unused);
}

static AttentionTiles tiles_of_thread(float *scratch, const AttentionShape *shape, bool backward) {
    AttentionTiles tiles;
    size_t size = tiles_cut(shape->tokens, shape->head_width, backward, NULL, &tiles);
    tiles_cut(shape->tokens, shape->head_width, backward, scratch + (size_t)omp_get_thread_num() * size, &tiles);
    return tiles;
}

// ---- the next task's rows ------------------------------------------------------------------------------------------

typedef struct NextRows {
    int count; // of buffers
    struct {
        const char *first;
        size_t stride, bytes;
    } of[3];
} NextRows;

static void next_add(NextRows *next, const AttentionShape *shape, Activation rows, int stride, int task) {
    size_t size = engine_type_size(rows.type);
    next->of[next->count].first = head_at(shape, rows, stride, task).data;
    next->of[next->count].stride = (size_t)stride * size;
    next->of[next->count++].bytes = (size_t)shape->head_width * size;
}

// Asks for row i of each buffer; next NULL: nothing. Between the vectors of other work, since a core waits for only a
// few dozen cache lines at a time.
ENGINE_INLINE void next_fetch(const NextRows *next, int i) {
    enum { LINE = 64 };
    for (int a = 0; next && a < next->count; a++) {
        const char *row = next->of[a].first + (size_t)i * next->of[a].stride;
        for (size_t byte = 0; byte < next->of[a].bytes; byte += LINE) __builtin_prefetch(row + byte);
    }
}

// ---- lanes ---------------------------------------------------------------------------------------------------------

// 2^(x - high) for x <= high, with a relative error below 2e-7 and exact for x = high; where x is lower than
// high - EXP2_RANGE, what it is there: nothing beside the highest, and no denormals. NaN stays NaN. 2^y = 2^n 2^r with
// |r| <= 1/2, the latter by a minimax polynomial.
#define EXP2_RANGE 100.0F
ENGINE_INLINE float exp2_below(float x, float high) {
    float low = high - EXP2_RANGE; // not a constant: one would make compilers branch over all the rest
    float y = (low > x ? low : x) - high;
    const float magic = 12582912.0F; // 1.5 * 2^23: added, it leaves the nearest integer in the low bits
    float shifted = y + magic, r = y - (shifted - magic);
    float p = 1.3264727e-3F;
    p = p * r + 9.6715130e-3F;
    p = p * r + 5.5507336e-2F;
    p = p * r + 2.4022242e-1F;
    p = p * r + 6.9314700e-1F;
    p = p * r + 1.0F;
    uint32_t exponent, bits;
    memcpy(&exponent, &shifted, sizeof exponent);
    memcpy(&bits, &p, sizeof bits);
    bits += exponent << 23;
    memcpy(&p, &bits, sizeof p);
    return p;
}

// log2 x for a normal x > 0, NaN for NaN; error below 1.5e-7 max(1, |log2 x|). x = 2^n m with m from sqrt(1/2) to
// sqrt(2), log m = 2 artanh t with t = (m - 1) / (m + 1).
ENGINE_INLINE float log2_positive(float x) {
    const uint32_t sqrt_half = 0x3F3504F3U, bias = 127;
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    uint32_t exponent = (bits - sqrt_half + (bias << 23)) >> 23;
    bits -= (exponent - bias) << 23;
    float m;
    memcpy(&m, &bits, sizeof m);
    float t = (m - 1.0F) / (m + 1.0F), s = t * t;
    float series = 1.0F + s * (1.0F / 3 + s * (1.0F / 5 + s * (1.0F / 7 + s * (1.0F / 9))));
    return (float)((int)exponent - (int)bias) + 2 * LOG2_E * t * series + (x - x);
}

// n rows -> (n, d) and, transposed, (d, lanes), its columns beyond n zero.
static void load_transposed(int n, int lanes, int d, Activation from, int stride, float *rows, float *transposed) {
    rows_load(n, d, from, stride, rows, d);
    memset(rows + (size_t)n * (size_t)d, 0, (size_t)(lanes - n) * (size_t)d * sizeof *rows);
    gemm_transpose(lanes, d, rows, d, transposed, lanes);
}

// ---- forward -------------------------------------------------------------------------------------------------------

typedef struct RunningSoftmax { // of each query of a tile
    float highest[QUERY_TILE], sum[QUERY_TILE];
    float keep[QUERY_TILE]; // what the last block left of a result of those before it
} RunningSoftmax;

// Scores (keys, lanes) -> 2^(scale (score - highest so far)). `next`: rows `first` on.
ENGINE_CLONES
static void softmax_block(int keys, int lanes, float scale, float *scores, RunningSoftmax *softmax,
                          const NextRows *next, int first) {
    float *highest = softmax->highest, *sum = softmax->sum, *keep = softmax->keep, high[QUERY_TILE];
#pragma omp simd
    for (int l = 0; l < lanes; l++) keep[l] = scale * highest[l];
    for (int i = 0; i < keys; i++) {
        const float *row = scores + (size_t)i * (size_t)lanes;
#pragma omp simd
        for (int l = 0; l < lanes; l++) highest[l] = row[l] > highest[l] ? row[l] : highest[l];
    }
#pragma omp simd
    for (int l = 0; l < lanes; l++) {
        high[l] = scale * highest[l];
        keep[l] = exp2_below(keep[l], high[l]);
        sum[l] *= keep[l];
    }
    for (int i = 0; i < keys; i++) {
        float *row = scores + (size_t)i * (size_t)lanes;
        next_fetch(next, first + i);
#pragma omp simd
        for (int l = 0; l < lanes; l++) {
            row[l] = exp2_below(scale * row[l], high[l]);
            sum[l] += row[l];
        }
    }
}

// lse from the running results, and the inverse of each sum in `inverse`.
ENGINE_CLONES
static void softmax_finish(int n, float scale, const RunningSoftmax *softmax, float *inverse, float *lse) {
#pragma omp simd
    for (int i = 0; i < n; i++) {
        inverse[i] = 1.0F / softmax->sum[i];
        lse[i] = scale * softmax->highest[i] + LN_2 * log2_positive(softmax->sum[i]);
    }
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
    for (int l = 0; l < lanes; l++) softmax.highest[l] = -INFINITY, softmax.sum[l] = 0;
    load_transposed(n, lanes, d, q, shape->stride, tiles->queries, tiles->queries_t);
    for (int j = 0; j < shape->tokens; j += KEY_BLOCK) {
        int keys = tile_min(KEY_BLOCK, shape->tokens - j);
        size_t at = (size_t)j * (size_t)d;
        gemm_tile(GEMM_NN, keys, lanes, d, tiles->keys + at, d, tiles->queries_t, lanes, tiles->scores, lanes, false);
        softmax_block(keys, lanes, shape->scale * LOG2_E, tiles->scores, &softmax, next, j);
        if (j > 0) scale_rows(n, d, softmax.keep, tiles->out);
        gemm_tile(GEMM_TN, n, d, keys, tiles->scores, lanes, tiles->values + at, d, tiles->out, d, j > 0);
    }
    softmax_finish(n, shape->scale, &softmax, inverse, lse);
    scale_rows(n, d, inverse, tiles->out);
    rows_store(n, d, tiles->out, d, out, shape->width, false);
}

void engine_attention_forward(Engine *engine, int batch, int tokens, int width, int heads, int stride, Activation q,
                              Activation k, Activation v, Activation out, float *lse) {
    engine_profile_begin(engine);
    const AttentionShape shape = attention_shape(tokens, width, heads, stride);
    int tasks = batch * heads, d = shape.head_width;
#pragma omp parallel for num_threads(tile_min(engine->threads, tasks)) schedule(static)
    for (int task = 0; task < tasks; task++) {
        const AttentionTiles tiles = tiles_of_thread(engine->scratch, &shape, false);
        const Activation queries = head_at(&shape, q, stride, task), outs = head_at(&shape, out, width, task);
        NextRows next = {0};
        for (int a = 0; a < 3 && task + 1 < tasks; a++)
            next_add(&next, &shape, (const Activation[]){q, k, v}[a], stride, task + 1);
        rows_load(tokens, d, head_at(&shape, k, stride, task), stride, tiles.keys, d);
        rows_load(tokens, d, head_at(&shape, v, stride, task), stride, tiles.values, d);
        for (int i = 0; i < tokens; i += QUERY_TILE)
            attend_tile(&shape, &tiles, tile_min(QUERY_TILE, tokens - i), row_at(queries, stride, i),
                        row_at(outs, width, i), lse + (size_t)task * (size_t)tokens + i,
                        i + QUERY_TILE < tokens ? NULL : &next);
    }
    double pairs = (double)batch * tokens * tokens, elements = (double)batch * tokens * width;
    double bytes = (double)(3 * engine_type_size(q.type) + engine_type_size(out.type));
    engine_profile_end(engine, KERNEL_ATTENTION_FORWARD, 4 * pairs * width, bytes * elements);
}

// ---- backward ------------------------------------------------------------------------------------------------------

typedef struct AttentionHead { // rows of a whole batch, or at a head's first
    Activation q, k, v, out, dout, dq, dk, dv;
    const float *lse;
} AttentionHead;

// Scores (keys, lanes) -> probabilities; lse in powers of 2. `next`: rows `first` on.
ENGINE_CLONES
static void probability_block(int keys, int lanes, float scale, const float *lse, float *scores, const NextRows *next,
                              int first) {
    for (int i = 0; i < keys; i++) {
        float *row = scores + (size_t)i * (size_t)lanes;
        next_fetch(next, first + i);
#pragma omp simd
        for (int l = 0; l < lanes; l++) row[l] = exp2_below(scale * row[l], lse[l]);
    }
}

// delta[i] = x_i . y_i
ENGINE_CLONES
static void dot_rows(int n, int d, const float *x, const float *y, float *delta) {
    for (int i = 0; i < n; i++, x += d, y += d) {
        float sum = 0;
#pragma omp simd reduction(+ : sum)
        for (int c = 0; c < d; c++) sum += x[c] * y[c];
        delta[i] = sum;
    }
}

// gradients: of the probabilities -> of the products q k
ENGINE_CLONES
static void softmax_block_backward(int keys, int lanes, float scale, const float *delta, const float *probabilities,
                                   float *gradients, const NextRows *next, int first) {
    for (int i = 0; i < keys; i++, probabilities += lanes, gradients += lanes) {
        next_fetch(next, first + i);
#pragma omp simd
        for (int l = 0; l < lanes; l++) gradients[l] = scale * probabilities[l] * (gradients[l] - delta[l]);
    }
}

// Queries i to i + n
static void attend_tile_backward(const AttentionShape *shape, const AttentionTiles *tiles, const AttentionHead *head,
                                 int i, int n, const NextRows *next) {
    int d = shape->head_width, lanes = tile_round(n, LANES), stride = shape->stride, width = shape->width;
    float lse[QUERY_TILE] = {0}, delta[QUERY_TILE] = {0}, *scores = tiles->scores, *gradients = tiles->gradients;
    for (int l = 0; l < n; l++) lse[l] = LOG2_E * head->lse[i + l];
    load_transposed(n, lanes, d, row_at(head->q, stride, i), stride, tiles->queries, tiles->queries_t);
    load_transposed(n, lanes, d, row_at(head->dout, width, i), width, tiles->douts, tiles->douts_t);
    rows_load(n, d, row_at(head->out, width, i), width, tiles->out, d);
    dot_rows(n, d, tiles->out, tiles->douts, delta);
    for (int j = 0; j < shape->tokens; j += KEY_BLOCK) {
        int keys = tile_min(KEY_BLOCK, shape->tokens - j);
        size_t at = (size_t)j * (size_t)d;
        gemm_tile(GEMM_NN, keys, lanes, d, tiles->keys + at, d, tiles->queries_t, lanes, scores, lanes, false);
        probability_block(keys, lanes, shape->scale * LOG2_E, lse, scores, next, j);
        gemm_tile(GEMM_NN, keys, d, n, scores, lanes, tiles->douts, d, tiles->dvalues + at, d, i > 0);
        gemm_tile(GEMM_NN, keys, lanes, d, tiles->values + at, d, tiles->douts_t, lanes, gradients, lanes, false);
        softmax_block_backward(keys, lanes, shape->scale, delta, scores, gradients, next ? next + 1 : NULL, j);
        gemm_tile(GEMM_NN, keys, d, n, gradients, lanes, tiles->queries, d, tiles->dkeys + at, d, i > 0);
        gemm_tile(GEMM_TN, n, d, keys, gradients, lanes, tiles->keys + at, d, tiles->out, d, j > 0);
    }
    rows_store(n, d, tiles->out, d, row_at(head->dq, stride, i), stride, false);
}

static void attend_head_backward(const AttentionShape *shape, const AttentionTiles *tiles, const AttentionHead *head,
                                 const NextRows *next) {
    int d = shape->head_width, stride = shape->stride, tokens = shape->tokens;
    rows_load(tokens, d, head->k, stride, tiles->keys, d);
    rows_load(tokens, d, head->v, stride, tiles->values, d);
    for (int i = 0; i < tokens; i += QUERY_TILE)
        attend_tile_backward(shape, tiles, head, i, tile_min(QUERY_TILE, tokens - i),
                             i + QUERY_TILE < tokens ? NULL : next);
    rows_store(tokens, d, tiles->dkeys, d, head->dk, stride, false);
    rows_store(tokens, d, tiles->dvalues, d, head->dv, stride, false);
}

void engine_attention_backward(Engine *engine, int batch, int tokens, int width, int heads, int stride, Activation q,
                               Activation k, Activation v, Activation out, const float *lse, Activation dout,
                               Activation dq, Activation dk, Activation dv) {
    engine_profile_begin(engine);
    const AttentionShape shape = attention_shape(tokens, width, heads, stride);
    int tasks = batch * heads;
#pragma omp parallel for num_threads(tile_min(engine->threads, tasks)) schedule(static)
    for (int task = 0; task < tasks; task++) {
        const AttentionTiles tiles = tiles_of_thread(engine->scratch, &shape, true);
        const AttentionHead head = {
            .q = head_at(&shape, q, stride, task),
            .k = head_at(&shape, k, stride, task),
            .v = head_at(&shape, v, stride, task),
            .out = head_at(&shape, out, width, task),
            .dout = head_at(&shape, dout, width, task),
            .dq = head_at(&shape, dq, stride, task),
            .dk = head_at(&shape, dk, stride, task),
            .dv = head_at(&shape, dv, stride, task),
            .lse = lse + (size_t)task * (size_t)tokens,
        };
        NextRows next[2] = {0};
        for (int a = 0; a < 3 && task + 1 < tasks; a++)
            next_add(&next[0], &shape, (const Activation[]){q, k, v}[a], stride, task + 1);
        for (int a = 0; a < 2 && task + 1 < tasks; a++)
            next_add(&next[1], &shape, (const Activation[]){out, dout}[a], width, task + 1);
        attend_head_backward(&shape, &tiles, &head, next);
    }
    double pairs = (double)batch * tokens * tokens, elements = (double)batch * tokens * width;
    double bytes = (double)(3 * engine_type_size(q.type) + 3 * engine_type_size(dq.type) + engine_type_size(out.type) +
                            engine_type_size(dout.type));
    engine_profile_end(engine, KERNEL_ATTENTION_BACKWARD, 10 * pairs * width, bytes * elements);
}
