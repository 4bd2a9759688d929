// Methods of layers from end to end: what starts as the base is, what is fresh, and that a run is still a function of
// its settings.
#include "adapt/adapting.h"
#include "adapt/block_map.h"
#include "cancelling.h"

enum { DEPTH = 4 };

// A dense base that knows class "c1" of the data.
static Bench layers_open(Scratch *scratch) {
    Bench b = bench_open(scratch, false, DEPTH);
    file_remove_tree(b.ctx, b.base);
    snprintf(b.model->classes[2].id, sizeof b.model->classes[2].id, "c1");
    assert_ok(b.ctx, model_write(b.model, b.base, STORAGE_F32, false));
    return b;
}

static AdaptSettings layers_settings(const Bench *b, const char *method, int keep_blocks) {
    AdaptSettings settings = settings_for(b, method);
    settings.keep_blocks = keep_blocks;
    if (strcmp(method, "auto-lg") == 0) settings.pseudo_steps = 3;
    return settings;
}

// Rows of a tensor of one model are rows of a tensor of another, to the bit.
static bool is_same_rows(const Model *a, const char *of_a, size_t row_a, const Model *b, const char *of_b, size_t row_b,
                         size_t rows) {
    const ParamSpec *x = params_find(&a->dit->layout, of_a), *y = params_find(&b->dit->layout, of_b);
    assert_non_null(x);
    assert_non_null(y);
    const size_t n = rows * x->row;
    float *p = test_calloc(n, sizeof *p), *q = test_calloc(n, sizeof *q);
    engine_download(a->engine, p, a->params.shared + x->shared_offset + row_a * x->row, n);
    engine_download(b->engine, q, b->params.shared + y->shared_offset + row_b * y->row, n);
    const bool same = memcmp(p, q, n * sizeof *p) == 0;
    test_free(p);
    test_free(q);
    return same;
}

static bool is_same_block(const Model *a, int of_a, const Model *b, int of_b) {
    static const char *const tensors[] = {"adaLN_modulation.1.weight", "attn.qkv.bias", "attn.proj.weight",
                                          "mlp.fc1.weight", "mlp.fc2.bias"};
    bool same = true;
    for (size_t i = 0; i < sizeof tensors / sizeof *tensors; i++) {
        char x[PARAM_NAME_SIZE], y[PARAM_NAME_SIZE];
        snprintf(x, sizeof x, "blocks.%d.%s", of_a, tensors[i]);
        snprintf(y, sizeof y, "blocks.%d.%s", of_b, tensors[i]);
        same = same && is_same_rows(a, x, 0, b, y, 0, (size_t)params_find(&a->dit->layout, x)->shape[0]);
    }
    return same;
}

// What the record of a run says.
static BlockMap blocks_of(Bench *b, const char *run, int depth) {
    cJSON *record;
    BlockMap map;
    char path[1024];
    snprintf(path, sizeof path, "%s/%s/run.json", b->scratch->folder, run);
    assert_ok(b->ctx, json_read(&record, b->ctx, path));
    assert_ok(b->ctx, block_map_read(&map, b->ctx, cJSON_GetObjectItem(record, "adapt"), depth, DEPTH));
    cJSON_Delete(record);
    return map;
}

static Model *start(Bench *b, const AdaptSettings *settings, const char *name) {
    AdaptPlan plan = plan_small(b, settings, 1);
    plan.train.lr = 0;
    Model *model = train(b, &plan, name, false);
    adapt_plan_close(&plan);
    return model;
}

// Blocks where the record says; around them, and of the class it knows, what the base has; the rest as dit_init.
static void check_start(Bench *b, const Model *model, const char *run) {
    const char *labels = "y_embedder.embedding_table.weight";
    const int depth = model->dit->config.depth;
    const BlockMap map = blocks_of(b, run, depth);
    Model *fresh;
    assert_ok(b->ctx, model_create(&fresh, b->ctx, b->engine, &model->dit->config, model->classes, 3));
    for (int i = 0; i < depth; i++) {
        const bool is_fresh = map.from[i] == BLOCK_FRESH;
        assert_true(is_same_block(model, i, is_fresh ? fresh : b->model, is_fresh ? i : map.from[i]));
    }
    assert_true(is_same_rows(model, "t_embedder.mlp.0.weight", 0, b->model, "t_embedder.mlp.0.weight", 0, 12));
    assert_true(is_same_rows(model, "final_layer.linear.weight", 0, b->model, "final_layer.linear.weight", 0, 24));
    assert_true(is_same_rows(model, labels, 0, fresh, labels, 0, 1));
    assert_true(is_same_rows(model, labels, 1, b->model, labels, 2, 1)); // c1
    assert_true(is_same_rows(model, labels, 2, fresh, labels, 2, 1));
    assert_true(is_same_rows(model, labels, 3, b->model, labels, 4, 1)); // null
    model_close(&fresh);
}

static void test_last_blocks(void **state) {
    static const int from[DEPTH] = {BLOCK_FRESH, 1, 2, 3};
    Bench b = layers_open(*state);
    AdaptSettings settings = layers_settings(&b, "heur-lg", 3);
    Model *model = start(&b, &settings, "still");
    check_start(&b, model, "still");
    const BlockMap map = blocks_of(&b, "still", DEPTH);
    assert_memory_equal(map.from, from, sizeof from);
    model_close(&model);
    settings.keep_blocks = 0; // half
    model = start(&b, &settings, "half");
    assert_int_equal(blocks_of(&b, "half", DEPTH).from[1], BLOCK_FRESH);
    assert_int_equal(blocks_of(&b, "half", DEPTH).from[2], 2);
    model_close(&model);
    bench_close(&b);
}

static void test_similar_blocks(void **state) {
    Bench b = layers_open(*state);
    const AdaptSettings settings = layers_settings(&b, "auto-lg", 2);
    Model *model = start(&b, &settings, "still");
    check_start(&b, model, "still");
    const BlockMap map = blocks_of(&b, "still", DEPTH);
    int n_kept = 0;
    for (int i = 0; i < DEPTH; i++) n_kept += map.from[i] == i;
    assert_int_equal(n_kept, 2);
    char pseudo[1024];
    snprintf(pseudo, sizeof pseudo, "%s/still/pseudo", b.scratch->folder);
    assert_false(file_is_folder(pseudo));
    model_close(&model);
    bench_close(&b);
}

static void test_needed_blocks(void **state) {
    Bench b = layers_open(*state);
    const AdaptSettings settings = layers_settings(&b, "laptop", 3);
    Model *model = start(&b, &settings, "still");
    assert_int_equal(model->dit->config.depth, 3);
    check_start(&b, model, "still");
    model_close(&model);
    bench_close(&b);
}

// 2N steps are N steps, stop, resume, N steps, bit for bit; only where the base teaches it must still be there.
static void check_resume(Scratch *scratch, const char *method) {
    Bench b = layers_open(scratch);
    const AdaptSettings settings = layers_settings(&b, method, 2);
    AdaptPlan plan = stop_halfway(&b, &settings);
    if (plan.method->blocks == ADAPT_NEEDED_BLOCKS) {
        TrainResult result;
        char run[1024];
        snprintf(run, sizeof run, "%s", scratch_path(scratch, "parts"));
        assert_fails(b.ctx, adapt_run(b.ctx, b.engine, &plan, run, true, &result), KINDIT_ERROR_IO, "base");
        assert_ok(b.ctx, model_write(b.model, b.base, STORAGE_F32, false));
    }
    go_on(&b, &plan);
    adapt_plan_close(&plan);
    bench_close(&b);
}

static void test_resume_fresh_blocks(void **state) {
    check_resume(*state, "heur-lg");
}

static void test_resume_similar_blocks(void **state) {
    check_resume(*state, "auto-lg");
}

static void test_resume_taught(void **state) {
    check_resume(*state, "laptop");
}

// Stopped by the user at the n-th poll, for every n, while blocks are chosen or while it trains, and started again as
// the folder allows (a choice begins anew, training goes on), a run comes to the bits of one that nobody stopped.
static void check_stops(Scratch *scratch, const char *method) {
    Bench b = layers_open(scratch);
    const AdaptSettings settings = layers_settings(&b, method, 2);
    AdaptPlan plan = plan_small(&b, &settings, STEPS);
    TrainResult result = {0};
    char run[1024], record[1100];
    int n_begun_anew = 0;
    snprintf(run, sizeof run, "%s", scratch_path(scratch, "parts"));
    snprintf(record, sizeof record, "%s/run.json", run);
    Model *model = train(&b, &plan, "whole", false);
    model_close(&model);
    for (int polls = 0; !result.finished; polls++) {
        polls_left = polls;
        b.ctx->settings.cancelled = cancel_later;
        const KinditStatus status = adapt_run(b.ctx, b.engine, &plan, run, false, &result);
        b.ctx->settings.cancelled = NULL;
        assert_int_equal(status, result.finished ? KINDIT_OK : KINDIT_CANCELLED);
        n_begun_anew += !file_exists(record);
        if (!result.finished) model = train(&b, &plan, "parts", file_exists(record));
        model_close(&model);
        assert_same_files(&b, "whole", "parts");
        file_remove_tree(b.ctx, run);
    }
    assert_int_equal(n_begun_anew > 0, plan.method->blocks != ADAPT_LAST_BLOCKS); // which takes no time to choose
    adapt_plan_close(&plan);
    bench_close(&b);
}

static void test_stopped_heur_lg(void **state) {
    check_stops(*state, "heur-lg");
}

static void test_stopped_auto_lg(void **state) {
    check_stops(*state, "auto-lg");
}

static void test_stopped_laptop(void **state) {
    check_stops(*state, "laptop");
}

// Also by a plan that was made from settings, as it was when the run began.
static void test_resume_by_new_plan(void **state) {
    Bench b = layers_open(*state);
    const AdaptSettings settings = layers_settings(&b, "laptop", 2);
    AdaptPlan whole = plan_small(&b, &settings, STEPS), half = plan_small(&b, &settings, STEPS / 2);
    Model *model = train(&b, &half, "parts", false);
    model_close(&model);
    model = train(&b, &whole, "parts", true);
    model_close(&model);
    model = train(&b, &whole, "whole", false);
    model_close(&model);
    assert_same_files(&b, "whole", "parts");
    adapt_plan_close(&whole);
    adapt_plan_close(&half);
    bench_close(&b);
}

// The loss that is logged has the teacher's part.
static void test_teacher_adds_to_loss(void **state) {
    Bench b = layers_open(*state);
    const AdaptSettings settings = layers_settings(&b, "laptop", 2);
    AdaptPlan plan = plan_small(&b, &settings, 1);
    FileMap csv;
    char text[512] = "";
    double loss, mse, vlb;
    Model *model = train(&b, &plan, "taught", false);
    assert_ok(b.ctx, file_map(&csv, b.ctx, scratch_path(b.scratch, "taught/metrics.csv")));
    memcpy(text, csv.data, csv.size < sizeof text - 1 ? csv.size : sizeof text - 1);
    assert_int_equal(sscanf(strchr(text, '\n'), "\n1,%*f,%lf,%lf,%lf", &loss, &mse, &vlb), 3);
    if (!(loss > mse + vlb + 1e-4)) fail_msg("loss %g, mse %g, vlb %g: nothing of the teacher", loss, mse, vlb);
    file_unmap(&csv);
    model_close(&model);
    adapt_plan_close(&plan);
    bench_close(&b);
}

static void test_budget(void **state) {
    Bench b = layers_open(*state);
    AdaptSettings settings = settings_for(&b, "laptop");
    int64_t size[DEPTH + 1];
    for (int depth = 1; depth <= DEPTH; depth++) {
        DitConfig config = b.model->dit->config;
        DitCounts counts;
        Dit *dit;
        config.depth = depth;
        config.n_classes = NEW_CLASSES;
        assert_ok(b.ctx, dit_create(&dit, b.ctx, &config));
        dit_count(dit, 0, &counts);
        size[depth] = counts.total;
        dit_close(&dit);
    }
    for (int depth = 1; depth <= DEPTH; depth++)
        for (int less = 0; less < 2; less++) {
            AdaptPlan plan;
            settings.budget = size[depth] - less;
            if (depth - less == 0) {
                assert_refused(&b, &settings, b.data, "a model of one block has");
                continue;
            }
            assert_ok(b.ctx, adapt_plan_new(&plan, b.ctx, &settings, b.data));
            assert_int_equal(plan.config.depth, depth - less);
            adapt_plan_close(&plan);
        }
    bench_close(&b);
}

static void test_refused_settings(void **state) {
    Bench b = layers_open(*state);
    AdaptSettings settings = layers_settings(&b, "full", 2);
    assert_refused(&b, &settings, b.data, "belongs to heur-lg, auto-lg and laptop");
    settings = layers_settings(&b, "heur-lg", DEPTH + 1);
    assert_refused(&b, &settings, b.data, "expected 1 to 4, found 5");
    settings.keep_blocks = 0;
    settings.budget = 100000;
    assert_refused(&b, &settings, b.data, "a budget belongs to laptop");
    settings = layers_settings(&b, "laptop", 2);
    settings.pseudo_steps = 3;
    assert_refused(&b, &settings, b.data, "pseudo-steps belongs to auto-lg");
    settings.pseudo_steps = 0;
    settings.budget = 100000;
    assert_refused(&b, &settings, b.data, "not both");
    bench_close(&b);
}

static void test_resume_refuses_other_blocks(void **state) {
    Bench b = layers_open(*state);
    const AdaptSettings settings = layers_settings(&b, "laptop", 2);
    AdaptSettings other = {.keep_blocks = 3};
    AdaptPlan plan = plan_small(&b, &settings, 1);
    TrainResult result;
    char run[1024];
    Model *model = train(&b, &plan, "run", false);
    model_close(&model);
    snprintf(run, sizeof run, "%s", scratch_path(b.scratch, "run"));
    assert_fails(b.ctx, adapt_run(b.ctx, b.engine, &plan, run, false, &result), KINDIT_ERROR_ARGUMENT,
                 "already holds a run");
    adapt_plan_close(&plan);
    assert_ok(b.ctx, adapt_plan_resumed(&plan, b.ctx, &other, run));
    assert_fails(b.ctx, adapt_run(b.ctx, b.engine, &plan, run, true, &result), KINDIT_ERROR_ARGUMENT,
                 "another keep_blocks of adapt: the run has 2, asked for 3");
    adapt_plan_close(&plan);
    other = (AdaptSettings){.pseudo_steps = 3};
    assert_fails(b.ctx, adapt_plan_resumed(&plan, b.ctx, &other, run), KINDIT_ERROR_ARGUMENT, "has no pseudo_steps");
    bench_close(&b);
}

// A record that names other blocks than there are is not followed.
static void test_broken_record(void **state) {
    static const char *const broken[] = {"{\"blocks\": [0, 4]}", "{\"blocks\": [0, -2]}",   "{\"blocks\": [0, \"1\"]}",
                                         "{\"blocks\": [0]}",    "{\"blocks\": [0, 1, 2]}", "{}"};
    KinditContext *ctx = ((Scratch *)*state)->ctx;
    for (size_t i = 0; i < sizeof broken / sizeof *broken; i++) {
        cJSON *record = cJSON_Parse(broken[i]);
        BlockMap map;
        assert_fails(ctx, block_map_read(&map, ctx, record, 2, DEPTH), KINDIT_ERROR_FORMAT, "blocks");
        cJSON_Delete(record);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        scratch_test(test_last_blocks),           scratch_test(test_similar_blocks),
        scratch_test(test_needed_blocks),         scratch_test(test_resume_fresh_blocks),
        scratch_test(test_resume_similar_blocks), scratch_test(test_stopped_heur_lg),
        scratch_test(test_stopped_auto_lg),       scratch_test(test_stopped_laptop),
        scratch_test(test_resume_taught),         scratch_test(test_resume_by_new_plan),
        scratch_test(test_teacher_adds_to_loss),  scratch_test(test_budget),
        scratch_test(test_refused_settings),      scratch_test(test_resume_refuses_other_blocks),
        scratch_test(test_broken_record),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
