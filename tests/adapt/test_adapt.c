// Fine-tuning's promises: what is frozen stays, to the bit; what the base has is where the new model starts; a run is
// still a function of its settings, and wrong uses say what is wrong.
#include "adapt/adapting.h"

static bool is_same_tailor(const Model *model, int c, const Model *base, int of) {
    const size_t n = base->dit->layout.n_tailor;
    float *x = test_calloc(n, sizeof *x), *y = test_calloc(n, sizeof *y);
    bool same = true;
    engine_download(model->engine, x, model->params.tailor[c], n);
    engine_download(base->engine, y, base->params.tailor[of], n);
    for (int i = 0; i < base->dit->layout.n_specs; i++) { // padding is nobody's
        const ParamSpec *spec = &base->dit->layout.specs[i];
        same = same && memcmp(x + spec->tailor_offset, y + spec->tailor_offset,
                              (size_t)spec->tailor_rows * spec->row * sizeof *x) == 0;
    }
    test_free(x);
    test_free(y);
    return same;
}

static void assert_all_shared_same(const Model *model, const Model *base) {
    for (int i = 0; i < base->dit->layout.n_specs; i++) {
        const ParamSpec *spec = &base->dit->layout.specs[i];
        if (!is_same_shared(model, base, spec->name, (size_t)spec->shape[0])) fail_msg("%s has changed", spec->name);
    }
}

// Every matrix of every class is the learngene's alone: fresh tailors add nothing.
static void assert_tailors_silent(Bench *b, const Model *start) {
    float *shared = test_calloc(start->dit->layout.n_shared, sizeof *shared);
    float *tailor = test_calloc(start->dit->layout.n_tailor, sizeof *tailor);
    engine_download(b->engine, shared, start->params.shared, start->dit->layout.n_shared);
    for (int i = 0; i < start->dit->n_linears * NEW_CLASSES; i++) {
        const Linear *linear = start->dit->linears[i / NEW_CLASSES];
        const size_t n = (size_t)linear->m1 * (size_t)linear->m2;
        if (linear->kind != &linear_factored) continue;
        double *W = test_calloc(2 * n, sizeof *W);
        engine_download(b->engine, tailor, start->params.tailor[i % NEW_CLASSES], start->dit->layout.n_tailor);
        assert_ok(b->ctx, linear->kind->merge(linear, b->ctx, shared, tailor, W));
        assert_ok(b->ctx, linear->kind->merge(linear, b->ctx, shared, NULL, W + n));
        assert_memory_equal(W, W + n, n * sizeof *W);
        test_free(W);
    }
    test_free(tailor);
    test_free(shared);
}

static void test_kind(void **state) {
    Bench b = bench_open(*state, true, 2);
    const AdaptSettings settings = settings_for(&b, "kind");
    AdaptPlan plan = plan_small(&b, &settings, STEPS), still = plan_small(&b, &settings, STEPS);
    still.train.lr = 0;
    assert_int_equal(plan.train.diffusion_steps, 50); // the base's
    Model *model = train(&b, &plan, "run", false), *start = train(&b, &still, "still", false);
    assert_int_equal(model->dit->config.n_classes, NEW_CLASSES);
    assert_string_equal(model->classes[1].id, "c1");
    assert_all_shared_same(model, b.model);
    assert_tailors_silent(&b, start);
    for (int c = 0; c < NEW_CLASSES; c++) {
        assert_false(is_same_tailor(model, c, start, c));                                              // it trained
        for (int of = 0; of < BASE_CLASSES; of++) assert_false(is_same_tailor(start, c, b.model, of)); // from afresh
    }
    model_close(&model);
    model_close(&start);
    adapt_plan_close(&plan);
    adapt_plan_close(&still);
    bench_close(&b);
}

// With a learning rate of 0 what comes out is what it started with.
static void test_tailors_from(void **state) {
    Bench b = bench_open(*state, true, 2);
    AdaptSettings settings = settings_for(&b, "kind");
    settings.tailors_from = "d,b";
    AdaptPlan plan = plan_small(&b, &settings, 1);
    plan.train.lr = 0;
    Model *model = train(&b, &plan, "run", false);
    assert_all_shared_same(model, b.model);
    static const int from[NEW_CLASSES] = {3, 1, 3};
    for (int c = 0; c < NEW_CLASSES; c++) assert_true(is_same_tailor(model, c, b.model, from[c]));
    model_close(&model);
    adapt_plan_close(&plan);
    bench_close(&b);
}

static void test_n_tailor(void **state) {
    Bench b = bench_open(*state, true, 2);
    AdaptSettings settings = settings_for(&b, "kind");
    settings.n_tailor = 2;
    AdaptPlan plan = plan_small(&b, &settings, STEPS);
    Model *model = train(&b, &plan, "run", false);
    assert_int_equal(model->dit->config.n_tailor, 2);
    assert_all_shared_same(model, b.model);
    model_close(&model);
    adapt_plan_close(&plan);
    bench_close(&b);
}

// Everything trains, from where the base is; of a dense label table only the null row is the base's.
static void check_full(Scratch *scratch, bool factored) {
    Bench b = bench_open(scratch, factored, 2);
    const AdaptSettings settings = settings_for(&b, "full");
    const char *labels = "y_embedder.embedding_table.weight";
    AdaptPlan plan = plan_small(&b, &settings, STEPS), still = plan_small(&b, &settings, 1);
    still.train.lr = 0;
    Model *model = train(&b, &plan, "run", false), *start = train(&b, &still, "still", false);
    for (int i = 0; i < b.model->dit->layout.n_specs; i++) {
        const ParamSpec *spec = &b.model->dit->layout.specs[i];
        const size_t rows = strcmp(spec->name, labels) == 0 ? 1 : (size_t)spec->shape[0];
        assert_true(is_same_shared(start, b.model, spec->name, rows));
        if (strcmp(spec->name, labels) == 0 || strstr(spec->name, "attn.k.bias")) continue; // which softmax cannot see
        if (is_same_shared(model, b.model, spec->name, rows)) fail_msg("%s has not trained", spec->name);
    }
    if (!factored) assert_false(is_same_shared(start, b.model, labels, 2));
    model_close(&model);
    model_close(&start);
    adapt_plan_close(&plan);
    adapt_plan_close(&still);
    file_remove_tree(b.ctx, scratch->folder);
    assert_ok(b.ctx, file_make_folder(b.ctx, scratch->folder));
    bench_close(&b);
}

static void test_full(void **state) {
    check_full(*state, true);
    check_full(*state, false);
}

// 2N steps are N steps, stop, resume, N steps, bit for bit; the record is enough to go on, and the base may be gone.
static void test_resume(void **state) {
    Bench b = bench_open(*state, true, 2);
    const AdaptSettings settings = settings_for(&b, "kind");
    AdaptPlan plan = stop_halfway(&b, &settings);
    go_on(&b, &plan);
    adapt_plan_close(&plan);
    bench_close(&b);
}

static void test_resume_refuses_another_method(void **state) {
    Bench b = bench_open(*state, true, 2);
    AdaptSettings settings = settings_for(&b, "kind");
    AdaptPlan plan = plan_small(&b, &settings, 2);
    TrainResult result;
    char run[1024];
    Model *model = train(&b, &plan, "run", false);
    model_close(&model);
    adapt_plan_close(&plan);
    snprintf(run, sizeof run, "%s", scratch_path(b.scratch, "run"));
    settings.method = "full";
    assert_ok(b.ctx, adapt_plan_resumed(&plan, b.ctx, &settings, run));
    assert_fails(b.ctx, adapt_run(b.ctx, b.engine, &plan, run, true, &result), KINDIT_ERROR_ARGUMENT,
                 "another method of adapt: the run has \"kind\", asked for \"full\"");
    adapt_plan_close(&plan);
    settings = (AdaptSettings){.tailors_from = "a"};
    assert_ok(b.ctx, adapt_plan_resumed(&plan, b.ctx, &settings, run));
    assert_fails(b.ctx, adapt_run(b.ctx, b.engine, &plan, run, true, &result), KINDIT_ERROR_ARGUMENT, "tailors_from");
    adapt_plan_close(&plan);
    settings = (AdaptSettings){.n_tailor = 1};
    assert_ok(b.ctx, adapt_plan_resumed(&plan, b.ctx, &settings, run));
    assert_fails(b.ctx, adapt_run(b.ctx, b.engine, &plan, run, true, &result), KINDIT_ERROR_ARGUMENT, "n_tailor");
    adapt_plan_close(&plan);
    bench_close(&b);
}

static void test_refused(void **state) {
    Bench b = bench_open(*state, true, 2);
    AdaptSettings settings = settings_for(&b, "king");
    char other[1024];
    assert_refused(&b, &settings, b.data, "there are: kind, ");
    settings = settings_for(&b, "kind");
    settings.tailors_from = "a,z";
    assert_refused(&b, &settings, b.data, "no class \"z\"; there are: a, b");
    settings.tailors_from = "";
    assert_refused(&b, &settings, b.data, "no classes named");
    settings.tailors_from = "a";
    settings.n_tailor = 1;
    assert_refused(&b, &settings, b.data, "have 3 components");
    settings = settings_for(&b, "kind");
    snprintf(other, sizeof other, "%s", scratch_path(b.scratch, "other"));
    tiny_dataset_write(b.ctx, other, 2, 2, SIDE, 1);
    assert_refused(&b, &settings, other, "4 x 4 with 1 channels");

    AdaptPlan plan = plan_small(&b, &settings, 1);
    TrainResult result;
    plan.train.mse_only = true;
    assert_fails(b.ctx, adapt_run(b.ctx, b.engine, &plan, scratch_path(b.scratch, "run"), false, &result),
                 KINDIT_ERROR_ARGUMENT, "learns its variance");
    adapt_plan_close(&plan);
    bench_close(&b);
}

static void test_dense_refused(void **state) {
    Bench b = bench_open(*state, false, 2);
    AdaptSettings settings = settings_for(&b, "kind");
    assert_refused(&b, &settings, b.data, "needs a model with a learngene");
    settings = settings_for(&b, "full");
    settings.n_tailor = 2;
    assert_refused(&b, &settings, b.data, "no tailors");
    bench_close(&b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        scratch_test(test_kind),    scratch_test(test_tailors_from),  scratch_test(test_n_tailor),
        scratch_test(test_full),    scratch_test(test_resume),        scratch_test(test_resume_refuses_another_method),
        scratch_test(test_refused), scratch_test(test_dense_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
