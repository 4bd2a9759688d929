// OFT (Qiu et al. 2023; peft's OFTLayer): the input is rotated, y = base(x diag(R_1, ..., R_blocks)), each R_i by
// Cayley's transform of a skew matrix, exact or as its Neumann series (engine/cayley.h). It starts with no rotation.
#include "engine/cayley.h"
#include "model/linear_adapter.h"

static int oft_block(const Linear *linear) {
    return linear->m1 / linear->adapter->blocks;
}

static KinditStatus oft_declare(Linear *linear, KinditContext *ctx, ParamLayout *layout) {
    const int64_t numbers = (int64_t)cayley_numbers(oft_block(linear));
    TRY(linear->base->declare(linear, ctx, layout));
    return adapter_declare(linear, ctx, layout, OFT_R, "oft_R", ROLE_ADAPTER, 2,
                           (int64_t[]){linear->adapter->blocks, numbers});
}

static void oft_init(const Linear *linear, uint64_t seed, int class_index, float *vector) {
    (void)linear, (void)seed, (void)class_index, (void)vector;
}

static size_t oft_scratch(const Linear *linear, int n_samples, int n_slots) {
    const AdapterConfig *adapter = linear->adapter;
    const size_t base = adapter_scratch(linear, n_samples, n_slots),
                 own = engine_rotate_scratch(n_samples * linear->rows, linear->m2, linear->m1, adapter->blocks,
                                             adapter->cayley_terms);
    return base > own ? base : own;
}

static bool is_wide(const Linear *linear) {
    return engine_rotate_is_wide(oft_block(linear));
}

static size_t oft_kept(const Linear *linear) { // the rotations
    return (size_t)linear->m1 * (size_t)oft_block(linear);
}

// The rotated matrix, then its gradient; or the rotated input's; where nothing is kept, the rotations.
static size_t oft_work(const Linear *linear, int n_samples) {
    const size_t rows = (size_t)n_samples * (size_t)linear->rows, m1 = (size_t)linear->m1, m2 = (size_t)linear->m2;
    const size_t backward = is_wide(linear) ? 2 * m2 * m1 : rows * m1, forward = m2 * m1 + oft_kept(linear);
    return backward > forward ? backward : forward;
}

static void form(const Linear *linear, Engine *engine, const float *shared, const float *R, EngineType type,
                 float *rotated) {
    engine_rotate_form(engine, linear->m2, linear->m1, linear->adapter->blocks, R,
                       adapter_tensor(linear, DENSE_WEIGHT, shared), type, rotated);
}

static void oft_forward(const Linear *linear, Engine *engine, const Gate *gate, const float *shared, Activation x,
                        Activation saved, float *work, Activation y, EnginePack *pack) {
    const AdapterConfig *adapter = linear->adapter;
    float *R =
        saved.data ? adapter_kept(linear, gate->n_samples, saved) : work + (size_t)linear->m1 * (size_t)linear->m2;
    if (!pack || !pack->ready) { // else the pack holds the matrix
        engine_rotate_build(engine, linear->m1, adapter->blocks, adapter->cayley_terms,
                            adapter_tensor(linear, OFT_R, shared), R);
        form(linear, engine, shared, R, x.type, work);
    }
    engine_linear_forward(engine, gate->n_samples * linear->rows, linear->m1, linear->m2, x, work,
                          adapter_tensor(linear, DENSE_BIAS, shared), y, pack);
}

// By the rotated matrix and its gradient, which are smaller than a wide rotation's.
static void wide_backward(const Linear *linear, Engine *engine, const Gate *gate, const float *shared, const float *R,
                          Activation x, float *work, Activation dy, Activation dx, bool accumulate, float *dq) {
    const size_t size = (size_t)linear->m1 * (size_t)linear->m2;
    float *rotated = work, *gradient = dq ? work + size : NULL;
    form(linear, engine, shared, R, dy.type, rotated);
    if (gradient) engine_zero(engine, gradient, size);
    engine_linear_backward(engine, gate->n_samples * linear->rows, linear->m1, linear->m2, x, rotated, dy, dx,
                           accumulate, gradient, NULL);
    if (!gradient) return;
    engine_rotate_backward(engine, linear->m2, linear->m1, linear->adapter->blocks, linear->adapter->cayley_terms,
                           adapter_tensor(linear, OFT_R, shared), R, adapter_tensor(linear, DENSE_WEIGHT, shared),
                           gradient, dy.type, dq);
}

static void oft_backward(const Linear *linear, Engine *engine, const Gate *gate, const float *shared, Activation x,
                         Activation y, Activation saved, float *work, Activation dy, Activation dx, bool accumulate,
                         float *dshared) {
    const float *R = adapter_kept(linear, gate->n_samples, saved);
    float *dq = adapter_gradient(linear, OFT_R, dshared);
    if (is_wide(linear)) {
        wide_backward(linear, engine, gate, shared, R, x, work, dy, dx, accumulate, dq);
        return;
    }
    // The base is frozen: its gradient by what it reads does not ask for what it read.
    const Activation drotated = {.data = work, .type = dy.type};
    linear->base->backward(linear, engine, gate, shared, (Activation){0}, y, saved, NULL, dy, drotated, false, NULL);
    engine_rotate_rows_backward(engine, gate->n_samples * linear->rows, linear->m1, linear->adapter->blocks,
                                linear->adapter->cayley_terms, adapter_tensor(linear, OFT_R, shared), R, x, drotated,
                                dx, accumulate, dq);
}

static double oft_flops(const Linear *linear, double tailor_components) {
    return linear->base->flops(linear, tailor_components) + 2.0 * linear->m1 * oft_block(linear);
}

// A piece of a row of W, from right to left: W' = W diag(R)^T.
static void rotate_row(int b, const float *R, double *row, double *piece) {
    for (int k = 0; k < b; k++) {
        piece[k] = 0;
        for (int c = 0; c < b; c++) piece[k] += row[c] * R[(size_t)k * (size_t)b + (size_t)c];
    }
    for (int k = 0; k < b; k++) row[k] = piece[k];
}

typedef struct RotationMemory {
    float *work, *R;
    double *piece;
} RotationMemory;

static KinditStatus rotation_alloc(RotationMemory *m, KinditContext *ctx, int b, int terms) {
    TRY(memory_alloc(ctx, cayley_work(b, terms), sizeof *m->work, &m->work));
    TRY(memory_alloc(ctx, (size_t)b * (size_t)b, sizeof *m->R, &m->R));
    return memory_alloc(ctx, (size_t)b, sizeof *m->piece, &m->piece);
}

static KinditStatus oft_merge(const Linear *linear, KinditContext *ctx, const float *shared, const float *tailor,
                              double *W) {
    const int b = oft_block(linear), terms = linear->adapter->cayley_terms;
    const float *q = adapter_tensor(linear, OFT_R, shared);
    RotationMemory m = {0};
    KinditStatus status = linear->base->merge(linear, ctx, shared, tailor, W);
    if (!status) status = rotation_alloc(&m, ctx, b, terms);
    for (int i = 0; i < linear->adapter->blocks && !status; i++) {
        cayley_forward(1, b, terms, q + (size_t)i * cayley_numbers(b), m.work, m.R);
        for (int j = 0; j < linear->m2; j++)
            rotate_row(b, m.R, W + (size_t)j * (size_t)linear->m1 + (size_t)i * (size_t)b, m.piece);
    }
    memory_free(&m.piece);
    memory_free(&m.R);
    memory_free(&m.work);
    return status;
}

const LinearKind linear_oft = {
    .name = "oft",
    .declare = oft_declare,
    .init = oft_init,
    .saved = adapter_saved_of_base,
    .kept = oft_kept,
    .scratch = oft_scratch,
    .work = oft_work,
    .pack = adapter_pack,
    .forward = oft_forward,
    .backward = oft_backward,
    .flops = oft_flops,
    .merge = oft_merge,
};
