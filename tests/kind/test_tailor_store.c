// Handles on shared weights: the same numbers as a model opened whole, tailors in memory only while they must be, and
// several threads at once. tests/e2e/test_swap.sh draws with them.
#include <pthread.h>

#include "kind/fixture.h"
#include "model/model_tailors.h"
#include "model/tailor_hold.h"

enum { N = 4 };
static const int all[N] = {0, 1, 2, 3};

// The vectors of a tailor, padding apart, are the same.
static bool same_tailor(const ParamLayout *layout, const float *a, const float *b) {
    for (int i = 0; i < layout->n_specs; i++) {
        const ParamSpec *spec = &layout->specs[i];
        size_t n = (size_t)spec->tailor_rows * spec->row;
        if (n && memcmp(a + spec->tailor_offset, b + spec->tailor_offset, n * sizeof *a) != 0) return false;
    }
    return true;
}

static const char *tailor_of(Fixture *f, const char *id) {
    char name[1024];
    snprintf(name, sizeof name, "parts/tailors/%s.safetensors", id);
    return scratch_path(f->scratch, name);
}

// All of `model`'s classes, held at once, have the numbers of the fixture's `classes`.
static void assert_weights(Fixture *f, const Model *model, const int *classes, int n) {
    TailorHold hold;
    assert_ok(model->ctx, tailor_hold_create(&hold, model, n));
    assert_ok(model->ctx, tailor_hold_take(&hold, all, n));
    Model view = *model;
    view.params = hold.params;
    models_assert_equal(&view, f->model, classes, n, STORAGE_F32);
    tailor_hold_close(&hold);
}

static void test_same_weights(void **state) {
    Fixture f = fixture_open_both(state, "whole.safetensors");
    Model *model;
    const char *const paths[2] = {f.parts, f.whole};
    for (int limited = 0; limited < 2; limited++)
        for (int i = 0; i < 2; i++) {
            f.ctx->settings.memory = limited ? INT64_MAX : 0; // how much is the sampler's business
            assert_ok(f.ctx, model_open_shared(&model, f.ctx, f.engine, paths[i], NULL));
            assert_weights(&f, model, all, N);
            assert_int_equal(tailor_store_loaded(model->store), limited ? 0 : N);
            model_close(&model);
            assert_ok(f.ctx, model_open_shared(&model, f.ctx, f.engine, paths[i], "d,Letter B"));
            assert_weights(&f, model, (int[]){3, 1}, 2);
            model_close(&model);
        }
    fixture_close(&f);
}

static void test_dense(void **state) {
    Fixture f = fixture_open_both(state, "whole.safetensors");
    Model *model;
    DitConfig config = models_config(false);
    model_close(&f.model);
    f.model = models_create(f.ctx, f.engine, &config);
    assert_ok(f.ctx, model_write(f.model, f.whole, STORAGE_F32, true));
    assert_ok(f.ctx, model_open_shared(&model, f.ctx, f.engine, f.whole, "c-1.x,a"));
    assert_weights(&f, model, (int[]){2, 0}, 2);
    assert_fails(f.ctx, model_add_tailor(model, tailor_of(&f, "a")), KINDIT_ERROR_ARGUMENT, "dense");
    assert_fails(f.ctx, model_drop_tailor(model, "a"), KINDIT_ERROR_ARGUMENT, "dense");
    model_close(&model);
    fixture_close(&f);
}

// Under a limit no more tailors are in memory than were reserved, the one not held for the longest time leaves first.
static void test_limit(void **state) {
    Fixture f = fixture_open_both(state, "whole.safetensors");
    Model *model;
    TailorHold hold;
    f.ctx->settings.memory = INT64_MAX;
    assert_ok(f.ctx, model_open_shared(&model, f.ctx, f.engine, f.parts, NULL));
    assert_ok(f.ctx, tailor_hold_create(&hold, model, 2));
    assert_ok(f.ctx, tailor_hold_take(&hold, (int[]){0, 0, N, 1}, 4)); // N: the null label
    const float *first = hold.params.tailor[1];
    assert_int_equal(tailor_store_loaded(model->store), 2);
    assert_null(hold.params.tailor[2]);
    assert_ok(f.ctx, tailor_hold_take(&hold, (int[]){1, 2}, 2)); // 0 leaves, 1 stays where it is
    assert_ptr_equal(hold.params.tailor[1], first);
    assert_int_equal(tailor_store_loaded(model->store), 2);
    for (int c = 0; c < 3 * N; c++) {
        int label = c % N;
        assert_ok(f.ctx, tailor_hold_take(&hold, &label, 1));
        assert_true(same_tailor(&model->dit->layout, hold.params.tailor[label], f.model->params.tailor[label]));
        assert_in_range(tailor_store_loaded(model->store), 1, 2);
    }
    tailor_hold_close(&hold);
    assert_int_equal(tailor_store_loaded(model->store), 0);
    model_close(&model);
    fixture_close(&f);
}

static void test_add_and_drop(void **state) {
    Fixture f = fixture_open_both(state, "whole.safetensors");
    Model *one, *other;
    assert_ok(f.ctx, model_open_shared(&one, f.ctx, f.engine, f.parts, "b"));
    assert_ok(f.ctx, model_share(&other, f.ctx, f.engine, one));
    assert_ptr_equal(one->params.shared, other->params.shared);
    assert_ok(f.ctx, model_add_tailor(one, tailor_of(&f, "d")));
    assert_ok(f.ctx, model_add_tailor(one, tailor_of(&f, "a")));
    assert_weights(&f, one, (int[]){1, 3, 0}, 3);
    assert_weights(&f, other, (int[]){1}, 1);
    assert_ok(f.ctx, model_drop_tailor(one, "Letter B"));
    assert_weights(&f, one, (int[]){3, 0}, 2);
    assert_ok(f.ctx, model_add_tailor(other, tailor_of(&f, "d")));
    assert_int_equal(tailor_store_loaded(one->store), 3); // d is in memory once
    model_close(&one);
    assert_int_equal(tailor_store_loaded(other->store), 2); // a went with its only owner
    assert_weights(&f, other, (int[]){1, 3}, 2);
    assert_fails(f.ctx, model_drop_tailor(other, "a"), KINDIT_ERROR_ARGUMENT, "no class \"a\" to drop");
    model_close(&other);
    fixture_close(&f);
}

static void test_refusals(void **state) {
    Fixture f = fixture_open_both(state, "whole.safetensors");
    Model *model, *foreign;
    DitConfig config = models_config(true);
    assert_ok(f.ctx, model_create(&foreign, f.ctx, f.engine, &config, test_classes, 99));
    assert_ok(f.ctx, decompose_write(foreign, f.ctx, scratch_path(f.scratch, "foreign"), STORAGE_F32, false));
    model_close(&foreign);
    f.ctx->settings.memory = INT64_MAX;
    assert_ok(f.ctx, model_open_shared(&model, f.ctx, f.engine, f.parts, "a,b"));
    assert_fails(f.ctx, model_add_tailor(model, tailor_of(&f, "a")), KINDIT_ERROR_ARGUMENT,
                 "class \"a\" is open already, from ");
    assert_fails(f.ctx, model_add_tailor(model, scratch_path(f.scratch, "foreign/tailors/d.safetensors")),
                 KINDIT_ERROR_FORMAT, "belongs to the learngene with sha256");
    assert_fails(f.ctx, model_add_tailor(model, scratch_path(f.scratch, "none.safetensors")), KINDIT_ERROR_IO, "none");
    assert_weights(&f, model, all, 2); // as before

    // A file that changes while its tailor is not in memory is not the tailor that was added.
    FileMap map;
    assert_ok(f.ctx, file_map(&map, f.ctx, tailor_of(&f, "a")));
    uint8_t *bytes = malloc(map.size);
    memcpy(bytes, map.data, map.size);
    bytes[map.size - 1] ^= 1;
    size_t size = map.size;
    file_unmap(&map);
    assert_ok(f.ctx, file_write(f.ctx, tailor_of(&f, "a"), bytes, size));
    free(bytes);
    TailorHold hold;
    assert_ok(f.ctx, tailor_hold_create(&hold, model, 2));
    assert_fails(f.ctx, tailor_hold_take(&hold, (int[]){1, 0}, 2), KINDIT_ERROR_FORMAT, "changed: sha256 is");
    assert_int_equal(hold.n_held, 0);
    assert_ok(f.ctx, tailor_hold_take(&hold, (int[]){1}, 1));
    tailor_hold_close(&hold);
    model_close(&model);
    assert_fails(f.ctx, model_open_shared(&model, f.ctx, f.engine, f.parts, NULL), KINDIT_ERROR_FORMAT, "damaged");

    assert_ok(f.ctx, model_open_shared(&model, f.ctx, f.engine, f.whole, "a"));
    assert_fails(f.ctx, model_add_tailor(model, tailor_of(&f, "b")), KINDIT_ERROR_ARGUMENT,
                 "open a decomposed folder or its learngene");
    model_close(&model);
    fixture_close(&f);
}

// A thread with a handle of its own: adds, holds, compares, drops.
typedef struct Worker {
    pthread_t thread;
    KinditContext *ctx;
    Engine *engine;
    Model *model;
    const Model *expected;
    char path[N][1024];
    int first, wrong;
} Worker;

static void *work(void *data) {
    Worker *w = data;
    for (int round = 0; round < 50 && !w->wrong; round++) {
        int c = (w->first + round) % N, last = 0;
        TailorHold hold;
        w->wrong = model_add_tailor(w->model, w->path[c]) || tailor_hold_create(&hold, w->model, 1);
        if (w->wrong) break;
        w->wrong = tailor_hold_take(&hold, &last, 1) != KINDIT_OK ||
                   !same_tailor(&w->expected->dit->layout, hold.params.tailor[0], w->expected->params.tailor[c]);
        tailor_hold_close(&hold);
        w->wrong = w->wrong || model_drop_tailor(w->model, test_classes[c].id);
    }
    return NULL;
}

static void test_threads(void **state) {
    enum { THREADS = 4 };
    Fixture f = fixture_open_both(state, "whole.safetensors");
    Worker workers[THREADS] = {0};
    Model *model;
    f.ctx->settings.memory = INT64_MAX;
    assert_ok(f.ctx, model_open_shared(&model, f.ctx, f.engine, f.parts, ""));
    TailorStore *store = tailor_store_share(model->store);
    for (int i = 0; i < THREADS; i++) {
        Worker *w = &workers[i];
        KinditContextSettings settings = {.threads = 1};
        w->first = i;
        w->expected = f.model;
        for (int c = 0; c < N; c++) strcpy(w->path[c], tailor_of(&f, test_classes[c].id));
        assert_int_equal(kindit_context_create(&w->ctx, &settings), KINDIT_OK);
        assert_ok(w->ctx, engine_create(&w->engine, w->ctx));
        assert_ok(w->ctx, model_share(&w->model, w->ctx, w->engine, model));
    }
    model_close(&model);
    for (int i = 0; i < THREADS; i++) assert_int_equal(pthread_create(&workers[i].thread, NULL, work, &workers[i]), 0);
    for (int i = 0; i < THREADS; i++) pthread_join(workers[i].thread, NULL);
    assert_int_equal(tailor_store_loaded(store), 0);
    for (int i = 0; i < THREADS; i++) {
        if (workers[i].wrong) fail_msg("thread %d: %s", i, kindit_context_message(workers[i].ctx));
        model_close(&workers[i].model);
        engine_close(&workers[i].engine);
        kindit_context_close(&workers[i].ctx);
    }
    tailor_store_leave(&store);
    fixture_close(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        scratch_test(test_same_weights), scratch_test(test_dense),    scratch_test(test_limit),
        scratch_test(test_add_and_drop), scratch_test(test_refusals), scratch_test(test_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
