// What fine-tuning methods put beside a product: each forward call against its equation in double, each gradient
// against a central difference of that equation.
#include "matrices.h"

#include "engine/cayley.h"
#include "engine/internal.h"
#include "engine/plain_ops.h"

// ---- an operation: y = f(inputs), in double ------------------------------------------------------------------------

enum { MOST_INPUTS = 7 };

typedef struct Operation {
    int n, m1, m2, r;    // rows; widths; rank, or blocks
    int terms;           // of a rotation
    bool gelu;           // it reads gelu(x)
    const double *norms; // of a matrix's rows, or NULL
    Numbers in[MOST_INPUTS], grad[MOST_INPUTS], y, dy;
    int n_in;
    void (*f)(const struct Operation *op, double *y);
    bool differentiable[MOST_INPUTS];
} Operation;

static void operation_open(Operation *op, const size_t *sizes, size_t n_y) {
    for (int i = 0; i < op->n_in; i++) {
        op->in[i] = numbers_random(sizes[i], 10 + (uint64_t)i);
        op->grad[i] = numbers_random(sizes[i], 20 + (uint64_t)i);
    }
    op->y = numbers_zero(n_y);
    op->dy = numbers_random(n_y, 30);
}

static void operation_close(Operation *op) {
    for (int i = 0; i < op->n_in; i++) {
        numbers_free(&op->in[i]);
        numbers_free(&op->grad[i]);
    }
    numbers_free(&op->y);
    numbers_free(&op->dy);
}

static double operation_loss(const Operation *op) {
    double *y = calloc(op->y.n, sizeof *y), sum = 0;
    assert_non_null(y);
    op->f(op, y);
    for (size_t i = 0; i < op->y.n; i++) sum += y[i] * op->dy.d[i];
    free(y);
    return sum;
}

// grad was random before the call: what was added to it is dL/d(input), all of which the derivative along a random
// direction has in it. The step leaves 1e-8 of truncation and rounding; single precision sums `terms` products, each
// rounded, and the bound is seven standard deviations of their walk, and of that along the direction.
static void check_gradients(Operation *op, double terms) {
    for (int i = 0; i < op->n_in; i++) {
        if (!op->differentiable[i]) continue;
        const double step = 1e-5;
        double loss[2], found = 0, squares = 0;
        Numbers *in = &op->in[i], direction = numbers_random(in->n, 50), kept = numbers_zero(in->n);
        memcpy(kept.d, in->d, in->n * sizeof *in->d);
        for (int side = 0; side < 2; side++) {
            for (size_t k = 0; k < in->n; k++) in->d[k] = kept.d[k] + (side ? step : -step) * direction.d[k];
            loss[side] = operation_loss(op);
        }
        memcpy(in->d, kept.d, in->n * sizeof *in->d);
        for (size_t k = 0; k < in->n; k++) {
            const double gradient = op->grad[i].f[k] - op->grad[i].d[k];
            found += gradient * direction.d[k];
            squares += gradient * gradient;
        }
        const double expected = (loss[1] - loss[0]) / (2 * step);
        const double bound = 2 * sqrt(terms * squares) * FLT_EPSILON + 1e-7 * fabs(expected) + 1e-6;
        if (!(fabs(found - expected) <= bound))
            fail_msg("gradient %d: expected %.8g, found %.8g, bound %.3g", i, expected, found, bound);
        numbers_free(&direction);
        numbers_free(&kept);
    }
}

static void check_forward(Operation *op, double terms) {
    op->f(op, op->y.d);
    assert_close(&op->y, terms, "y");
}

// The rest of the scratch survives, and any number of threads gives the same bits.
static void check_call(Operation *op, size_t scratch, void (*call)(Operation *, Engine *)) {
    enum { GUARD = 64 };
    float *kept[MOST_INPUTS + 1];
    KinditContext ctx;
    for (int threads = 3; threads >= 1; threads--) {
        Engine *engine = engine_with_threads(&ctx, threads, scratch + GUARD);
        for (size_t i = 0; i < GUARD; i++) engine->scratch[scratch + i] = 42;
        for (int i = 0; i < op->n_in; i++)
            for (size_t j = 0; j < op->grad[i].n; j++) op->grad[i].f[j] = (float)op->grad[i].d[j];
        call(op, engine);
        for (size_t i = 0; i < GUARD; i++) assert_true(engine->scratch[scratch + i] == 42);
        for (int i = 0; i <= op->n_in; i++) {
            const Numbers *numbers = i < op->n_in ? &op->grad[i] : &op->y;
            if (threads == 3) {
                kept[i] = malloc(numbers->n * sizeof(float) + 1);
                assert_non_null(kept[i]);
                memcpy(kept[i], numbers->f, numbers->n * sizeof(float));
                continue;
            }
            assert_memory_equal(kept[i], numbers->f, numbers->n * sizeof(float));
            if (threads == 1) free(kept[i]);
        }
        engine_close(&engine);
    }
}

// ---- LoRA and DoRA -------------------------------------------------------------------------------------------------

enum { LORA_W, LORA_A, LORA_S, LORA_B, LORA_LENGTHS, LORA_X, LORA_BIAS, LORA_INPUTS };

static double lora_matrix(const Operation *op, int j, int i) { // without lengths
    double w = op->in[LORA_W].d[j * op->m1 + i];
    for (int k = 0; k < op->r; k++)
        w += op->in[LORA_S].d[k] * op->in[LORA_B].d[k * op->m2 + j] * op->in[LORA_A].d[k * op->m1 + i];
    return w;
}

static double lora_norm(const Operation *op, int j) {
    double sum = 0;
    for (int i = 0; i < op->m1; i++) sum += lora_matrix(op, j, i) * lora_matrix(op, j, i);
    return sqrt(sum);
}

// y = x M^T + b, with the norms that there were at first: in gradients they count as constants.
static void lora(const Operation *op, double *y) {
    for (int j = 0; j < op->m2; j++) {
        const double scale = op->norms ? op->in[LORA_LENGTHS].d[j] / op->norms[j] : 1;
        for (int t = 0; t < op->n; t++) y[t * op->m2 + j] = op->in[LORA_BIAS].d[j];
        for (int i = 0; i < op->m1; i++) {
            const double w = scale * lora_matrix(op, j, i);
            for (int t = 0; t < op->n; t++) y[t * op->m2 + j] += op->in[LORA_X].d[t * op->m1 + i] * w;
        }
    }
}

static void call_lora(Operation *op, Engine *engine) {
    const LoraShape shape = {op->m1, op->m2, op->r};
    const LoraFactors f = {op->in[LORA_A].f, op->in[LORA_S].f, op->in[LORA_B].f,
                           op->norms ? op->in[LORA_LENGTHS].f : NULL};
    const LoraGradients d = {op->grad[LORA_A].f, op->grad[LORA_B].f};
    const Activation x = activation_f32(op->in[LORA_X].f), y = activation_f32(op->y.f), dy = activation_f32(op->dy.f);
    const float *bias = op->in[LORA_BIAS].f;
    float *M, *norms;
    assert_int_equal(engine_alloc(engine, (size_t)op->m1 * (size_t)op->m2, &M), KINDIT_OK);
    assert_int_equal(engine_alloc(engine, (size_t)op->m2, &norms), KINDIT_OK);
    engine_lora_form(engine, &shape, &f, op->in[LORA_W].f, op->norms ? norms : NULL, M);
    engine_linear_forward(engine, op->n, op->m1, op->m2, x, M, bias, y, NULL);
    engine_lora_backward(engine, &shape, op->n, &f, norms, x, dy, &d);
    for (int j = 0; j < op->m2 && op->norms; j++)
        assert_true(fabs((double)norms[j] - op->norms[j]) <= 1e-6 * op->norms[j]);
    if (op->norms) engine_lengths_backward(engine, op->n, op->m2, y, bias, f.lengths, dy, op->grad[LORA_LENGTHS].f);
    engine_free(engine, &norms);
    engine_free(engine, &M);
}

static size_t lora_scratch(const Operation *op) {
    const LoraShape shape = {op->m1, op->m2, op->r};
    const size_t sizes[] = {engine_lora_scratch(&shape), engine_lora_backward_scratch(&shape, op->n),
                            engine_lengths_scratch(op->n, op->m2), engine_linear_scratch(op->n, op->m1, op->m2)};
    size_t most = 0;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) most = sizes[i] > most ? sizes[i] : most;
    return most;
}

static void check_lora(const int shape[4], bool lengths) {
    Operation op = {.n = shape[0], .m1 = shape[1], .m2 = shape[2], .r = shape[3], .n_in = LORA_INPUTS, .f = lora};
    size_t n = (size_t)op.n, m1 = (size_t)op.m1, m2 = (size_t)op.m2, r = (size_t)op.r;
    double *norms = calloc(m2, sizeof *norms);
    assert_non_null(norms);
    operation_open(&op, (size_t[]){m1 * m2, r * m1, r, r * m2, m2, n * m1, m2}, n * m2);
    for (int j = 0; j < op.m2; j++) { // lengths are positive
        op.in[LORA_LENGTHS].d[j] = op.in[LORA_LENGTHS].f[j] = 0.5f + fabsf(op.in[LORA_LENGTHS].f[j]);
        norms[j] = lora_norm(&op, j);
    }
    op.norms = lengths ? norms : NULL;
    op.differentiable[LORA_A] = op.differentiable[LORA_B] = true;
    op.differentiable[LORA_LENGTHS] = lengths;
    check_call(&op, lora_scratch(&op), call_lora);
    check_forward(&op, (double)op.m1 * (op.r + 1));
    check_gradients(&op, (double)op.n * (op.m1 + op.m2) * (op.r + 1));
    operation_close(&op);
    free(norms);
}

static void test_lora(void **state) {
    (void)state;
    static const int shapes[][4] = {
        {1, 1, 1, 1}, {9, 7, 5, 2}, {70, 300, 70, 3}, {530, 64, 130, 9}, {33, 257, 129, 40}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        check_lora(shapes[i], false);
        check_lora(shapes[i], true);
    }
}

// In bf16 the factors and hidden rows are rounded too, 2^-9 each, independently: sums over the rows walk, and their
// distance from those of the same numbers in fp32 stays below 2^-7 of their length.
static void test_lora_in_bf16(void **state) {
    (void)state;
    static const int shapes[][4] = {{9, 7, 5, 2}, {150, 300, 70, 3}, {530, 64, 130, 9}, {33, 257, 129, 40}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        const int n = shapes[i][0], m1 = shapes[i][1], m2 = shapes[i][2], r = shapes[i][3];
        const LoraShape shape = {m1, m2, r};
        const size_t in[] = {(size_t)(n * m1), (size_t)(n * m2), (size_t)(r * m1), (size_t)(r * m2), (size_t)r};
        Numbers all[5], found[2][2];
        for (size_t k = 0; k < 5; k++) all[k] = numbers_random(in[k], k);
        for (size_t k = 0; k < 4; k++) found[k / 2][k % 2] = numbers_zero(in[2 + k % 2]);
        for (int half = 1; half >= 0; half--) { // rounds x and dy at first
            KinditContext ctx;
            Engine *engine = engine_with_threads(&ctx, 2, engine_lora_backward_scratch(&shape, n));
            const EngineType type = half ? ENGINE_BF16 : ENGINE_F32;
            const LoraFactors f = {.A = all[2].f, .s = all[4].f, .B = all[3].f};
            const LoraGradients d = {found[half][0].f, found[half][1].f};
            engine_lora_backward(engine, &shape, n, &f, NULL, numbers_as(&all[0], type), numbers_as(&all[1], type), &d);
            engine_close(&engine);
        }
        for (size_t k = 0; k < 2; k++) {
            double difference = 0, length = 0;
            for (size_t j = 0; j < found[0][k].n; j++) {
                const double expected = found[0][k].f[j], error = found[1][k].f[j] - expected;
                difference += error * error;
                length += expected * expected;
            }
            assert_true(length > 0 && sqrt(difference / length) < 0x1p-7);
        }
        for (size_t k = 0; k < 5; k++) numbers_free(&all[k]);
        for (size_t k = 0; k < 4; k++) numbers_free(&found[k / 2][k % 2]);
    }
}

// ---- LoHa ----------------------------------------------------------------------------------------------------------

enum { HADAMARD_W, HADAMARD_A1, HADAMARD_B1, HADAMARD_A2, HADAMARD_B2 };
#define SCALE 1.5

static double hadamard_sum(const Operation *op, int a, int b, int j, int i) {
    double sum = 0;
    for (int k = 0; k < op->r; k++) sum += op->in[a].d[k * op->m2 + j] * op->in[b].d[k * op->m1 + i];
    return sum;
}

static void hadamard(const Operation *op, double *y) {
    for (int j = 0; j < op->m2; j++)
        for (int i = 0; i < op->m1; i++)
            y[j * op->m1 + i] =
                op->in[HADAMARD_W].d[j * op->m1 + i] + SCALE * hadamard_sum(op, HADAMARD_A1, HADAMARD_B1, j, i) *
                                                           hadamard_sum(op, HADAMARD_A2, HADAMARD_B2, j, i);
}

static void call_hadamard(Operation *op, Engine *engine) {
    const HadamardShape shape = {op->m1, op->m2, op->r, (float)SCALE};
    const HadamardFactors f = {op->in[1].f, op->in[2].f, op->in[3].f, op->in[4].f};
    const HadamardGradients d = {op->grad[1].f, op->grad[2].f, op->grad[3].f, op->grad[4].f};
    float *products;
    assert_int_equal(engine_alloc(engine, 2 * op->y.n, &products), KINDIT_OK);
    engine_hadamard_forward(engine, &shape, &f, op->in[HADAMARD_W].f, products, op->y.f);
    engine_hadamard_backward(engine, &shape, &f, products, op->dy.f, &d);
    engine_free(engine, &products);
}

static void test_hadamard(void **state) {
    (void)state;
    static const int shapes[][3] = {{1, 1, 1}, {7, 5, 2}, {300, 70, 3}, {64, 130, 9}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        Operation op = {.m1 = shapes[i][0], .m2 = shapes[i][1], .r = shapes[i][2], .n_in = 5, .f = hadamard};
        size_t m1 = (size_t)op.m1, m2 = (size_t)op.m2, r = (size_t)op.r;
        operation_open(&op, (size_t[]){m1 * m2, r * m2, r * m1, r * m2, r * m1}, m1 * m2);
        for (int j = HADAMARD_A1; j <= HADAMARD_B2; j++) op.differentiable[j] = true;
        check_call(&op, 0, call_hadamard);
        check_forward(&op, op.r * op.r);
        check_gradients(&op, (double)op.m1 * op.r);
        operation_close(&op);
    }
}

// ---- OFT -----------------------------------------------------------------------------------------------------------

enum { ROTATE_X, ROTATE_Q, ROTATE_W, ROTATE_INPUTS, MOST_BLOCK = 264 };

// X = A^-1 B (b, b each) by elimination with pivots.
static void solve(int b, double *A, double *B) {
    for (int k = 0; k < b; k++) {
        int best = k;
        for (int i = k + 1; i < b; i++)
            if (fabs(A[i * b + k]) > fabs(A[best * b + k])) best = i;
        for (int j = 0; j < b; j++) {
            double a = A[k * b + j], c = B[k * b + j];
            A[k * b + j] = A[best * b + j], A[best * b + j] = a;
            B[k * b + j] = B[best * b + j], B[best * b + j] = c;
        }
        for (int i = 0; i < b; i++) {
            const double times = i == k ? 0 : A[i * b + k] / A[k * b + k];
            for (int j = 0; j < b; j++) A[i * b + j] -= times * A[k * b + j], B[i * b + j] -= times * B[k * b + j];
        }
    }
    for (int i = 0; i < b * b; i++) B[i] /= A[i / b * b + i / b];
}

// The terms of peft's _cayley_batch, one after the other.
static void series(int b, int terms, const double *Q, double *R) {
    static double power[MOST_BLOCK * MOST_BLOCK], next[MOST_BLOCK * MOST_BLOCK];
    memset(R, 0, (size_t)(b * b) * sizeof *R);
    for (int i = 0; i < b; i++) R[i * b + i] = 1;
    memcpy(power, Q, (size_t)(b * b) * sizeof *Q);
    for (int k = 1; k <= (terms == 2 ? 1 : terms == 3 ? 3 : terms - 1); k++) {
        const bool last = terms > 2 && k == (terms == 3 ? 3 : terms - 1);
        for (int i = 0; i < b * b; i++) R[i] += (last ? 1 : 2) * power[i];
        for (int i = 0; i < b; i++)
            for (int j = 0; j < b; j++) {
                next[i * b + j] = 0;
                for (int l = 0; l < b; l++) next[i * b + j] += power[i * b + l] * Q[l * b + j];
            }
        memcpy(power, next, (size_t)(b * b) * sizeof *Q);
    }
}

static void rotation(int b, int terms, const double *q, double *R) {
    static double Q[MOST_BLOCK * MOST_BLOCK], A[MOST_BLOCK * MOST_BLOCK];
    for (int i = 0; i < b; i++) {
        Q[i * b + i] = 0;
        for (int j = i + 1; j < b; j++, q++) Q[i * b + j] = *q, Q[j * b + i] = -*q;
    }
    if (terms > 0) {
        series(b, terms, Q, R);
        return;
    }
    for (int i = 0; i < b * b; i++) { // (I - Q) and (I + Q)^-1 commute
        const double one = i / b == i % b;
        A[i] = one + Q[i];
        R[i] = one - Q[i];
    }
    solve(b, A, R);
}

// y = x diag(R_1, R_2, ...) W^T
static void rotate(const Operation *op, double *y) {
    static double R[MOST_BLOCK * MOST_BLOCK];
    const int m = op->m1, b = m / op->r;
    memset(y, 0, op->y.n * sizeof *y);
    double *x = malloc(op->in[ROTATE_X].n * sizeof *x);
    assert_non_null(x);
    memcpy(x, op->in[ROTATE_X].d, op->in[ROTATE_X].n * sizeof *x);
    if (op->gelu) plain_gelu_forward_f64(op->in[ROTATE_X].n, x, x);
    for (int block = 0; block < op->r; block++) {
        rotation(b, op->terms, op->in[ROTATE_Q].d + (size_t)block * cayley_numbers(b), R);
        for (int i = 0; i < op->n; i++)
            for (int j = 0; j < b; j++) {
                double sum = 0;
                for (int k = 0; k < b; k++) sum += x[i * m + block * b + k] * R[k * b + j];
                for (int k = 0; k < op->m2; k++) y[i * op->m2 + k] += sum * op->in[ROTATE_W].d[k * m + block * b + j];
            }
    }
    free(x);
}

// Through the rotated matrix and its gradient where rotations are wide, else through the rotated rows, as linear_oft.c
// does.
static void call_rotate(Operation *op, Engine *engine) {
    const int n = op->n, m1 = op->m1, m2 = op->m2;
    const Activation x = {.data = op->in[ROTATE_X].f, .gelu = op->gelu}, dy = activation_f32(op->dy.f);
    const Activation dx = activation_f32(op->grad[ROTATE_X].f), none = {0};
    const float *q = op->in[ROTATE_Q].f, *W = op->in[ROTATE_W].f;
    float *R, *rotated, *drotated, *dq = op->grad[ROTATE_Q].f;
    assert_int_equal(engine_alloc(engine, (size_t)m1 * (size_t)(m1 / op->r), &R), KINDIT_OK);
    assert_int_equal(engine_alloc(engine, op->in[ROTATE_W].n, &rotated), KINDIT_OK);
    assert_int_equal(engine_alloc(engine, op->in[ROTATE_X].n + op->in[ROTATE_W].n, &drotated), KINDIT_OK);
    engine_rotate_build(engine, m1, op->r, op->terms, q, R);
    engine_rotate_form(engine, m2, m1, op->r, R, W, ENGINE_F32, rotated);
    engine_linear_forward(engine, n, m1, m2, x, rotated, NULL, activation_f32(op->y.f), NULL);
    if (engine_rotate_is_wide(m1 / op->r)) {
        engine_linear_backward(engine, n, m1, m2, x, rotated, dy, dx, true, drotated, NULL);
        engine_rotate_backward(engine, m2, m1, op->r, op->terms, q, R, W, drotated, ENGINE_F32, dq);
    } else {
        engine_linear_backward(engine, n, m1, m2, none, W, dy, activation_f32(drotated), false, NULL, NULL);
        engine_rotate_rows_backward(engine, n, m1, op->r, op->terms, q, R, x, activation_f32(drotated), dx, true, dq);
    }
    engine_free(engine, &drotated);
    engine_free(engine, &rotated);
    engine_free(engine, &R);
}

static size_t rotate_scratch(const Operation *op) {
    const size_t own = engine_rotate_scratch(op->n, op->m2, op->m1, op->r, op->terms),
                 linear = engine_linear_scratch(op->n, op->m1, op->m2);
    return own > linear ? own : linear;
}

static void test_rotate(void **state) {
    (void)state;
    static const int shapes[][3] = {{1, 2, 1},  {9, 12, 4},   {140, 80, 1}, {300, 70, 5},
                                    {33, 3, 3}, {40, 258, 1}, {20, 520, 2}};
    static const int terms[] = {0, 2, 3, 4, 5, 9};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (size_t j = 0; j < sizeof terms / sizeof *terms; j++) {
            Operation op = {.n = shapes[i][0], .m1 = shapes[i][1], .r = shapes[i][2], .f = rotate};
            size_t m = (size_t)op.m1, b = m / (size_t)op.r, q = (size_t)op.r * cayley_numbers((int)b);
            if (b > 80 && terms[j] > 0) continue; // a large one takes long
            op.m2 = 1 + 3 * op.m1 / 2;
            op.n_in = ROTATE_INPUTS;
            op.terms = terms[j];
            op.gelu = j % 2;
            operation_open(&op, (size_t[]){(size_t)op.n * m, q, m * (size_t)op.m2}, (size_t)(op.n * op.m2));
            for (size_t k = 0; k < q; k++) // of spectral norm below 1, where the series serves
                op.in[ROTATE_Q].d[k] = op.in[ROTATE_Q].f[k] *= 0.5f / sqrtf((float)b);
            op.differentiable[ROTATE_X] = op.differentiable[ROTATE_Q] = true;
            check_call(&op, rotate_scratch(&op), call_rotate);
            check_forward(&op, 4 * (double)b * (double)m);
            check_gradients(&op, (double)op.n * (double)b * (double)op.m2);
            operation_close(&op);
        }
}

// The exact transform is orthogonal whatever the size of Q.
static void test_rotation_is_orthogonal(void **state) {
    (void)state;
    enum { B = 60 };
    Numbers q = numbers_random(cayley_numbers(B), 1), R = numbers_zero((size_t)B * B);
    float *work = malloc(cayley_work(B, 0) * sizeof *work);
    assert_non_null(work);
    for (size_t i = 0; i < q.n; i++) q.f[i] *= 10;
    cayley_forward(2, B, 0, q.f, work, R.f);
    for (int i = 0; i < B; i++)
        for (int j = 0; j < B; j++) {
            double sum = 0;
            for (int k = 0; k < B; k++) sum += (double)R.f[i * B + k] * (double)R.f[j * B + k];
            assert_true(fabs(sum - (i == j)) < 1e-5);
        }
    free(work);
    numbers_free(&R);
    numbers_free(&q);
}

// ---- SVDiff --------------------------------------------------------------------------------------------------------

static void test_shift(void **state) {
    (void)state;
    const float s[] = {1, 2, 0.5f, 0}, d[] = {-0.25f, -3, -0.5f, 1}, dsigma[] = {5, 6, 7, 8};
    float sigma[4], dd[] = {1, 1, 1, 1};
    engine_shift_forward(NULL, 4, s, d, sigma);
    engine_shift_backward(NULL, 4, s, d, dsigma, dd);
    assert_memory_equal(sigma, ((float[]){0.75f, 0, 0, 1}), sizeof sigma);
    assert_memory_equal(dd, ((float[]){6, 1, 1, 9}), sizeof dd);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lora),   cmocka_unit_test(test_lora_in_bf16),           cmocka_unit_test(test_hadamard),
        cmocka_unit_test(test_rotate), cmocka_unit_test(test_rotation_is_orthogonal), cmocka_unit_test(test_shift),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
