// The factored kind of linear, KIND (paper Eq. 5 and 8), for a sample of class c:
//
//     W_c = U_G diag(s_G) V_G^T + U_c diag(s_c) V_c^T,      y = ((x [U_G; U_c]^T) * [s_G s_c]) [V_G; V_c] + b
//
// with U (r, m1), s (r), V (r, m2) stored component-major: one component is one row of each. N_G components are the
// learngene's and lie in the shared vector; N_T are the class's and lie in its tailor.
//
// Initial values: rows of U and V have unit expected norm, and the one value of s gives the GATED product (the R = N_G
// + N_T components a sample sees) the variance of DiT's Xavier-uniform matrix, Var W = 2 / (fan_in + fan_out):
//     Var W_ij = R s^2 (1/m1) (1/m2)     =>     s = sqrt(2 m1 m2 / ((fan_in + fan_out) R))
// A layer that DiT starts at zero starts with V = 0, so that U and s move once V does.
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "model/linear.h"

static KinditStatus factored_declare(Linear *linear, KinditContext *ctx, ParamLayout *layout) {
    char name[PARAM_NAME_SIZE + 16];
    int64_t n_g = linear->n_learngene, n_t = linear->n_tailor;
    linear->layout = layout;
    snprintf(name, sizeof name, "%s.U", linear->name);
    TRY(params_declare(layout, ctx, name, ROLE_LEARNGENE, n_t, 2, (int64_t[]){n_g, linear->m1},
                       &linear->param[FACTORED_U]));
    snprintf(name, sizeof name, "%s.s", linear->name);
    TRY(params_declare(layout, ctx, name, ROLE_LEARNGENE, n_t, 1, (int64_t[]){n_g}, &linear->param[FACTORED_S]));
    snprintf(name, sizeof name, "%s.V", linear->name);
    TRY(params_declare(layout, ctx, name, ROLE_LEARNGENE, n_t, 2, (int64_t[]){n_g, linear->m2},
                       &linear->param[FACTORED_V]));
    layout->specs[linear->param[FACTORED_U]].quantise = layout->specs[linear->param[FACTORED_V]].quantise = true;
    snprintf(name, sizeof name, "%s.bias", linear->name);
    return params_declare(layout, ctx, name, ROLE_SHARED, 0, 1, (int64_t[]){linear->m2}, &linear->param[FACTORED_BIAS]);
}

static const ParamSpec *factored_spec(const Linear *linear, int which) {
    return &linear->layout->specs[linear->param[which]];
}

static void factored_init_rows(const Linear *linear, int which, uint64_t seed, int class_index, size_t n, float std,
                               float *rows) {
    RngKey key = {.seed = seed,
                  .sample = (uint64_t)linear->param[which],
                  .step = (uint32_t)(class_index + 1),
                  .purpose = RNG_INIT};
    rng_fill_normal(key, rows, n);
    for (size_t i = 0; i < n; i++) rows[i] *= std;
}

static void factored_init(const Linear *linear, uint64_t seed, int class_index, float *vector) {
    bool shared = class_index < 0;
    size_t rows = (size_t)(shared ? linear->n_learngene : linear->n_tailor);
    const ParamSpec *u = factored_spec(linear, FACTORED_U), *s = factored_spec(linear, FACTORED_S),
                    *v = factored_spec(linear, FACTORED_V);
    double m1 = linear->m1, m2 = linear->m2, gated = linear->n_learngene + linear->n_tailor;

    factored_init_rows(linear, FACTORED_U, seed, class_index, rows * u->row, (float)sqrt(1.0 / m1),
                       vector + (shared ? u->shared_offset : u->tailor_offset));
    if (linear->init != LINEAR_INIT_ZERO)
        factored_init_rows(linear, FACTORED_V, seed, class_index, rows * v->row, (float)sqrt(1.0 / m2),
                           vector + (shared ? v->shared_offset : v->tailor_offset));
    float sigma = (float)sqrt(2.0 * m1 * m2 / ((m1 + linear->fan_out) * gated));
    float *sigmas = vector + (shared ? s->shared_offset : s->tailor_offset);
    for (size_t k = 0; k < rows; k++) sigmas[k] = sigma;
}

static GatedShape factored_shape(const Linear *linear) {
    const bool frozen = factored_spec(linear, FACTORED_U)->frozen; // s and V have its role
    return (GatedShape){linear->rows, linear->m1, linear->m2, linear->n_learngene, linear->n_tailor, frozen};
}

static int factored_saved(const Linear *linear) {
    const GatedShape shape = factored_shape(linear);
    return engine_gated_kept(&shape);
}

static size_t factored_scratch(const Linear *linear, int n_samples, int n_slots) {
    GatedShape shape = factored_shape(linear);
    return engine_gated_scratch(&shape, n_samples, n_slots);
}

static size_t factored_pack(const Linear *linear, int n_slots) {
    GatedShape shape = factored_shape(linear);
    return engine_gated_pack(&shape, n_slots);
}

static GatedWeights factored_weights(const Linear *linear, const float *shared) {
    const ParamSpec *u = factored_spec(linear, FACTORED_U), *s = factored_spec(linear, FACTORED_S),
                    *v = factored_spec(linear, FACTORED_V);
    return (GatedWeights){
        .U = shared + u->shared_offset,
        .s = shared + s->shared_offset,
        .V = shared + v->shared_offset,
        .bias = shared + factored_spec(linear, FACTORED_BIAS)->shared_offset,
        .tailor_U = u->tailor_offset,
        .tailor_s = s->tailor_offset,
        .tailor_V = v->tailor_offset,
    };
}

static void factored_forward(const Linear *linear, Engine *engine, const Gate *gate, const float *shared, Activation x,
                             Activation saved, float *work, Activation y, EnginePack *pack) {
    (void)work;
    GatedShape shape = factored_shape(linear);
    GatedWeights weights = factored_weights(linear, shared);
    engine_gated_forward(engine, &shape, gate, &weights, x, saved, y, false, pack);
}

static void factored_backward(const Linear *linear, Engine *engine, const Gate *gate, const float *shared, Activation x,
                              Activation y, Activation saved, float *work, Activation dy, Activation dx,
                              bool accumulate, float *dshared) {
    (void)y, (void)work;
    GatedShape shape = factored_shape(linear);
    GatedWeights weights = factored_weights(linear, shared);
    GatedGradients gradients = {
        .U = params_gradient(linear->layout, linear->param[FACTORED_U], dshared),
        .s = params_gradient(linear->layout, linear->param[FACTORED_S], dshared),
        .V = params_gradient(linear->layout, linear->param[FACTORED_V], dshared),
        .bias = params_gradient(linear->layout, linear->param[FACTORED_BIAS], dshared),
    };
    engine_gated_backward(engine, &shape, gate, &weights, x, saved, dy, dx, accumulate, &gradients);
}

static double factored_flops(const Linear *linear, double tailor_components) {
    return 2.0 * (linear->n_learngene + tailor_components) * (linear->m1 + 1.0 + linear->m2); // x U, sigma, V
}

// A row of W at a time, which stays in cache while all components are added to it.
void linear_add_components(const Linear *linear, int n, const float *u, const float *s, const float *v, double *W) {
    const size_t m1 = (size_t)linear->m1, m2 = (size_t)linear->m2;
    for (size_t j = 0; j < m2; j++)
        for (size_t k = 0; k < (size_t)n; k++) {
            const double scale = (double)s[k] * v[k * m2 + j];
            for (size_t i = 0; i < m1; i++) W[j * m1 + i] += scale * u[k * m1 + i];
        }
}

static KinditStatus factored_merge(const Linear *linear, KinditContext *ctx, const float *shared, const float *tailor,
                                   double *W) {
    GatedWeights w = factored_weights(linear, shared);
    (void)ctx;
    memset(W, 0, (size_t)linear->m1 * (size_t)linear->m2 * sizeof *W);
    linear_add_components(linear, linear->n_learngene, w.U, w.s, w.V, W);
    if (tailor)
        linear_add_components(linear, linear->n_tailor, tailor + w.tailor_U, tailor + w.tailor_s, tailor + w.tailor_V,
                              W);
    return KINDIT_OK;
}

const LinearKind linear_factored = {
    .name = "factored",
    .declare = factored_declare,
    .init = factored_init,
    .saved = factored_saved,
    .scratch = factored_scratch,
    .pack = factored_pack,
    .forward = factored_forward,
    .backward = factored_backward,
    .flops = factored_flops,
    .merge = factored_merge,
};
