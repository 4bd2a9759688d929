// Where the methods with adapters start: from the base's own matrices, whatever they are kept as; PiSSA from what peft
// makes of the same base (golden/adapt/pissa).
#include "adapt/adapt.h"
#include "adapt/adapt_start.h"
#include "golden/golden.h"
#include "model/merge.h"
#include "model/models.h"

enum { NEW_CLASSES = 3, SEED = 4 };

typedef struct Bench {
    KinditContext *ctx;
    Engine *engine;
    Model *base, *model; // model: base as the method starts it
    const AdaptMethod *method;
} Bench;

static void bench_start(Bench *b, const char *method, const AdaptSettings *settings, uint64_t seed) {
    static const ModelClass classes[NEW_CLASSES] = {{"x", "x"}, {"y", "y"}, {"z", "z"}};
    DitConfig config = b->base->dit->config;
    assert_ok(b->ctx, adapt_method_find(&b->method, b->ctx, method));
    assert_ok(b->ctx, adapt_configure(&config, b->ctx, settings, b->method, NEW_CLASSES));
    assert_ok(b->ctx, model_create_blank(&b->model, b->ctx, b->engine, &config, classes, NULL, b->method->frozen));
    assert_ok(b->ctx, dit_init(b->model->dit, &b->model->params, seed));
    b->base->params.n_classes = 0; // as opened with no class to copy
    assert_ok(b->ctx, adapt_start(b->method, b->base, b->model, seed));
}

static Bench bench_open(KinditContext *ctx, const char *method, const AdaptSettings *settings) {
    Bench b = {.ctx = ctx};
    assert_ok(ctx, engine_create(&b.engine, ctx));
    assert_ok(ctx, adapt_method_find(&b.method, ctx, method));
    DitConfig config = models_config(!(b.method->bases & ADAPT_DENSE));
    config.n_classes = 0;
    b.base = models_create(ctx, b.engine, &config);
    bench_start(&b, method, settings, SEED);
    return b;
}

static void bench_close(Bench *b) {
    model_close(&b->model);
    model_close(&b->base);
    engine_close(&b->engine);
}

static float *host_of(const Model *model, const ParamSpec *spec) {
    const size_t n = params_spec_size(spec, 0);
    float *host = test_calloc(n + 1, sizeof *host);
    engine_download(model->engine, host, model->params.shared + spec->shared_offset, n);
    return host;
}

// The tensor is the same in both, but for rows of classes, within `tolerance` of its size.
static void assert_same(const Model *found, const Model *expected, const ParamSpec *from, double tolerance) {
    const ParamSpec *to = params_find(&found->dit->layout, from->name);
    assert_non_null(to);
    const size_t n = params_spec_size(from, 0), skip = params_spec_size(to, 0) - n;
    float *x = host_of(found, to), *y = host_of(expected, from);
    const double error = golden_distance(n, x + skip, y) / golden_distance(n, y, NULL);
    if (!(error <= tolerance)) fail_msg("%s: off by %g", from->name, error);
    test_free(x);
    test_free(y);
}

// 1e-5: singular vectors and lengths are found in double and kept in single precision.
static void test_starts_as_base(void **state) {
    static const char *const methods[] = {"lora", "pissa", "dora", "loha", "oft", "svdiff"};
    KinditContext *ctx = ((Scratch *)*state)->ctx;
    for (size_t i = 0; i < sizeof methods / sizeof *methods; i++) {
        const AdaptSettings settings = {.adapter = {.rank = i < 4 ? 3 : 0}};
        Bench b = bench_open(ctx, methods[i], &settings);
        Model *merged;
        assert_ok(ctx, model_merge_adapter(&merged, b.model));
        for (int k = 0; k < b.base->dit->layout.n_specs; k++)
            assert_same(merged, b.base, &b.base->dit->layout.specs[k], 1e-5);
        model_close(&merged);
        bench_close(&b);
    }
}

static void test_learngene_stays(void **state) {
    static const char *const methods[] = {"kind-nogate", "learngene-lora"};
    KinditContext *ctx = ((Scratch *)*state)->ctx;
    for (size_t i = 0; i < 2; i++) {
        Bench b = bench_open(ctx, methods[i], &(AdaptSettings){0});
        assert_int_equal(b.model->dit->config.adapter.rank, 3 * NEW_CLASSES); // the base's tailors have 3 each
        assert_int_equal(b.model->dit->config.n_tailor, 0);
        for (int k = 0; k < b.base->dit->layout.n_specs; k++)
            assert_same(b.model, b.base, &b.base->dit->layout.specs[k], 0);
        bench_close(&b);
    }
}

// Rows of U and of V are at right angles, their strengths those of the dense matrix, not the strongest alone; another
// seed chooses others.
static void test_random_vectors(void **state) {
    enum { D = 12, N_G = 5 };
    KinditContext *ctx = ((Scratch *)*state)->ctx;
    Bench all = bench_open(ctx, "svdiff", &(AdaptSettings){0});
    const AdaptSettings settings = {.n_learngene = N_G};
    Bench b = bench_open(ctx, "svd-lora", &settings);
    int strongest = 0;
    float *first = NULL;
    for (int i = 0; i < b.model->dit->n_linears; i++) {
        const Linear *linear = b.model->dit->linears[i], *full = all.model->dit->linears[i];
        if (!linear->base) continue;
        assert_int_equal(linear->n_learngene, N_G);
        float *s = host_of(b.model, &b.model->dit->layout.specs[linear->param[FACTORED_S]]);
        float *whole = host_of(all.model, &all.model->dit->layout.specs[full->param[FACTORED_S]]);
        float *u = host_of(b.model, &b.model->dit->layout.specs[linear->param[FACTORED_U]]);
        for (int k = 0; k < N_G; k++) {
            int at = 0;
            while (at < D && s[k] != whole[at]) at++;
            assert_true(at < D);
            strongest += at < N_G;
            for (int l = 0; l < N_G; l++) {
                double sum = 0;
                for (int j = 0; j < linear->m1; j++)
                    sum += (double)u[k * linear->m1 + j] * (double)u[l * linear->m1 + j];
                assert_true(fabs(sum - (k == l)) < 1e-5);
            }
        }
        test_free(u);
        test_free(whole);
        if (first) {
            test_free(s);
        } else {
            first = s;
        }
    }
    assert_true(strongest < 12 * N_G);
    model_close(&b.model);
    bench_start(&b, "svd-lora", &settings, SEED + 1);
    float *other = host_of(b.model, &b.model->dit->layout.specs[b.model->dit->blocks[0].q.param[FACTORED_S]]);
    assert_memory_not_equal(first, other, N_G * sizeof *other);
    test_free(other);
    test_free(first);
    bench_close(&b);
    bench_close(&all);
}

// The residual, and each component up to its sign, which an SVD leaves open, against peft's. 1e-5 of single precision.
static void test_pissa_is_pefts(void **state) {
    Golden g;
    (void)state;
    golden_open(&g, "../adapt/pissa", "../adapt/pissa", 1);
    const Dit *dit = g.model->dit;
    const AdaptMethod *method;
    DitConfig config = dit->config;
    Bench b = {.ctx = g.ctx, .engine = g.engine};
    config.adapter = (AdapterConfig){0};
    golden_require(&g, adapt_method_find(&method, g.ctx, "pissa"));
    golden_require(&g, model_create_blank(&b.base, g.ctx, g.engine, &config, g.model->classes, NULL, 0));
    for (int i = 0; i < b.base->dit->layout.n_specs; i++) { // q, k, v are fused in the base
        const ParamSpec *spec = &b.base->dit->layout.specs[i];
        char name[PARAM_NAME_SIZE + 16];
        const char *fused = strstr(spec->name, "qkv.");
        const size_t n = params_spec_size(spec, 0) / (fused ? 3 : 1);
        for (size_t part = 0; part < (fused ? 3 : 1); part++) {
            if (fused)
                snprintf(name, sizeof name, "dense.%.*s%c%s", (int)(fused - spec->name), spec->name, "qkv"[part],
                         fused + 3);
            else
                snprintf(name, sizeof name, "dense.%s", spec->name);
            engine_upload(g.engine, b.base->params.shared + spec->shared_offset + part * n, golden_floats(&g, name), n);
        }
    }
    golden_require(&g, model_create_blank(&b.model, g.ctx, g.engine, &dit->config, g.model->classes, NULL, 0));
    golden_require(&g, dit_init(b.model->dit, &b.model->params, 1));
    b.base->params.n_classes = 0;
    golden_require(&g, adapt_start(method, b.base, b.model, 1));
    for (int i = 0; i < dit->n_linears; i++) {
        const Linear *linear = dit->linears[i];
        if (!linear->base) continue;
        const ParamSpec *W = &dit->layout.specs[linear->param[DENSE_WEIGHT]];
        assert_same(b.model, g.model, W, 1e-5);
        for (int which = LORA_A; which <= LORA_B; which += LORA_B - LORA_A) {
            const ParamSpec *spec = &dit->layout.specs[linear->param[which]];
            float *found = host_of(b.model, spec), *expected = host_of(g.model, spec);
            for (size_t k = 0; k < (size_t)spec->shape[0]; k++) {
                float *row = found + k * spec->row;
                const float *other = expected + k * spec->row;
                double product = 0;
                for (size_t j = 0; j < spec->row; j++) product += (double)row[j] * (double)other[j];
                for (size_t j = 0; j < spec->row && product < 0; j++) row[j] = -row[j];
            }
            golden_assert_close("pissa", spec->name, params_spec_size(spec, 0), found, expected, 1e-5);
            test_free(found);
            test_free(expected);
        }
    }
    model_close(&b.model);
    model_close(&b.base);
    golden_close(&g);
}

// OFT's blocks by default: the paper's number where it divides, else the next lower that does; a rank no more than the
// width; LoHa's half of the others'.
static void test_defaults(void **state) {
    KinditContext *ctx = ((Scratch *)*state)->ctx;
    DitConfig base = dit_config_default(), config;
    const AdaptMethod *method;
    base.factored = false;
    assert_ok(ctx, dit_config_preset(&base, ctx, "DiT-B/2"));
    static const struct {
        const char *method;
        int n_classes, rank, blocks;
    } cases[] = {{"lora", 7, 21, 0}, {"loha", 7, 10, 0}, {"oft", 7, 0, 16},
                 {"oft", 18, 0, 8},  {"oft", 31, 0, 4},  {"lora", 500, 768, 0}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        config = base;
        assert_ok(ctx, adapt_method_find(&method, ctx, cases[i].method));
        assert_ok(ctx, adapt_configure(&config, ctx, &(AdaptSettings){0}, method, cases[i].n_classes));
        assert_int_equal(config.adapter.rank, cases[i].rank);
        assert_int_equal(config.adapter.blocks, cases[i].blocks);
    }
    assert_int_equal(adapt_blocks(&base, 7), 21); // Table 7
    assert_int_equal(adapt_blocks(&base, 13), 11);
    assert_int_equal(adapt_blocks(&base, 30), 4);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        scratch_test(test_starts_as_base),     scratch_test(test_learngene_stays), scratch_test(test_random_vectors),
        cmocka_unit_test(test_pissa_is_pefts), scratch_test(test_defaults),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
