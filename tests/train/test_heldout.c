// The loss on held-out images is the trainer's own, of samples that are the same for every model and every batch.
#include <math.h>

#include "data/loader.h"
#include "data/tiny_dataset.h"
#include "diffusion/sampler.h"
#include "train/heldout.h"
#include "train/train_step.h"

enum { CLASSES = 3, PER_CLASS = 4, SIDE = 4, SAMPLES = 7 };

typedef struct Fixture {
    Engine *engine;
    Dataset *dataset;
    Model *model;
} Fixture;

static Fixture open_fixture(Scratch *scratch, bool factored, int n_classes) {
    Fixture fixture;
    DitConfig config = dit_config_default();
    config.image_size = SIDE;
    config.channels = 1;
    config.patch = 2;
    config.width = 16;
    config.depth = 1;
    config.heads = 2;
    config.factored = factored;
    config.n_learngene = factored ? 6 : 0;
    config.n_tailor = factored ? 2 : 0;
    config.n_classes = n_classes;
    ModelClass classes[CLASSES + 1];
    for (int c = 0; c < n_classes; c++) {
        snprintf(classes[c].id, sizeof classes[c].id, "c%d", c);
        snprintf(classes[c].name, sizeof classes[c].name, "c%d", c);
    }
    const char *path = scratch_path(scratch, "data");
    tiny_dataset_write(scratch->ctx, path, CLASSES, PER_CLASS, SIDE, 1);
    assert_ok(scratch->ctx, dataset_open(&fixture.dataset, scratch->ctx, path));
    assert_ok(scratch->ctx, engine_create(&fixture.engine, scratch->ctx));
    assert_ok(scratch->ctx, model_create(&fixture.model, scratch->ctx, fixture.engine, &config, classes, 3));
    // The last layer starts at zero: give everything some value, so that the output depends on all of it.
    float *host;
    const size_t n = fixture.model->dit->layout.n_shared;
    assert_ok(scratch->ctx, memory_alloc(scratch->ctx, n, sizeof *host, &host));
    rng_fill_normal((RngKey){.seed = 2, .purpose = RNG_TEST}, host, n);
    for (size_t i = 0; i < n; i++) host[i] *= 0.1f;
    engine_upload(fixture.engine, fixture.model->params.shared, host, n);
    memory_free(&host);
    return fixture;
}

static void close_fixture(Fixture *fixture) {
    model_close(&fixture->model);
    engine_close(&fixture->engine);
    dataset_close(&fixture->dataset);
}

// The same samples by the step that trains, one at a time.
static double expected_loss(Scratch *scratch, const Fixture *fixture) {
    Schedule schedule;
    TrainStep step;
    Loader loader;
    float *x0, *noise;
    double sum = 0;
    assert_ok(scratch->ctx, sampler_schedule(&schedule, fixture->model));
    assert_ok(scratch->ctx, train_step_create(&step, fixture->model, &schedule, 1, 1, (DitMode){0}));
    assert_ok(scratch->ctx, loader_create(&loader, scratch->ctx, fixture->dataset, fixture->dataset->heldout, 0, 1));
    assert_ok(scratch->ctx, engine_alloc(fixture->engine, SIDE * SIDE, &x0));
    assert_ok(scratch->ctx, engine_alloc(fixture->engine, SIDE * SIDE, &noise));
    for (int k = 0; k < SAMPLES; k++) {
        int label, t = (2 * k + 1) * 1000 / (2 * SAMPLES);
        const RngKey key = {.sample = (uint64_t)k, .purpose = RNG_HELDOUT};
        loader_read(&loader, fixture->engine, k, 1, x0, &label);
        engine_fill_normal(fixture->engine, 1, SIDE * SIDE, &key, noise);
        train_step_begin(&step);
        train_step_accumulate(&step, x0, noise, &t, &label, 1, 1);
        sum += (double)step.mse[0] + (double)step.vlb[0];
    }
    engine_free(fixture->engine, &noise);
    engine_free(fixture->engine, &x0);
    loader_close(&loader);
    train_step_close(&step);
    schedule_close(&schedule);
    return sum / SAMPLES;
}

static void test_is_the_trainers(void **state) {
    for (int factored = 0; factored < 2; factored++) {
        Scratch *scratch = *state;
        assert_ok(scratch->ctx, file_remove_tree(scratch->ctx, scratch_path(scratch, "data")));
        Fixture fixture = open_fixture(scratch, factored, CLASSES);
        HeldoutLoss whole, parts;
        assert_ok(scratch->ctx, heldout_measure(&whole, fixture.model, fixture.dataset, SAMPLES, 64));
        assert_ok(scratch->ctx, heldout_measure(&parts, fixture.model, fixture.dataset, SAMPLES, 2));
        const double expected = expected_loss(scratch, &fixture);
        assert_true(whole.mse > 0.1 && whole.vlb > 0);
        assert_float_equal((whole.mse + whole.vlb) / expected, 1, 1e-5); // products round by the size of the batch
        assert_float_equal((parts.mse + parts.vlb) / expected, 1, 1e-5);
        close_fixture(&fixture);
    }
}

static void test_refuses(void **state) {
    Scratch *scratch = *state;
    Fixture fixture = open_fixture(scratch, true, CLASSES + 1);
    HeldoutLoss loss;
    assert_fails(scratch->ctx, heldout_measure(&loss, fixture.model, fixture.dataset, SAMPLES, 2),
                 KINDIT_ERROR_ARGUMENT, "expected 4 classes");
    close_fixture(&fixture);
    assert_ok(scratch->ctx, file_remove_tree(scratch->ctx, scratch_path(scratch, "data")));
    fixture = open_fixture(scratch, true, CLASSES);
    fixture.dataset->heldout.count = 0;
    assert_fails(scratch->ctx, heldout_measure(&loss, fixture.model, fixture.dataset, SAMPLES, 2),
                 KINDIT_ERROR_ARGUMENT, "--heldout");
    close_fixture(&fixture);
}

int main(void) {
    const struct CMUnitTest tests[] = {scratch_test(test_is_the_trainers), scratch_test(test_refuses)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
