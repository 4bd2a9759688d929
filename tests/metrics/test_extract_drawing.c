// Images drawn and measured without being written: the same whatever the batch, and after an interruption; each class
// has its share.
#include "cancelling.h"
#include "metrics/extract.h"
#include "model/models.h"

enum { SIDE = 4, CHANNELS = 3, SIZE = SIDE * SIDE * CHANNELS, CLASSES = 4, N = 75 };

static const int widths[FEATURE_KINDS] = {SIZE, 0, 0};

// The features are the pixels.
static KinditStatus run_copy(VisionNetwork *network, const float *images, int n, const VisionOutput *out) {
    (void)network;
    memcpy(out->features, images, (size_t)n * SIZE * sizeof *images);
    return KINDIT_OK;
}

static const VisionKind copy = {.name = "copy", .run = run_copy};

typedef struct Fixture {
    KinditContext *ctx;
    Engine *engine;
    Model *model;
    VisionNetwork network;
    Extractor extractor;
    ExtractDrawing drawing;
} Fixture;

static void fixture_open(Fixture *f, Scratch *scratch) {
    static const int classes[CLASSES] = {0, 1, 2, 3};
    const DitConfig config = models_config(true);
    f->ctx = scratch->ctx;
    assert_ok(f->ctx, engine_create(&f->engine, f->ctx));
    f->model = models_create(f->ctx, f->engine, &config);
    f->network = (VisionNetwork){
        .ctx = f->ctx,
        .engine = f->engine,
        .kind = &copy,
        .info = {
            .name = "copy", .channels = CHANNELS, .input_size = SIDE, .n_features = SIZE, .profile = PROFILE_NATIVE}};
    assert_ok(f->ctx, extractor_open(&f->extractor, f->ctx, f->engine, &f->network, PROFILE_NATIVE, widths));
    f->drawing = (ExtractDrawing){f->model, sampler_settings_default(), classes, CLASSES, N};
    f->drawing.sampler.method = SAMPLER_DDIM;
    f->drawing.sampler.steps = 2;
}

static void fixture_close(Fixture *f) {
    extractor_close(&f->extractor);
    model_close(&f->model);
    engine_close(&f->engine);
}

static FeatureSet *draw(Fixture *f, int batch) {
    FeatureSet *set;
    f->drawing.sampler.batch = batch;
    assert_ok(f->ctx, feature_set_open(&set, f->ctx, widths, NULL, ""));
    assert_ok(f->ctx, extract_drawing(set, &f->extractor, &f->drawing, "test"));
    return set;
}

static void check_equal(const FeatureSet *a, const FeatureSet *b) {
    FeatureRows rows[2];
    assert_int_equal(feature_set_count(a), N);
    assert_int_equal(feature_set_count(b), N);
    assert_int_equal(feature_set_rows(&rows[0], a, FEATURE_POOLED, NULL, N), KINDIT_OK);
    assert_int_equal(feature_set_rows(&rows[1], b, FEATURE_POOLED, NULL, N), KINDIT_OK);
    for (int i = 0; i < N; i++) {
        assert_memory_equal(rows[0].row[i], rows[1].row[i], SIZE * sizeof(float));
        assert_int_equal(feature_set_label(a, i), feature_set_label(b, i));
    }
    feature_rows_close(&rows[0]);
    feature_rows_close(&rows[1]);
}

static void test_batches_do_not_matter(void **state) {
    Fixture f;
    fixture_open(&f, *state);
    FeatureSet *whole = draw(&f, 128), *parts = draw(&f, 7);
    check_equal(whole, parts);
    feature_set_close(&whole);
    feature_set_close(&parts);
    fixture_close(&f);
}

// 75 images of 4 classes: 19, 19, 19 and 18, in turns of 8.
static void test_classes_take_turns(void **state) {
    Fixture f;
    int counts[CLASSES] = {0};
    fixture_open(&f, *state);
    FeatureSet *set = draw(&f, 64);
    for (int i = 0; i < N; i++) {
        const int label = feature_set_label(set, i);
        assert_in_range(label, 0, CLASSES - 1);
        counts[label]++;
        if (i < 64) assert_int_equal(label, i / 8 % CLASSES);
    }
    for (int c = 0; c < CLASSES; c++) assert_int_equal(counts[c], c < 3 ? 19 : 18);
    feature_set_close(&set);
    fixture_close(&f);
}

// What is shown is what was measured, and what the sampler draws with these labels.
static void test_shows_what_is_measured(void **state) {
    enum { SHOWN = 20 };
    Fixture f;
    FeatureRows rows;
    int labels[SHOWN];
    uint8_t pixels[SHOWN * SIZE], expected[SHOWN * SIZE];
    float values[SHOWN * SIZE], prepared[SIZE];
    fixture_open(&f, *state);
    FeatureSet *set = draw(&f, 64);
    f.drawing.sampler.batch = 6;
    assert_ok(f.ctx, extract_draw(&f.drawing, f.ctx, SHOWN, labels, pixels));
    assert_ok(f.ctx, sampler_run(f.model, &f.drawing.sampler, 0, SHOWN, labels, values));
    sampler_to_pixels(values, SHOWN, CHANNELS, SIDE, expected);
    assert_memory_equal(pixels, expected, sizeof pixels);
    assert_ok(f.ctx, feature_set_rows(&rows, set, FEATURE_POOLED, NULL, SHOWN));
    for (int i = 0; i < SHOWN; i++) {
        assert_int_equal(labels[i], feature_set_label(set, i));
        assert_ok(f.ctx, profile_apply(PROFILE_NATIVE, f.ctx, pixels + i * SIZE, SIDE, SIDE, CHANNELS, SIDE, CHANNELS,
                                       prepared));
        assert_memory_equal(prepared, rows.row[i], sizeof prepared);
    }
    feature_rows_close(&rows);
    feature_set_close(&set);
    fixture_close(&f);
}

static void test_goes_on_where_it_was(void **state) {
    Scratch *scratch = *state;
    char folder[1024];
    Fixture f;
    fixture_open(&f, scratch);
    FeatureSet *whole = draw(&f, 16), *parts;
    KinditStatus status = KINDIT_CANCELLED;
    int rounds = 0;
    snprintf(folder, sizeof folder, "%s", scratch_path(scratch, "parts"));
    f.ctx->settings.cancelled = cancel_later;
    while (status == KINDIT_CANCELLED) {
        polls_left = 4; // a batch polls at each of its two steps and after it
        assert_ok(f.ctx, feature_set_open(&parts, f.ctx, widths, folder, ""));
        status = extract_drawing(parts, &f.extractor, &f.drawing, "test");
        if (status) feature_set_close(&parts);
        assert_true(++rounds < 20);
    }
    assert_int_equal(status, KINDIT_OK);
    assert_true(rounds > 2);
    check_equal(whole, parts);
    feature_set_close(&parts);
    feature_set_close(&whole);
    fixture_close(&f);
}

// A learngene alone: no classes, no labels.
static void test_without_classes(void **state) {
    Fixture f;
    fixture_open(&f, *state);
    f.drawing.n_classes = 0;
    f.drawing.sampler.no_tailors = true;
    FeatureSet *set = draw(&f, 64);
    for (int i = 0; i < N; i++) assert_int_equal(feature_set_label(set, i), -1);
    feature_set_close(&set);
    fixture_close(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        scratch_test(test_batches_do_not_matter),  scratch_test(test_classes_take_turns),
        scratch_test(test_shows_what_is_measured), scratch_test(test_goes_on_where_it_was),
        scratch_test(test_without_classes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
