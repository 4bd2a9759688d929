// SVDiff (Han et al. 2023): W' = U diag(relu(s + d)) V^T on frozen singular vectors; d starts at zero.
//
// The base has all components of the dense matrix, as factorize makes them. Its product keeps x U^T, from which the
// gradient of sigma follows with that of the input: none of W's size is formed.
#include "model/linear_adapter.h"

static KinditStatus svdiff_declare(Linear *linear, KinditContext *ctx, ParamLayout *layout) {
    TRY(linear->base->declare(linear, ctx, layout));
    return adapter_declare(linear, ctx, layout, SVDIFF_SHIFT, "shift", ROLE_ADAPTER, 1,
                           (int64_t[]){linear->n_learngene});
}

static void svdiff_init(const Linear *linear, uint64_t seed, int class_index, float *vector) {
    (void)linear, (void)seed, (void)class_index, (void)vector;
}

static GatedShape svdiff_shape(const Linear *linear) {
    return (GatedShape){linear->rows, linear->m1, linear->m2, linear->n_learngene, 0, false};
}

static int svdiff_saved(const Linear *linear) { // x U^T
    const GatedShape shape = svdiff_shape(linear);
    return engine_gated_kept(&shape);
}

// More than the base's, whose components are frozen.
static size_t svdiff_scratch(const Linear *linear, int n_samples, int n_slots) {
    const GatedShape shape = svdiff_shape(linear);
    return engine_gated_scratch(&shape, n_samples, n_slots);
}

static size_t svdiff_size(const Linear *linear) {
    return ((size_t)linear->n_learngene + 15) / 16 * 16;
}

static size_t svdiff_work(const Linear *linear, int n_samples) { // sigma and its gradient
    (void)n_samples;
    return 2 * svdiff_size(linear);
}

// `sigma` receives relu(s + d).
static GatedWeights svdiff_weights(const Linear *linear, Engine *engine, const float *shared, float *sigma) {
    engine_shift_forward(engine, linear->n_learngene, adapter_tensor(linear, FACTORED_S, shared),
                         adapter_tensor(linear, SVDIFF_SHIFT, shared), sigma);
    return (GatedWeights){.U = adapter_tensor(linear, FACTORED_U, shared),
                          .s = sigma,
                          .V = adapter_tensor(linear, FACTORED_V, shared),
                          .bias = adapter_tensor(linear, FACTORED_BIAS, shared)};
}

static void svdiff_forward(const Linear *linear, Engine *engine, const Gate *gate, const float *shared, Activation x,
                           Activation saved, float *work, Activation y, EnginePack *pack) {
    const GatedShape shape = svdiff_shape(linear);
    const GatedWeights weights = svdiff_weights(linear, engine, shared, work);
    engine_gated_forward(engine, &shape, gate, &weights, x, saved, y, false, pack);
}

static void svdiff_backward(const Linear *linear, Engine *engine, const Gate *gate, const float *shared, Activation x,
                            Activation y, Activation saved, float *work, Activation dy, Activation dx, bool accumulate,
                            float *dshared) {
    (void)y;
    const GatedShape shape = svdiff_shape(linear);
    const GatedWeights weights = svdiff_weights(linear, engine, shared, work);
    float *dshift = adapter_gradient(linear, SVDIFF_SHIFT, dshared), *dsigma = work + svdiff_size(linear);
    const GatedGradients gradients = {.s = dshift ? dsigma : NULL};
    engine_zero(engine, dsigma, svdiff_size(linear));
    engine_gated_backward(engine, &shape, gate, &weights, x, saved, dy, dx, accumulate, &gradients);
    if (!dshift) return;
    engine_shift_backward(engine, linear->n_learngene, adapter_tensor(linear, FACTORED_S, shared),
                          adapter_tensor(linear, SVDIFF_SHIFT, shared), dsigma, dshift);
}

static double svdiff_flops(const Linear *linear, double tailor_components) {
    return linear->base->flops(linear, tailor_components);
}

static KinditStatus svdiff_merge(const Linear *linear, KinditContext *ctx, const float *shared, const float *tailor,
                                 double *W) {
    const size_t n = (size_t)linear->m1 * (size_t)linear->m2;
    const float *s = adapter_tensor(linear, FACTORED_S, shared), *d = adapter_tensor(linear, SVDIFF_SHIFT, shared);
    float *sigma;
    (void)tailor;
    TRY(memory_alloc(ctx, (size_t)linear->n_learngene, sizeof *sigma, &sigma));
    for (int k = 0; k < linear->n_learngene; k++) sigma[k] = s[k] + d[k] > 0 ? s[k] + d[k] : 0;
    for (size_t i = 0; i < n; i++) W[i] = 0;
    linear_add_components(linear, linear->n_learngene, adapter_tensor(linear, FACTORED_U, shared), sigma,
                          adapter_tensor(linear, FACTORED_V, shared), W);
    memory_free(&sigma);
    return KINDIT_OK;
}

const LinearKind linear_svdiff = {
    .name = "svdiff",
    .declare = svdiff_declare,
    .init = svdiff_init,
    .saved = svdiff_saved,
    .scratch = svdiff_scratch,
    .work = svdiff_work,
    .pack = adapter_pack,
    .forward = svdiff_forward,
    .backward = svdiff_backward,
    .flops = svdiff_flops,
    .merge = svdiff_merge,
};
