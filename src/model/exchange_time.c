// Fitting the time MLP to other frequencies. Both layers are linear in their weights, so each is a least-squares
// problem over the 1000 timesteps: first the layer that reads the features, to give what it gave, then the second, to
// give what the whole gave. A ridge towards the old weights keeps the many nearly equal low frequencies from playing
// off against each other with huge weights. It is the largest error that matters: each problem is solved a few times,
// timesteps weighted by what their errors have been (Lawson's algorithm).
#include <math.h>
#include <string.h>

#include "model/exchange.h"

enum { TIMES = 1000, ROUNDS = 5 };
static const double ridge = 1e-5; // of the mean square of the inputs

typedef struct Fit {
    KinditContext *ctx;
    Arena arena;
} Fit;

// out (rows, columns) = a (rows, inner) b (inner, columns)
static void multiply(size_t rows, size_t inner, size_t columns, const double *a, const double *b, double *out) {
    for (size_t i = 0; i < rows; i++) {
        for (size_t j = 0; j < columns; j++) out[i * columns + j] = 0;
        for (size_t k = 0; k < inner; k++)
            for (size_t j = 0; j < columns; j++) out[i * columns + j] += a[i * inner + k] * b[k * columns + j];
    }
}

// out (n, columns) = a^T b for a (TIMES, n), b (TIMES, columns)
static void multiply_transposed(size_t n, size_t columns, const double *a, const double *b, double *out) {
    memset(out, 0, n * columns * sizeof *out);
    for (size_t t = 0; t < TIMES; t++)
        for (size_t i = 0; i < n; i++)
            for (size_t j = 0; j < columns; j++) out[i * columns + j] += a[t * n + i] * b[t * columns + j];
}

// The symmetric positive definite N (n, n) becomes its Cholesky factor, below the diagonal and on it; b (n, m) becomes
// N^-1 b.
static void solve(size_t n, size_t m, double *N, double *b) {
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j <= i; j++) {
            double sum = N[i * n + j];
            for (size_t k = 0; k < j; k++) sum -= N[i * n + k] * N[j * n + k];
            N[i * n + j] = i == j ? sqrt(sum) : sum / N[j * n + j];
        }
    for (size_t i = 0; i < n; i++) {
        for (size_t k = 0; k < i; k++)
            for (size_t j = 0; j < m; j++) b[i * m + j] -= N[i * n + k] * b[k * m + j];
        for (size_t j = 0; j < m; j++) b[i * m + j] /= N[i * n + i];
    }
    for (size_t i = n; i-- > 0;) {
        for (size_t k = i + 1; k < n; k++)
            for (size_t j = 0; j < m; j++) b[i * m + j] -= N[k * n + i] * b[k * m + j];
        for (size_t j = 0; j < m; j++) b[i * m + j] /= N[i * n + i];
    }
}

static KinditStatus matrix(Fit *fit, size_t rows, size_t columns, double **out) {
    size_t n;
    if (!memory_multiply(rows, columns, &n)) n = SIZE_MAX; // refused by the arena
    return arena_alloc(&fit->arena, fit->ctx, n, sizeof **out, out);
}

// A layer as x (inputs + 1, outputs), its bias the last row.
typedef struct Layer {
    size_t inputs, outputs;
    float *weight, *bias;
    double *x;
} Layer;

static KinditStatus layer_open(Fit *fit, Layer *out, const Linear *linear, float *shared) {
    const ParamSpec *specs = linear->layout->specs;
    *out = (Layer){.inputs = (size_t)linear->m1,
                   .outputs = (size_t)linear->m2,
                   .weight = shared + specs[linear->param[DENSE_WEIGHT]].shared_offset,
                   .bias = shared + specs[linear->param[DENSE_BIAS]].shared_offset};
    TRY(matrix(fit, out->inputs + 1, out->outputs, &out->x));
    for (size_t j = 0; j < out->outputs; j++) {
        for (size_t i = 0; i < out->inputs; i++) out->x[i * out->outputs + j] = out->weight[j * out->inputs + i];
        out->x[out->inputs * out->outputs + j] = out->bias[j];
    }
    return KINDIT_OK;
}

// Puts x into the weights, and leaves in x what they can hold of it.
static void layer_store(Layer *layer) {
    for (size_t j = 0; j < layer->outputs; j++) {
        for (size_t i = 0; i <= layer->inputs; i++) {
            float *to = i < layer->inputs ? &layer->weight[j * layer->inputs + i] : &layer->bias[j];
            double *x = &layer->x[i * layer->outputs + j];
            *x = *to = (float)*x;
        }
    }
}

// out (TIMES, outputs) = a (TIMES, inputs + 1) x
static void layer_apply(const Layer *layer, const double *a, double *out) {
    multiply(TIMES, layer->inputs + 1, layer->outputs, a, layer->x, out);
}

typedef struct Problem { // a (x + correction) is to be near a target
    size_t n, m;         // rows and columns of x
    const double *a;
    double weight[TIMES];
    double *residual, *fitted;              // (TIMES, m): target - a x, and a correction
    double *weighted, *normal, *correction; // (TIMES, n), (n, n), (n, m)
} Problem;

static KinditStatus problem_open(Fit *fit, Problem *p, const Layer *layer, const double *a, const double *target) {
    *p = (Problem){.n = layer->inputs + 1, .m = layer->outputs, .a = a};
    TRY(matrix(fit, TIMES, p->m, &p->residual));
    TRY(matrix(fit, TIMES, p->m, &p->fitted));
    TRY(matrix(fit, TIMES, p->n, &p->weighted));
    TRY(matrix(fit, p->n, p->n, &p->normal));
    TRY(matrix(fit, p->n, p->m, &p->correction));
    layer_apply(layer, a, p->residual);
    for (size_t i = 0; i < TIMES * p->m; i++) p->residual[i] = target[i] - p->residual[i];
    for (size_t t = 0; t < TIMES; t++) p->weight[t] = 1;
    return KINDIT_OK;
}

// correction = the one that makes the weighted sum of squares, and its ridge, least.
static void problem_solve(Problem *p) {
    size_t n = p->n;
    double trace = 0;
    for (size_t t = 0; t < TIMES; t++)
        for (size_t i = 0; i < n; i++) p->weighted[t * n + i] = p->weight[t] * p->a[t * n + i];
    multiply_transposed(n, n, p->weighted, p->a, p->normal);
    multiply_transposed(n, p->m, p->weighted, p->residual, p->correction);
    for (size_t i = 0; i < n; i++) trace += p->normal[i * n + i];
    for (size_t i = 0; i < n; i++) p->normal[i * n + i] += ridge * trace / (double)n;
    solve(n, p->m, p->normal, p->correction);
}

// Each timestep's weight is multiplied by the distance that is left there; their mean stays 1.
static void problem_reweight(Problem *p) {
    double sum = 0;
    multiply(TIMES, p->n, p->m, p->a, p->correction, p->fitted);
    for (size_t t = 0; t < TIMES; t++) {
        double square = 0;
        for (size_t j = 0; j < p->m; j++) {
            double left = p->residual[t * p->m + j] - p->fitted[t * p->m + j];
            square += left * left;
        }
        p->weight[t] *= sqrt(square);
        sum += p->weight[t];
    }
    for (size_t t = 0; t < TIMES; t++) p->weight[t] = sum > 0 ? p->weight[t] * TIMES / sum : 1;
}

// x becomes the one for which a x is nearest to `target` (TIMES, outputs).
static KinditStatus layer_fit(Fit *fit, Layer *layer, const double *a, const double *target) {
    Problem problem;
    TRY(problem_open(fit, &problem, layer, a, target));
    problem_solve(&problem);
    for (int round = 1; round < ROUNDS; round++) {
        problem_reweight(&problem);
        problem_solve(&problem);
    }
    for (size_t i = 0; i < problem.n * problem.m; i++) layer->x[i] += problem.correction[i];
    layer_store(layer);
    return KINDIT_OK;
}

// The features of engine_timestep_features and a column of ones.
static void fill_features(int time_shift, double *out) {
    const size_t half = DIT_FREQUENCIES / 2, n = DIT_FREQUENCIES + 1;
    for (size_t t = 0; t < TIMES; t++, out += n) {
        for (size_t i = 0; i < half; i++) {
            double phase = (double)t * pow(10000.0, -(double)i / (double)(half - (size_t)time_shift));
            out[i] = cos(phase);
            out[half + i] = sin(phase);
        }
        out[n - 1] = 1;
    }
}

// out (TIMES, n + 1) = silu(x) and a column of ones.
static void fill_hidden(size_t n, const double *x, double *out) {
    for (size_t t = 0; t < TIMES; t++, x += n, out += n + 1) {
        for (size_t i = 0; i < n; i++) out[i] = x[i] / (1 + exp(-x[i]));
        out[n] = 1;
    }
}

// The largest distance of a row of `found` from that of `expected`, over the norm of the latter.
static double largest_error(size_t n, const double *found, const double *expected) {
    double largest = 0;
    for (size_t t = 0; t < TIMES; t++, found += n, expected += n) {
        double square = 0, norm = 0;
        for (size_t i = 0; i < n; i++) {
            square += (found[i] - expected[i]) * (found[i] - expected[i]);
            norm += expected[i] * expected[i];
        }
        largest = fmax(largest, norm > 0 ? sqrt(square / norm) : sqrt(square));
    }
    return largest;
}

static KinditStatus refit(Fit *fit, const Dit *dit, int time_shift, float *shared, double *error) {
    size_t D = (size_t)dit->config.width;
    Layer in, out;
    double *features, *wanted, *hidden, *embedding, *found;
    TRY(layer_open(fit, &in, &dit->t_in, shared));
    TRY(layer_open(fit, &out, &dit->t_out, shared));
    TRY(matrix(fit, TIMES, DIT_FREQUENCIES + 1, &features));
    TRY(matrix(fit, TIMES, D, &wanted));
    TRY(matrix(fit, TIMES, D + 1, &hidden));
    TRY(matrix(fit, TIMES, D, &embedding));
    TRY(matrix(fit, TIMES, D, &found));

    fill_features(dit->config.time_shift, features);
    layer_apply(&in, features, wanted);
    fill_hidden(D, wanted, hidden);
    layer_apply(&out, hidden, embedding);

    fill_features(time_shift, features);
    TRY(layer_fit(fit, &in, features, wanted));
    layer_apply(&in, features, wanted);
    fill_hidden(D, wanted, hidden);
    TRY(layer_fit(fit, &out, hidden, embedding));
    layer_apply(&out, hidden, found);
    *error = largest_error(D, found, embedding);
    return KINDIT_OK;
}

KinditStatus exchange_refit_time(KinditContext *ctx, const Dit *dit, int time_shift, float *shared, double *error) {
    Fit fit = {.ctx = ctx};
    KinditStatus status = refit(&fit, dit, time_shift, shared, error);
    arena_close(&fit.arena);
    return status;
}
