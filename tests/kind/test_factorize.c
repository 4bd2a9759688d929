// Factored by SVD: what the new model computes is what the old one did, or the best of its rank.
#include "kind/factorize.h"

#include <math.h>

#include "engine/svd.h"
#include "kind/fixture.h"

// A build without LAPACK says so, and has nothing to test.
static bool has_svd(KinditContext *ctx) {
    double a = 1, left, s, right;
    if (svd_compute(ctx, 1, 1, &a, &left, &s, &right) != KINDIT_ERROR_UNSUPPORTED) return true;
    skip();
    return false;
}

// ---- the decomposition ---------------------------------------------------------------------------------------------

static double dot(const double *a, const double *b, int n) {
    double sum = 0;
    for (int i = 0; i < n; i++) sum += a[i] * b[i];
    return sum;
}

static void check_svd(KinditContext *ctx, int m, int n) {
    enum { MOST = 40 };
    double a[MOST * MOST], copy[MOST * MOST], left[MOST * MOST], s[MOST], right[MOST * MOST];
    float values[MOST * MOST];
    const int r = m < n ? m : n;
    rng_fill_normal((RngKey){.seed = (uint64_t)(m * MOST + n), .purpose = RNG_TEST}, values, (size_t)(m * n));
    for (int i = 0; i < m * n; i++) a[i] = copy[i] = values[i];
    assert_ok(ctx, svd_compute(ctx, m, n, a, left, s, right));
    for (int i = 0; i < m; i++)
        for (int j = 0; j < n; j++) {
            double sum = 0;
            for (int k = 0; k < r; k++) sum += s[k] * left[k * m + i] * right[k * n + j];
            assert_true(fabs(sum - copy[i * n + j]) < 1e-13 * (m + n)); // of numbers near 1, in double
        }
    for (int k = 0; k < r; k++)
        for (int l = 0; l < r; l++) {
            assert_true(fabs(dot(left + (size_t)k * m, left + (size_t)l * m, m) - (k == l)) < 1e-13);
            assert_true(fabs(dot(right + (size_t)k * n, right + (size_t)l * n, n) - (k == l)) < 1e-13);
        }
    for (int k = 1; k < r; k++) assert_true(s[k - 1] >= s[k] && s[k] >= 0);
}

static void test_svd(void **state) {
    KinditContext *ctx = ((Scratch *)*state)->ctx;
    if (!has_svd(ctx)) return;
    const int sizes[][2] = {{1, 1}, {1, 7}, {7, 1}, {8, 8}, {12, 40}, {40, 12}, {33, 31}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) check_svd(ctx, sizes[i][0], sizes[i][1]);
    double bad[4] = {1, NAN, 0, 1}, left[4], s[2], right[4];
    assert_fails(ctx, svd_compute(ctx, 2, 2, bad, left, s, right), KINDIT_ERROR_NUMERIC, "not finite");
}

// ---- models --------------------------------------------------------------------------------------------------------

// The output for images of every class and of none.
static float *answer(Fixture *f, const Model *model, size_t *n_out) {
    enum { N = 5 };
    const DitConfig *config = &model->dit->config;
    const size_t size = (size_t)config->channels * (size_t)config->image_size * (size_t)config->image_size;
    const int labels[N] = {0, 1, 2, 3, 4};
    const float times[N] = {3, 999, 400, 17, 500};
    float *x, *t, *out, *host = test_calloc(2 * N * size, sizeof *host);
    int slot[N], n_slots = 0;
    const float *tailor[N];
    DitWorkspace *workspace;
    *n_out = 2 * N * size;
    rng_fill_normal((RngKey){.seed = 9, .purpose = RNG_TEST}, host, N * size);
    assert_ok(f->ctx, engine_alloc(f->engine, N * size, &x));
    assert_ok(f->ctx, engine_alloc(f->engine, N, &t));
    assert_ok(f->ctx, engine_alloc(f->engine, *n_out, &out));
    engine_upload(f->engine, x, host, N * size);
    engine_upload(f->engine, t, times, N);
    for (int i = 0; i < N; i++) {
        slot[i] = labels[i] < 4 && config->factored ? n_slots++ : -1;
        if (slot[i] >= 0) tailor[slot[i]] = model->params.tailor[labels[i]];
    }
    Gate gate = {.n_samples = N, .n_slots = n_slots, .slot = slot, .tailor = tailor};
    DitBatch batch = {.n = N, .x = x, .t = t, .labels = labels, .gate = &gate};
    assert_ok(f->ctx, dit_workspace_create(&workspace, model->dit, f->engine, N, (DitMode){0}));
    dit_forward(model->dit, workspace, model->params.shared, &batch, out);
    engine_download(f->engine, host, out, *n_out);
    dit_workspace_close(&workspace);
    engine_free(f->engine, &x);
    engine_free(f->engine, &t);
    engine_free(f->engine, &out);
    return host;
}

// The outputs of two models, apart by at most `tolerance` of the largest number.
static void assert_same_answer(Fixture *f, const Model *a, const Model *b, double tolerance) {
    size_t n;
    float *of_a = answer(f, a, &n), *of_b = answer(f, b, &n);
    double largest = 0, apart = 0;
    for (size_t i = 0; i < n; i++) {
        const double value = fabs((double)of_a[i]), difference = fabs((double)of_a[i] - (double)of_b[i]);
        if (value > largest) largest = value; // fmax here makes gcc 12 for ARM fail
        if (!(difference <= apart)) apart = difference;
    }
    assert_true(largest > 0.1);
    if (!(apart <= tolerance * largest)) fail_msg("apart by %g of %g", apart, largest);
    test_free(of_a);
    test_free(of_b);
}

// 2e-5: a dozen layers of fp32 products, each of other numbers rounded to 6e-8.
static void test_whole_is_the_same(void **state) {
    if (!has_svd(((Scratch *)*state)->ctx)) return;
    for (int factored = 0; factored < 2; factored++) {
        Fixture f = fixture_open(state, factored);
        const DitConfig *config = &f.model->dit->config;
        Model *out;
        double kept;
        assert_ok(f.ctx, factorize_create(&out, f.model, factored ? config->n_learngene : config->width,
                                          config->n_tailor, &kept));
        assert_true(fabs(kept - 1) < 1e-12);
        assert_true(out->dit->config.factored && !out->dit->config.fused_qkv);
        assert_same_answer(&f, f.model, out, 2e-5);
        model_close(&out);
        fixture_close(&f);
    }
}

// The dense matrix of a layer of `model` for one of its classes, or of the learngene alone.
static void merge(Fixture *f, const Model *model, const char *name, int c, double *W) {
    const ParamLayout *layout = &model->dit->layout;
    float *shared = test_calloc(layout->n_shared, sizeof *shared),
          *tailor = test_calloc(layout->n_tailor + 1, sizeof *tailor);
    engine_download(f->engine, shared, model->params.shared, layout->n_shared);
    if (c >= 0) engine_download(f->engine, tailor, model->params.tailor[c], layout->n_tailor);
    const Linear *found = NULL;
    for (int i = 0; i < model->dit->n_linears; i++)
        if (strcmp(model->dit->linears[i]->name, name) == 0) found = model->dit->linears[i];
    assert_non_null(found);
    assert_ok(f->ctx, found->kind->merge(found, f->ctx, shared, c >= 0 ? tailor : NULL, W));
    test_free(shared);
    test_free(tailor);
}

// What is lost is the tail of the singular values, which an SVD of the same matrix knows: k of the second block, a
// third of the fused qkv, and fc1.
static void check_tail(Fixture *f, const Model *cut, const char *source, const char *name, int first_row, int m2) {
    enum { D = 12, H = 48 };
    double whole[3 * H * D], part[H * D], W[H * D], left[D * H], s[D], right[D * D], lost = 0, tail = 0;
    merge(f, f->model, source, -1, whole);
    merge(f, cut, name, -1, part);
    const double *rows = whole + (size_t)first_row * D;
    for (int i = 0; i < m2 * D; i++) {
        W[i] = rows[i];
        lost += (rows[i] - part[i]) * (rows[i] - part[i]);
    }
    assert_ok(f->ctx, svd_compute(f->ctx, m2, D, W, left, s, right));
    for (int k = cut->dit->config.n_learngene; k < D; k++) tail += s[k] * s[k];
    assert_true(tail > 0.1);
    assert_true(fabs(lost - tail) < 1e-5 * tail);
}

static void test_tail_is_lost(void **state) {
    if (!has_svd(((Scratch *)*state)->ctx)) return;
    Fixture f = fixture_open(state, false);
    Model *cut;
    double kept;
    assert_ok(f.ctx, factorize_create(&cut, f.model, 7, 0, &kept));
    assert_true(kept > 0.5 && kept < 1);
    check_tail(&f, cut, "blocks.1.attn.qkv", "blocks.1.attn.q", 0, 12);
    check_tail(&f, cut, "blocks.1.attn.qkv", "blocks.1.attn.k", 12, 12);
    check_tail(&f, cut, "blocks.1.attn.qkv", "blocks.1.attn.v", 24, 12);
    check_tail(&f, cut, "blocks.0.mlp.fc1", "blocks.0.mlp.fc1", 0, 48);
    model_close(&cut);
    fixture_close(&f);
}

// Tailors take the components that follow, class after class: the sum of what all parts have is the matrix.
static void test_tailors_split_the_rest(void **state) {
    if (!has_svd(((Scratch *)*state)->ctx)) return;
    enum { D = 12, N = D * D };
    Fixture f = fixture_open(state, false);
    Model *split;
    double kept;
    double whole[3 * N], learngene[N], with[N], sum[N];
    assert_ok(f.ctx, factorize_create(&split, f.model, 4, 2, &kept)); // 4 + 4 classes x 2
    merge(&f, f.model, "blocks.0.attn.qkv", -1, whole);
    merge(&f, split, "blocks.0.attn.v", -1, learngene);
    memcpy(sum, learngene, sizeof sum);
    for (int c = 0; c < 4; c++) {
        merge(&f, split, "blocks.0.attn.v", c, with);
        double energy = 0;
        for (int i = 0; i < N; i++) {
            sum[i] += with[i] - learngene[i];
            energy += pow(with[i] - learngene[i], 2);
        }
        assert_true(energy > 1e-6);
    }
    for (int i = 0; i < N; i++) assert_true(fabs(sum[i] - whole[2 * N + i]) < 1e-5);
    model_close(&split);
    assert_fails(f.ctx, factorize_create(&split, f.model, 5, 2, &kept), KINDIT_ERROR_ARGUMENT, "width 12 has 12");
    assert_null(split);
    fixture_close(&f);
}

static void test_factored_limits(void **state) {
    Fixture f = fixture_open(state, true);
    Model *out;
    double kept;
    assert_fails(f.ctx, factorize_create(&out, f.model, 6, 3, &kept), KINDIT_ERROR_ARGUMENT, "5 components");
    assert_fails(f.ctx, factorize_create(&out, f.model, 5, 2, &kept), KINDIT_ERROR_ARGUMENT, "3 of each tailor");
    fixture_close(&f);
}

static bool always(void *user) {
    (void)user;
    return true;
}

static void test_cancelled(void **state) {
    KinditContext *ctx = ((Scratch *)*state)->ctx;
    if (!has_svd(ctx)) return;
    Fixture f = fixture_open(state, false);
    Model *out;
    double kept;
    ctx->settings.cancelled = always;
    assert_fails(ctx, factorize_create(&out, f.model, 7, 0, &kept), KINDIT_CANCELLED, "cancelled");
    ctx->settings.cancelled = NULL;
    fixture_close(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        scratch_test(test_svd),
        scratch_test(test_whole_is_the_same),
        scratch_test(test_tail_is_lost),
        scratch_test(test_tailors_split_the_rest),
        scratch_test(test_factored_limits),
        scratch_test(test_cancelled),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
