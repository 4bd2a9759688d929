// Training a classifier: a step's loss and gradients against PyTorch, whole or in micro-batches; and a run's promises,
// those of any run: the same bits whatever the threads and however often resumed, memory as predicted, and it learns.
#include "data/tiny_dataset.h"
#include "golden/golden.h"
#include "train/train_step.h"
#include "train/trainer.h"

enum { CLASSES = 3, PER_CLASS = 8, SIDE = 8 };

// ---- a step --------------------------------------------------------------------------------------------------------

static void check_step(int micro) {
    Golden g;
    TrainStep step;
    golden_open(&g, "classifier", NULL, 2);
    golden_require(&g, engine_create(&g.engine, g.ctx));
    golden_require(&g, model_open_classifier(&g.model, g.ctx, g.engine, TEST_SOURCE_DIR "/golden/model/classifier"));
    const Tensor *image = golden_find(&g, "x");
    const int n = (int)image->shape[0], *y = golden_ints(&g, "y");
    const size_t size = image->n_elements / (size_t)n;
    const float *loss = golden_floats(&g, "loss");
    float *x = golden_upload(&g, golden_floats(&g, "x"), image->n_elements);
    golden_require(&g, train_step_create(&step, g.model, NULL, micro, (n + micro - 1) / micro, (DitMode){0}));
    for (int repeat = 0; repeat < 2; repeat++) { // the second time shows what the first left behind
        train_step_begin(&step);
        for (int first = 0; first < n; first += micro) {
            const int count = n - first < micro ? n - first : micro;
            train_step_classify(&step, x + (size_t)first * size, y + first, count, (float)count / (float)n);
            golden_assert_close("classifier", "loss", (size_t)count, step.cross_entropy, loss + first, 2e-6);
        }
    }
    golden_assert_gradients(&g, "classifier", step.dshared, NULL);
    train_step_close(&step);
    engine_free(g.engine, &x);
    golden_close(&g);
}

static void test_step(void **state) {
    (void)state;
    check_step(4);
    check_step(3);
}

// ---- runs ----------------------------------------------------------------------------------------------------------

static DitConfig run_config(void) {
    DitConfig config = dit_config_default();
    config.patch = 2;
    config.width = 16;
    config.depth = 2;
    config.heads = 2;
    config.factored = config.learn_sigma = false;
    config.classifier = true;
    return config;
}

static TrainSettings run_settings(int64_t steps) {
    TrainSettings settings = train_settings_default();
    settings.batch = 6;
    settings.steps = steps;
    settings.lr = 2e-3;
    settings.ema_decay = 0.9;
    settings.label_dropout = 0;
    settings.shift = 1;
    settings.log_every = 1;
    settings.checkpoint_every = settings.sample_every = 0;
    settings.keep_checkpoints = 0;
    return settings;
}

// Trains in scratch/name on scratch/data, in a context of its own.
static KinditStatus run_train(Scratch *scratch, const char *name, const TrainSettings *settings, int threads,
                              bool resume, TrainResult *result) {
    KinditContext *ctx;
    Engine *engine;
    KinditContextSettings of_context = kindit_context_settings_default();
    const DitConfig config = run_config();
    char data[1024], folder[1024];
    of_context.threads = threads;
    snprintf(data, sizeof data, "%s", scratch_path(scratch, "data"));
    snprintf(folder, sizeof folder, "%s", scratch_path(scratch, name));
    if (!file_exists(data)) tiny_dataset_write(scratch->ctx, data, CLASSES, PER_CLASS, SIDE, 1);
    assert_int_equal(kindit_context_create(&ctx, &of_context), KINDIT_OK);
    assert_ok(ctx, engine_create(&engine, ctx));
    const TrainJob job = train_job_pretrain(&config);
    KinditStatus status = train_run(ctx, engine, folder, data, &job, settings, resume, result);
    if (status) context_fail(scratch->ctx, status, "%s", kindit_context_message(ctx));
    engine_close(&engine);
    kindit_context_close(&ctx);
    return status;
}

static void assert_same_file(Scratch *scratch, const char *a, const char *b, const char *file) {
    FileMap x, y;
    char path[256];
    snprintf(path, sizeof path, "%s/%s", a, file);
    assert_ok(scratch->ctx, file_map(&x, scratch->ctx, scratch_path(scratch, path)));
    snprintf(path, sizeof path, "%s/%s", b, file);
    assert_ok(scratch->ctx, file_map(&y, scratch->ctx, scratch_path(scratch, path)));
    assert_int_equal(x.size, y.size);
    assert_memory_equal(x.data, y.data, x.size);
    file_unmap(&x);
    file_unmap(&y);
}

static void test_resumed_is_the_same(void **state) {
    Scratch *scratch = *state;
    TrainSettings settings = run_settings(6);
    TrainResult result;
    assert_ok(scratch->ctx, run_train(scratch, "whole", &settings, 1, false, &result));
    settings.steps = 2;
    assert_ok(scratch->ctx, run_train(scratch, "parts", &settings, 2, false, &result));
    settings.steps = 6;
    settings.recompute = true;
    assert_ok(scratch->ctx, run_train(scratch, "parts", &settings, 3, true, &result));
    assert_true(result.finished);
    static const char *const files[] = {"weights", "m", "v", "ema", "state"};
    for (int i = 0; i < 5; i++) {
        char file[64];
        snprintf(file, sizeof file, "checkpoints/step-6/%s.safetensors", files[i]);
        assert_same_file(scratch, "whole", "parts", file);
    }
    settings.shift = 0;
    settings.steps = 8;
    assert_fails(scratch->ctx, run_train(scratch, "parts", &settings, 1, true, &result), KINDIT_ERROR_ARGUMENT,
                 "another shift");
}

static void test_memory_is_predicted(void **state) {
    Scratch *scratch = *state;
    const TrainSettings settings = run_settings(2);
    TrainResult result;
    TrainMemory memory;
    DitConfig config = run_config();
    config.image_size = SIDE;
    config.channels = 1;
    config.n_classes = CLASSES;
    assert_ok(scratch->ctx, run_train(scratch, "run", &settings, 2, false, &result));
    assert_ok(scratch->ctx, train_predict_memory(&memory, scratch->ctx, &config, &settings, 2));
    assert_int_equal(result.peak_bytes, memory.total);
}

// The classes of the tiny data set differ in how bright they are. The first loss is log 3, the head being zero; the
// last ten steps name most, where chance names a third.
static void test_learns(void **state) {
    Scratch *scratch = *state;
    TrainSettings settings = run_settings(60);
    TrainResult result;
    settings.decay = 1000; // more than there are steps: over all of them
    assert_ok(scratch->ctx, run_train(scratch, "run", &settings, 2, false, &result));
    char line[256];
    double loss, entropy, accuracy, lr, last_loss = 0, last_accuracy = 0;
    FILE *file = fopen(scratch_path(scratch, "run/metrics.csv"), "r");
    assert_non_null(file);
    assert_non_null(fgets(line, sizeof line, file));
    assert_string_equal(line, "step,seconds,loss,cross_entropy,accuracy,grad_norm,lr,images_per_second,gflops\n");
    for (int step = 1; step <= 60; step++) {
        assert_non_null(fgets(line, sizeof line, file));
        assert_int_equal(sscanf(line, "%*d,%*f,%lf,%lf,%lf,%*f,%lf", &loss, &entropy, &accuracy, &lr), 4);
        assert_true(fabs(lr - settings.lr * (61 - step) / 61) < 1e-6 * settings.lr);
        assert_true(loss == entropy && accuracy >= 0 && accuracy <= 1);
        if (step == 1) assert_true(fabs(loss - log(3)) < 1e-5);
        if (step > 50) last_loss += loss / 10, last_accuracy += accuracy / 10;
    }
    fclose(file);
    if (!(last_loss < 0.9 && last_accuracy > 0.7)) fail_msg("loss %g, accuracy %g", last_loss, last_accuracy);
}

static void test_refused(void **state) {
    Scratch *scratch = *state;
    TrainResult result;
    for (int i = 0; i < 2; i++) {
        TrainSettings settings = run_settings(2);
        if (i == 0) settings.label_dropout = 0.1;
        if (i == 1) settings.sample_every = 1;
        assert_fails(scratch->ctx, run_train(scratch, "run", &settings, 1, false, &result), KINDIT_ERROR_ARGUMENT,
                     "a classifier is trained on images");
        assert_false(file_exists(scratch_path(scratch, "run")));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_step),
        scratch_test(test_resumed_is_the_same),
        scratch_test(test_memory_is_predicted),
        scratch_test(test_learns),
        scratch_test(test_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
