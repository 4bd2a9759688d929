// Which blocks are kept: similarity against numpy's (golden/adapt), the choice against every other one, the error of
// leaving a block out against a model that has no such block.
#include "adapt/adapting.h"
#include "adapt/choose_blocks.h"
#include "adapt/similarity.h"
#include "golden/golden.h"
#include "train/train_batch.h"
#include "train/train_step.h"

// ---- similarity ----------------------------------------------------------------------------------------------------

typedef struct Features {
    Npy npy;
    float *buffer; // engine memory
    int rows, width;
} Features;

static Features features_open(Scratch *scratch, Engine *engine, const char *name) {
    Features f = {0};
    assert_ok(scratch->ctx, npz_read(&f.npy, scratch->ctx, scratch_golden(scratch, "adapt/similarity.npz"), name));
    const Tensor *array = &f.npy.array;
    assert_int_equal(array->dtype, DTYPE_F32);
    f.rows = (int)array->shape[0];
    f.width = array->n_dims > 1 ? (int)array->shape[1] : 1;
    assert_ok(scratch->ctx, engine_alloc(engine, array->n_elements, &f.buffer));
    engine_upload(engine, f.buffer, array->data, array->n_elements);
    return f;
}

static void features_close(Engine *engine, Features *f) {
    engine_free(engine, &f->buffer);
    npy_close(&f->npy);
}

// 2e-6: centred in double, multiplied in single precision.
static void test_similarity(void **state) {
    static const char *const cases[][3] = {{"x", "y", "cka"}, {"x2", "y2", "cka2"}};
    Scratch *scratch = *state;
    Engine *engine;
    assert_ok(scratch->ctx, engine_create(&engine, scratch->ctx));
    for (size_t i = 0; i < 2; i++) {
        Features x = features_open(scratch, engine, cases[i][0]), y = features_open(scratch, engine, cases[i][1]),
                 expected = features_open(scratch, engine, cases[i][2]);
        double found[3];
        assert_ok(scratch->ctx, similarity_cka(&found[0], scratch->ctx, engine, x.rows, x.width, x.buffer, y.buffer));
        assert_ok(scratch->ctx, similarity_cka(&found[1], scratch->ctx, engine, x.rows, x.width, x.buffer, x.buffer));
        float cka;
        memcpy(&cka, expected.npy.array.data, sizeof cka); // at any alignment
        engine_zero(engine, y.buffer, (size_t)y.rows * (size_t)y.width);
        assert_ok(scratch->ctx, similarity_cka(&found[2], scratch->ctx, engine, x.rows, x.width, x.buffer, y.buffer));
        if (!(fabs(found[0] - (double)cka) < 2e-6))
            fail_msg("case %zu: similarity %.9g, expected %.9g", i, found[0], cka);
        if (!(fabs(found[1] - 1) < 2e-6)) fail_msg("case %zu: similarity to itself %.9g", i, found[1]);
        assert_true(found[2] == 0);
        features_close(engine, &x);
        features_close(engine, &y);
        features_close(engine, &expected);
    }
    engine_close(&engine);
}

// ---- the choice ----------------------------------------------------------------------------------------------------

// The least sum of the errors of n blocks of which n_keep stay, over all ways to choose them.
static double least_loss(const double *error, int n, int n_keep) {
    double least = INFINITY;
    for (unsigned kept = 0; kept < 1u << n; kept++) {
        double sum = 0;
        int count = 0;
        for (int i = 0; i < n; i++) {
            if (kept >> i & 1)
                count++;
            else
                sum += error[i];
        }
        if (count == n_keep && sum < least) least = sum;
    }
    return least;
}

static double loss_of(const BlockMap *map, const double *error, int n) {
    double sum = 0;
    for (int i = 0; i < n; i++) {
        bool kept = false;
        for (int j = 0; j < map->n; j++) kept = kept || map->from[j] == i;
        if (!kept) sum += error[i];
    }
    return sum;
}

// No other blocks of the same number, and so of the same size, lose less; those that stay keep their order, and their
// places where others are fresh.
static void test_keeps_the_best(void **state) {
    enum { N = 9 };
    (void)state;
    for (uint32_t draw = 0; draw < 20; draw++) {
        double error[N];
        for (uint32_t i = 0; i < N; i++) // some alike
            error[i] = rng_below((RngKey){.seed = 7, .step = draw, .purpose = RNG_TEST}, i, 12);
        for (int n_keep = 1; n_keep <= N; n_keep++) {
            BlockMap alone, in_place;
            block_map_keep(&alone, error, N, n_keep, true);
            block_map_keep(&in_place, error, N, n_keep, false);
            assert_int_equal(alone.n, n_keep);
            assert_int_equal(in_place.n, N);
            assert_true(loss_of(&alone, error, N) == least_loss(error, N, n_keep));
            for (int i = 1; i < n_keep; i++) assert_true(alone.from[i] > alone.from[i - 1]);
            for (int i = 0, k = 0; i < N; i++) {
                const bool kept = k < n_keep && alone.from[k] == i;
                assert_int_equal(in_place.from[i], kept ? i : BLOCK_FRESH);
                k += kept;
            }
        }
    }
}

static void test_places(void **state) {
    const BlockMap map = {.n = 2, .from = {3, 12}};
    char name[PARAM_NAME_SIZE];
    (void)state;
    assert_true(block_map_place(&map, "blocks.12.mlp.fc1.bias", name));
    assert_string_equal(name, "blocks.1.mlp.fc1.bias");
    assert_true(block_map_place(&map, "blocks.3.attn.qkv.weight", name));
    assert_string_equal(name, "blocks.0.attn.qkv.weight");
    assert_false(block_map_place(&map, "blocks.1.attn.qkv.weight", name));
    assert_true(block_map_place(&map, "x_embedder.proj.bias", name));
    assert_string_equal(name, "x_embedder.proj.bias");
}

// ---- scores of a model's blocks ------------------------------------------------------------------------------------

enum { DEPTH = 3, N = 6 };

typedef struct Scores {
    Bench bench;
    Dataset *dataset;
    TrainSettings train;
    BlockChoice choice;
} Scores;

static Scores scores_open(Scratch *scratch) {
    Scores s = {.bench = bench_open(scratch, false, DEPTH), .train = train_settings_default()};
    s.train.batch = N;
    s.train.seed = 3;
    assert_ok(s.bench.ctx, dataset_open(&s.dataset, s.bench.ctx, s.bench.data));
    s.choice = (BlockChoice){.base = s.bench.model, .dataset = s.dataset};
    return s;
}

static void scores_close(Scores *s) {
    dataset_close(&s->dataset);
    bench_close(&s->bench);
}

// A model like the base whose blocks are those of the map, of classes of its own number.
static Model *model_of(Scores *s, const BlockMap *map) {
    const Model *base = s->bench.model;
    DitConfig config = base->dit->config;
    Model *model;
    config.depth = map->n;
    assert_ok(s->bench.ctx, model_create(&model, s->bench.ctx, s->bench.engine, &config, base->classes, 8));
    for (int i = 0; i < base->dit->layout.n_specs; i++) {
        const ParamSpec *from = &base->dit->layout.specs[i];
        char name[PARAM_NAME_SIZE];
        if (!block_map_place(map, from->name, name)) continue;
        engine_copy(model->engine, model->params.shared + params_find(&model->dit->layout, name)->shared_offset,
                    base->params.shared + from->shared_offset, params_spec_size(from, 0));
    }
    return model;
}

// Epsilon of the run's first batch, computed here from the trainer's pieces; the base knows none of the classes.
static void predict(Scores *s, Model *model, float *out) {
    const DitConfig *config = &model->dit->config;
    const size_t plane = SIDE * SIDE, planes = (size_t)dit_config_out_channels(config);
    Schedule schedule;
    TrainBatch batch;
    TrainStep step;
    DitBatch unused;
    int labels[N];
    float whole[N * 6 * SIDE * SIDE];
    for (int i = 0; i < N; i++) labels[i] = config->n_classes;
    assert_int_equal(planes, 6);
    assert_ok(s->bench.ctx, schedule_create(&schedule, s->bench.ctx, 1000, 1e-4, 0.02));
    assert_ok(s->bench.ctx, train_batch_create(&batch, s->bench.ctx, s->bench.engine, s->dataset, &s->train, true));
    assert_ok(s->bench.ctx, train_step_create(&step, model, &schedule, N, 1, (DitMode){0}));
    train_batch_read(&batch, 0);
    train_step_begin(&step);
    train_step_forward(&step, batch.x0, batch.noise, batch.t, labels, N, &unused);
    engine_download(s->bench.engine, whole, step.output, N * planes * plane);
    for (size_t i = 0; i < N; i++) memcpy(out + i * 3 * plane, whole + i * 6 * plane, 3 * plane * sizeof *out);
    train_step_close(&step);
    train_batch_close(&batch);
    schedule_close(&schedule);
}

static void test_error(void **state) {
    enum { SIZE = N * 3 * SIDE * SIDE };
    Scores s = scores_open(*state);
    double score[DEPTH];
    static float whole[SIZE], without[SIZE];
    s.choice.train = &s.train;
    predict(&s, s.bench.model, whole);
    assert_ok(s.bench.ctx, choose_by_error(score, s.bench.ctx, &s.choice));
    for (int left = 0; left < DEPTH; left++) {
        BlockMap map = {0};
        double sum = 0;
        for (int i = 0; i < DEPTH; i++)
            if (i != left) map.from[map.n++] = i;
        Model *model = model_of(&s, &map);
        predict(&s, model, without);
        for (int i = 0; i < SIZE; i++) sum += ((double)whole[i] - without[i]) * ((double)whole[i] - without[i]);
        if (!(fabs(score[left] - sum / SIZE) <= 1e-6 * sum / SIZE) || !(sum > 0))
            fail_msg("block %d: error %.9g, expected %.9g", left, score[left], sum / SIZE);
        model_close(&model);
    }
    predict(&s, s.bench.model, without); // the base is as it was
    assert_memory_equal(whole, without, sizeof whole);
    scores_close(&s);
}

// Of a model that has the base's first two blocks, with the same conditioning, the third alone is another.
static void test_similar(void **state) {
    static const BlockMap map = {.n = DEPTH, .from = {0, 1, BLOCK_FRESH}};
    Scores s = scores_open(*state);
    double score[DEPTH];
    s.choice.train = &s.train;
    Model *other = model_of(&s, &map);
    const ParamSpec *adaln = params_find(&other->dit->layout, "blocks.2.adaLN_modulation.1.bias");
    float gates[6 * 12];
    for (int i = 0; i < 6 * 12; i++) gates[i] = 1; // a fresh block would add nothing
    engine_upload(other->engine, other->params.shared + adaln->shared_offset, gates, 6 * 12);
    assert_ok(s.bench.ctx, choose_by_similarity(score, s.bench.ctx, &s.choice, other));
    for (int i = 0; i < 2; i++)
        if (!(fabs(score[i] - 1) < 2e-6)) fail_msg("block %d: similarity %.9g", i, score[i]);
    if (!(score[2] > 0 && score[2] < 0.99)) fail_msg("the other block: similarity %.9g", score[2]);
    model_close(&other);
    scores_close(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        scratch_test(test_similarity), scratch_test(test_keeps_the_best), scratch_test(test_places),
        scratch_test(test_error),      scratch_test(test_similar),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
