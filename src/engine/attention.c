// Softmax attention, tiled so that no (T, T) matrix is ever stored.
//
// A task is one head of one sample. Forward, a tile of queries meets the keys block by block with a running maximum m
// (online softmax, Milakov and Gimelshein 2018); the output is divided by the sum once, at the end:
//
//     S = K Q^T      P = exp(scale S - m)      out = P^T V / sum P      lse = m + log sum P
//
// Backward recomputes the probabilities from lse (FlashAttention, Dao et al. 2022):
//
//     P = exp(scale S - lse)      dV = P dO      delta = rowsum(dO * O)
//     dS = scale P * (V dO^T - delta)      dQ = dS^T K      dK = dS Q
//
// Products are of fp32 (attention_f32.c) or, for rows of bf16 where the processor multiplies such, of bf16
// (attention_bf16.c); sums, scores and exponentials are fp32 in both. At 64 tokens a head takes as long to come from
// memory as its products take: while a task computes it asks for the next one's rows.
#include "engine/attention.h"

#include <math.h>
#include <omp.h>

#include "engine/gemm_bf16.h"

static AttentionShape attention_shape(int tokens, int width, int heads, int stride) {
    int head_width = width / heads;
    return (AttentionShape){tokens, width, heads, head_width, stride, 1.0F / sqrtf((float)head_width)};
}

// A thread's share, whichever way products are taken.
static size_t scratch_of_thread(int tokens, int head_width, bool backward) {
    return scratch_larger(attention_f32_scratch(tokens, head_width, backward),
                          gemm_bf16_is_native() ? attention_bf16_scratch(tokens, head_width, backward) : 0);
}

size_t engine_attention_scratch(int threads, int batch, int tokens, int width, int heads, bool backward) {
    return (size_t)tile_min(threads, batch * heads) * scratch_of_thread(tokens, width / heads, backward);
}

static bool products_of_bf16(Activation q, Activation k, Activation v) {
    return q.type == ENGINE_BF16 && k.type == ENGINE_BF16 && v.type == ENGINE_BF16 && gemm_bf16_is_native();
}

// ---- a task's rows -------------------------------------------------------------------------------------------------

// Of the first task -> of this one; rows are `stride` elements apart.
static Activation rows_of_task(const AttentionShape *shape, Activation rows, int stride, int task) {
    if (!rows.data) return rows;
    size_t row = (size_t)(task / shape->heads) * (size_t)shape->tokens;
    return activation_at(rows, row * (size_t)stride + (size_t)(task % shape->heads) * (size_t)shape->head_width);
}

static AttentionHead head_of_task(const AttentionShape *shape, const AttentionHead *first, int task) {
    const int stride = shape->stride, width = shape->width;
    return (AttentionHead){
        .q = rows_of_task(shape, first->q, stride, task),
        .k = rows_of_task(shape, first->k, stride, task),
        .v = rows_of_task(shape, first->v, stride, task),
        .out = rows_of_task(shape, first->out, width, task),
        .dout = rows_of_task(shape, first->dout, width, task),
        .dq = rows_of_task(shape, first->dq, stride, task),
        .dk = rows_of_task(shape, first->dk, stride, task),
        .dv = rows_of_task(shape, first->dv, stride, task),
        .lse = first->lse + (size_t)task * (size_t)shape->tokens,
    };
}

static void next_add(NextRows *next, const AttentionShape *shape, Activation rows, int stride) {
    size_t size = engine_type_size(rows.type);
    next->of[next->count].first = rows.data;
    next->of[next->count].stride = (size_t)stride * size;
    next->of[next->count++].bytes = (size_t)shape->head_width * size;
}

// What the task after this one reads; the last one has none.
static void find_next(const AttentionShape *shape, const AttentionHead *first, int task, NextRows next[2]) {
    const AttentionHead head = head_of_task(shape, first, task);
    next_add(&next[0], shape, head.q, shape->stride);
    next_add(&next[0], shape, head.k, shape->stride);
    next_add(&next[0], shape, head.v, shape->stride);
    if (!head.dout.data) return;
    next_add(&next[1], shape, head.out, shape->width);
    next_add(&next[1], shape, head.dout, shape->width);
}

// ---- all tasks -----------------------------------------------------------------------------------------------------

typedef void (*AttendHead)(const AttentionShape *shape, const AttentionHead *head, float *scratch,
                           const NextRows *next);

static void attend(Engine *engine, const AttentionShape *shape, int tasks, const AttentionHead *first, bool backward,
                   AttendHead attend_head) {
    const size_t scratch = scratch_of_thread(shape->tokens, shape->head_width, backward);
    const int threads = tile_min(engine->threads, tasks), some = tile_count(tasks, 16 * threads);
#pragma omp parallel for num_threads(threads) schedule(dynamic, some)
    for (int task = 0; task < tasks; task++) {
        const AttentionHead head = head_of_task(shape, first, task);
        NextRows next[2] = {0};
        if (task + 1 < tasks) find_next(shape, first, task + 1, next);
        attend_head(shape, &head, engine->scratch + (size_t)omp_get_thread_num() * scratch, next);
    }
}

void engine_attention_forward(Engine *engine, int batch, int tokens, int width, int heads, int stride, Activation q,
                              Activation k, Activation v, Activation out, float *lse) {
    engine_profile_begin(engine);
    const AttentionShape shape = attention_shape(tokens, width, heads, stride);
    const AttentionHead first = {.q = q, .k = k, .v = v, .out = out, .lse = lse};
    attend(engine, &shape, batch * heads, &first, false,
           products_of_bf16(q, k, v) ? attention_bf16_forward : attention_f32_forward);
    double pairs = (double)batch * tokens * tokens, elements = (double)batch * tokens * width;
    double bytes = (double)(3 * engine_type_size(q.type) + engine_type_size(out.type));
    engine_profile_end(engine, KERNEL_ATTENTION_FORWARD, 4 * pairs * width, bytes * elements);
}

void engine_attention_backward(Engine *engine, int batch, int tokens, int width, int heads, int stride, Activation q,
                               Activation k, Activation v, Activation out, const float *lse, Activation dout,
                               Activation dq, Activation dk, Activation dv) {
    engine_profile_begin(engine);
    const AttentionShape shape = attention_shape(tokens, width, heads, stride);
    const AttentionHead first = {q, k, v, out, dout, dq, dk, dv, (float *)lse};
    attend(engine, &shape, batch * heads, &first, true,
           products_of_bf16(q, k, v) ? attention_bf16_backward : attention_f32_backward);
    double pairs = (double)batch * tokens * tokens, elements = (double)batch * tokens * width;
    double bytes = (double)(3 * engine_type_size(q.type) + 3 * engine_type_size(dq.type) + engine_type_size(out.type) +
                            engine_type_size(dout.type));
    engine_profile_end(engine, KERNEL_ATTENTION_BACKWARD, 10 * pairs * width, bytes * elements);
}
