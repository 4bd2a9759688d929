// Checkpoints: complete or absent, and back to the bit.
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/json.h"
#include "formats/safetensors.h"
#include "model/model_run.h"
#include "model/models.h"
#include "train/checkpoint.h"

typedef struct Bench {
    KinditContext *ctx;
    Engine *engine;
    Model *model;
    Optimizer optimizer;
    cJSON *record;
    char run[1024];
} Bench;

static const AdamSettings adam = {
    .lr = 1e-3f, .beta1 = 0.9f, .beta2 = 0.999f, .eps = 1e-8f, .ema_decay = 0.9f, .gradient_scale = 1};

// A model and an optimiser in the midst of training: all vectors different, class 2 behind, class 3 never seen.
static Bench bench_open_frozen(Scratch *scratch, bool factored, unsigned frozen) {
    Bench b = {.ctx = scratch->ctx};
    const DitConfig config = models_config(factored);
    snprintf(b.run, sizeof b.run, "%s", scratch_path(scratch, "run"));
    assert_ok(b.ctx, engine_create(&b.engine, b.ctx));
    b.model = models_create(b.ctx, b.engine, &config);
    const ParamLayout *layout = &b.model->dit->layout;
    params_freeze(&b.model->dit->layout, frozen); // the weights are random: in this order as in the other
    assert_ok(b.ctx, optimizer_create(&b.optimizer, b.ctx, b.engine, layout, &b.model->params, &adam));
    float *host = test_calloc(layout->n_shared, sizeof *host);
    ParamSet *sets[] = {&b.optimizer.m, &b.optimizer.v, &b.optimizer.ema};
    for (int s = 0; s < 3; s++)
        for (int c = -1; c < config.n_classes; c++) {
            const size_t n = c < 0 ? params_trained(layout) : layout->n_tailor;
            RngKey key = {.seed = (uint64_t)s, .sample = (uint64_t)(c + 1), .step = 3, .purpose = RNG_TEST};
            assert_true(n <= layout->n_shared);
            rng_fill_normal(key, host, n);
            engine_upload(b.engine, c < 0 ? sets[s]->shared : sets[s]->tailor[c], host, n);
        }
    test_free(host);
    b.optimizer.step = 7;
    memcpy(b.optimizer.tailor_steps, (int64_t[]){5, 7, 2, 0}, 4 * sizeof(int64_t));
    memcpy(b.optimizer.tailor_last, (int64_t[]){6, 7, 3, 0}, 4 * sizeof(int64_t));
    b.record = cJSON_Parse("{\"format\": 1, \"settings\": {\"diffusion_steps\": 500, \"beta_first\": 0.0001, "
                           "\"beta_last\": 0.02}}");
    return b;
}

static Bench bench_open(Scratch *scratch, bool factored) {
    return bench_open_frozen(scratch, factored, 0);
}

static void bench_close(Bench *b) {
    cJSON_Delete(b->record);
    optimizer_close(&b->optimizer);
    model_close(&b->model);
    assert_int_equal(engine_allocated(b->engine), 0);
    engine_close(&b->engine);
}

static void write_step(Bench *b, int64_t step) {
    b->optimizer.step = step;
    assert_ok(b->ctx, checkpoint_write(b->ctx, b->run, b->model, &b->optimizer, b->record));
}

static const char *in_run(Bench *b, const char *name) {
    static char path[1024];
    assert_ok(b->ctx, file_path(path, b->ctx, "%s/%s", b->run, name));
    return path;
}

// A file keeps the numbers of tensors, not the padding between them.
static void assert_same_params(Engine *engine, const ParamLayout *layout, const ParamSet *found,
                               const ParamSet *expected) {
    for (int i = 0; i < layout->n_specs; i++) {
        const ParamSpec *spec = &layout->specs[i];
        if (!spec->frozen || found->first == 0)
            models_assert_rows(engine, found->shared + (spec->shared_offset - found->first),
                               expected->shared + (spec->shared_offset - expected->first), spec, (size_t)spec->shape[0],
                               STORAGE_F32);
        for (int c = 0; c < found->n_classes; c++)
            models_assert_rows(engine, found->tailor[c] + spec->tailor_offset,
                               expected->tailor[c] + spec->tailor_offset, spec, (size_t)spec->tailor_rows, STORAGE_F32);
    }
}

static void check_round_trip(Scratch *scratch, bool factored, unsigned frozen) {
    Bench b = bench_open_frozen(scratch, factored, frozen);
    const DitConfig config = models_config(factored);
    const ParamLayout *layout = &b.model->dit->layout;
    Model *model;
    Optimizer optimizer;
    write_step(&b, 7);
    assert_ok(b.ctx, model_create_blank(&model, b.ctx, b.engine, &config, test_classes, NULL, frozen));
    assert_ok(b.ctx, optimizer_create(&optimizer, b.ctx, b.engine, layout, &model->params, &adam));
    assert_ok(b.ctx, checkpoint_read(b.ctx, b.run, 7, model, &optimizer));
    assert_same_params(b.engine, layout, &model->params, &b.model->params);
    assert_same_params(b.engine, layout, &optimizer.m, &b.optimizer.m);
    assert_same_params(b.engine, layout, &optimizer.v, &b.optimizer.v);
    assert_same_params(b.engine, layout, &optimizer.ema, &b.optimizer.ema);
    assert_int_equal(optimizer.step, 7);
    assert_memory_equal(optimizer.tailor_steps, b.optimizer.tailor_steps, 4 * sizeof(int64_t));
    assert_memory_equal(optimizer.tailor_last, b.optimizer.tailor_last, 4 * sizeof(int64_t));
    optimizer_close(&optimizer);
    model_close(&model);
    file_remove_tree(b.ctx, b.run);
    bench_close(&b);
}

static void test_round_trip(void **state) {
    check_round_trip(*state, true, 0);
    check_round_trip(*state, false, 0);
    check_round_trip(*state, true, ROLE_SHARED | ROLE_LEARNGENE);
    check_round_trip(*state, false, ROLE_SHARED);
}

// Frozen weights are in one file alone.
static void test_frozen_once(void **state) {
    Bench b = bench_open_frozen(*state, true, ROLE_SHARED | ROLE_LEARNGENE | ROLE_LABELS);
    static const char *const files[] = {"weights", "m", "v", "ema"};
    const Model *model = b.model;
    write_step(&b, 7);
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        char name[64];
        Safetensors file;
        snprintf(name, sizeof name, "checkpoints/step-7/%s.safetensors", files[i]);
        assert_ok(b.ctx, safetensors_open(&file, b.ctx, in_run(&b, name)));
        const Tensor *u = safetensors_find(&file, "blocks.0.attn.q.U"); // the tailors' rows of it
        assert_non_null(u);
        assert_int_equal(u->shape[0], model->dit->config.n_classes * model->dit->config.n_tailor);
        assert_null(safetensors_find(&file, "blocks.0.attn.q.bias"));
        safetensors_close(&file);
    }
    bench_close(&b);
}

// The run opens as a model: the average, absent tailors caught up, and the config says how it was trained.
static void test_is_a_model(void **state) {
    Bench b = bench_open(*state, true);
    const ParamLayout *layout = &b.model->dit->layout;
    ParamSet average;
    Model *model;
    int64_t step, n;
    assert_ok(b.ctx, params_alloc(&average, b.engine, b.ctx, layout, 4));
    optimizer_read_ema(&b.optimizer, &b.model->params, &average);
    write_step(&b, 7);
    assert_ok(b.ctx, model_open(&model, b.ctx, b.engine, b.run, NULL));
    assert_same_params(b.engine, layout, &model->params, &average);
    const cJSON *training;
    assert_ok(b.ctx, json_get_object(model->config, b.ctx, "config", "training", &training));
    assert_ok(b.ctx, json_get_int(training, b.ctx, "config", "step", 0, 100, &step));
    assert_ok(b.ctx, json_get_int(training, b.ctx, "config", "diffusion_steps", 0, 1000, &n));
    assert_int_equal(step, 7);
    assert_int_equal(n, 500);
    model_close(&model);
    params_close(&average);
    bench_close(&b);
}

static void test_find_and_prune(void **state) {
    Bench b = bench_open(*state, true);
    int64_t step;
    assert_ok(b.ctx, model_run_newest(b.ctx, b.run, &step));
    assert_int_equal(step, -1);
    static const int64_t steps[] = {10, 9, 100, 20};
    for (int i = 0; i < 4; i++) write_step(&b, steps[i]);
    // What is not a complete checkpoint: interrupted writes and removals, other names, a file.
    assert_ok(b.ctx, file_make_folder(b.ctx, in_run(&b, "checkpoints/step-500.tmp")));
    assert_ok(b.ctx, file_make_folder(b.ctx, in_run(&b, "checkpoints/step-500.tmp.123.tmp")));
    assert_ok(b.ctx, file_make_folder(b.ctx, in_run(&b, "checkpoints/step-600-old")));
    assert_ok(b.ctx, file_make_folder(b.ctx, in_run(&b, "checkpoints/step-")));
    assert_ok(b.ctx, file_make_folder(b.ctx, in_run(&b, "checkpoints/step-99999999999999999999")));
    assert_ok(b.ctx, file_write(b.ctx, in_run(&b, "checkpoints/step-700"), "x", 1));
    assert_ok(b.ctx, model_run_newest(b.ctx, b.run, &step));
    assert_int_equal(step, 100);

    assert_ok(b.ctx, checkpoint_prune(b.ctx, b.run, 0)); // all checkpoints stay, leftovers go
    assert_true(file_is_folder(in_run(&b, "checkpoints/step-9")));
    assert_false(file_exists(in_run(&b, "checkpoints/step-500.tmp")));
    assert_false(file_exists(in_run(&b, "checkpoints/step-500.tmp.123.tmp")));
    assert_true(file_exists(in_run(&b, "checkpoints/step-600-old"))); // not ours

    assert_ok(b.ctx, checkpoint_prune(b.ctx, b.run, 2));
    assert_true(file_is_folder(in_run(&b, "checkpoints/step-100")));
    assert_true(file_is_folder(in_run(&b, "checkpoints/step-20")));
    assert_false(file_exists(in_run(&b, "checkpoints/step-10")));
    assert_false(file_exists(in_run(&b, "checkpoints/step-9")));
    assert_ok(b.ctx, checkpoint_prune(b.ctx, b.run, 5));
    assert_true(file_is_folder(in_run(&b, "checkpoints/step-20")));
    bench_close(&b);
}

// A disk that fills up, with the first file, in the midst of one, or with the last: an error, the old checkpoint
// untouched, no leftovers.
static void test_full_disk(void **state) {
    Bench b = bench_open(*state, true);
    enum { LARGE = 4 << 20 };
    char *text = test_calloc(LARGE + 1, 1); // makes run.json, which is written last, the largest file
    memset(text, 'x', LARGE);
    cJSON_AddStringToObject(b.record, "padding", text);
    test_free(text);
    struct rlimit limit, old;
    int64_t step;
    write_step(&b, 7);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    signal(SIGXFSZ, SIG_IGN);
    static const rlim_t sizes[] = {0, 100, 4000, 20000, LARGE / 2};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        limit = old;
        limit.rlim_cur = sizes[i];
        b.optimizer.step = 8;
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
        KinditStatus status = checkpoint_write(b.ctx, b.run, b.model, &b.optimizer, b.record);
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
        assert_int_equal(status, KINDIT_ERROR_IO);
        assert_non_null(strstr(kindit_context_message(b.ctx), "step-8"));
        assert_false(file_exists(in_run(&b, "checkpoints/step-8")));
        assert_false(file_exists(in_run(&b, "checkpoints/step-8.tmp")));
    }
    assert_ok(b.ctx, model_run_newest(b.ctx, b.run, &step));
    assert_int_equal(step, 7);
    assert_ok(b.ctx, checkpoint_read(b.ctx, b.run, 7, b.model, &b.optimizer));
    bench_close(&b);
}

// A checkpoint that is there is not written again.
static void test_written_once(void **state) {
    Bench b = bench_open(*state, true);
    struct stat before, after;
    write_step(&b, 7);
    assert_int_equal(stat(in_run(&b, "checkpoints/step-7/m.safetensors"), &before), 0);
    write_step(&b, 7);
    assert_int_equal(stat(in_run(&b, "checkpoints/step-7/m.safetensors"), &after), 0);
    assert_int_equal(before.st_ino, after.st_ino);
    bench_close(&b);
}

static void write_state_file(Bench *b, int64_t step, const int64_t *tailor_steps, int64_t n) {
    const int64_t last[4] = {6, 7, 3, 0};
    const Tensor tensors[] = {
        {.name = "step", .dtype = DTYPE_I64, .n_dims = 1, .shape = {1}, .data = &step},
        {.name = "tailor_steps", .dtype = DTYPE_I64, .n_dims = 1, .shape = {n}, .data = tailor_steps},
        {.name = "tailor_last", .dtype = DTYPE_I64, .n_dims = 1, .shape = {4}, .data = last}};
    assert_ok(b->ctx,
              safetensors_write(b->ctx, in_run(b, "checkpoints/step-7/state.safetensors"), tensors, 3, NULL, 0));
}

static void test_damaged(void **state) {
    Bench b = bench_open(*state, true);
    KinditContext *ctx = b.ctx;
    const int64_t good[4] = {5, 7, 2, 0}, beyond[4] = {5, 8, 2, 0}, negative[4] = {-1, 7, 2, 0};
    write_step(&b, 7);
#define REFUSED(status, text) assert_fails(ctx, checkpoint_read(ctx, b.run, 7, b.model, &b.optimizer), status, text)
    write_state_file(&b, 8, good, 4);
    REFUSED(KINDIT_ERROR_FORMAT, "expected step 7, found 8");
    write_state_file(&b, 7, beyond, 4);
    REFUSED(KINDIT_ERROR_FORMAT, "tailor_steps[1]");
    write_state_file(&b, 7, negative, 4);
    REFUSED(KINDIT_ERROR_FORMAT, "tailor_steps[0]");
    write_state_file(&b, 7, good, 3);
    REFUSED(KINDIT_ERROR_FORMAT, "tailor_steps");
    write_state_file(&b, 7, good, 4);
    assert_ok(ctx, checkpoint_read(ctx, b.run, 7, b.model, &b.optimizer));
    assert_int_equal(truncate(in_run(&b, "checkpoints/step-7/v.safetensors"), 5000), 0);
    REFUSED(KINDIT_ERROR_FORMAT, "v.safetensors");
    assert_int_equal(unlink(in_run(&b, "checkpoints/step-7/m.safetensors")), 0);
    REFUSED(KINDIT_ERROR_IO, "m.safetensors");
#undef REFUSED
    bench_close(&b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        scratch_test(test_round_trip),     scratch_test(test_frozen_once), scratch_test(test_is_a_model),
        scratch_test(test_find_and_prune), scratch_test(test_full_disk),   scratch_test(test_written_once),
        scratch_test(test_damaged),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
