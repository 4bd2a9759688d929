// The class gate: each sample opens its own class's tailor and no other; what no sample asks for stays untouched.
#include "kind/gate.h"
#include "scratch.h"

enum { CAPACITY = 6, N_CLASSES = 5, N_TAILOR = 32, NULL_LABEL = N_CLASSES };

typedef struct Fixture {
    KinditContext *ctx;
    Engine *engine;
    float numbers[N_CLASSES][N_TAILOR];
    float *tailor[N_CLASSES];
    ParamSet params;
    ClassGate gate;
} Fixture;

static void fixture_open(Fixture *f, int max_slots, bool training) {
    assert_int_equal(kindit_context_create(&f->ctx, NULL), KINDIT_OK);
    assert_ok(f->ctx, engine_create(&f->engine, f->ctx));
    for (int c = 0; c < N_CLASSES; c++) f->tailor[c] = f->numbers[c];
    f->params = (ParamSet){.engine = f->engine, .n_classes = N_CLASSES, .tailor = f->tailor};
    assert_ok(f->ctx, gate_create(&f->gate, f->engine, f->ctx, CAPACITY, N_CLASSES, max_slots, N_TAILOR, training));
}

static void fixture_close(Fixture *f) {
    gate_close(&f->gate);
    assert_int_equal(engine_allocated(f->engine), 0);
    engine_close(&f->engine);
    kindit_context_close(&f->ctx);
}

static void test_each_sample_opens_its_tailor(void **state) {
    (void)state;
    Fixture f;
    fixture_open(&f, CAPACITY, false);
    const int labels[] = {3, NULL_LABEL, 0, 3, 4, NULL_LABEL};
    gate_open(&f.gate, &f.params, labels, 6);
    const Gate *gate = &f.gate.gate;
    assert_int_equal(gate->n_samples, 6);
    assert_int_equal(gate->n_slots, 3); // 1 and 2 are not in the gate at all
    for (int i = 0; i < 6; i++) {
        if (labels[i] == NULL_LABEL)
            assert_int_equal(gate->slot[i], -1);
        else
            assert_ptr_equal(gate->tailor[gate->slot[i]], f.tailor[labels[i]]);
    }
    assert_int_equal(gate->slot[0], gate->slot[3]);
    assert_null(gate->dtailor);
    fixture_close(&f);
}

static void test_slots_stay_until_reset(void **state) {
    (void)state;
    Fixture f;
    fixture_open(&f, CAPACITY, true);
    const Gate *gate = &f.gate.gate;
    float ones[N_TAILOR], found[N_TAILOR], zeros[N_TAILOR] = {0};
    for (int i = 0; i < N_TAILOR; i++) ones[i] = 1;

    gate_open(&f.gate, &f.params, (int[]){2, 1}, 2);
    int slot = gate->slot[0];
    engine_upload(f.engine, gate->dtailor[slot], ones, N_TAILOR); // a first micro-batch's gradient
    gate_open(&f.gate, &f.params, (int[]){4, 2, 4}, 3);
    assert_int_equal(gate->n_slots, 3);
    assert_int_equal(gate->slot[1], slot);
    engine_download(f.engine, found, gate->dtailor[slot], N_TAILOR);
    assert_memory_equal(found, ones, sizeof ones);

    gate_reset(&f.gate);
    assert_int_equal(gate->n_slots, 0);
    gate_open(&f.gate, &f.params, (int[]){4, 0}, 2); // in the slots of others before
    assert_int_equal(gate->n_slots, 2);
    for (int i = 0; i < 2; i++) {
        engine_download(f.engine, found, gate->dtailor[gate->slot[i]], N_TAILOR);
        assert_memory_equal(found, zeros, sizeof zeros);
    }
    assert_ptr_equal(gate->tailor[gate->slot[0]], f.tailor[4]);
    assert_ptr_equal(gate->tailor[gate->slot[1]], f.tailor[0]);
    assert_ptr_not_equal(gate->dtailor[0], gate->dtailor[1]);
    fixture_close(&f);
}

static void test_shut(void **state) {
    (void)state;
    Fixture f;
    fixture_open(&f, CAPACITY, true);
    gate_open(&f.gate, &f.params, (int[]){0, 1, 2}, 3);
    gate_shut(&f.gate, 4);
    assert_int_equal(f.gate.gate.n_samples, 4);
    for (int i = 0; i < 4; i++) assert_int_equal(f.gate.gate.slot[i], -1);
    fixture_close(&f);
}

// Gradient memory is for the classes that can be open, not for the classes there are.
static void test_gradient_memory(void **state) {
    (void)state;
    Fixture f, g;
    fixture_open(&f, 2, true);
    fixture_open(&g, 1000, true);
    size_t per_tailor = N_TAILOR * sizeof(float), slack = 64;
    assert_in_range(engine_allocated(f.engine), 2 * per_tailor, 2 * per_tailor + slack);
    assert_in_range(engine_allocated(g.engine), N_CLASSES * per_tailor, N_CLASSES * per_tailor + slack);
    fixture_close(&f);
    fixture_close(&g);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_sample_opens_its_tailor),
        cmocka_unit_test(test_slots_stay_until_reset),
        cmocka_unit_test(test_shut),
        cmocka_unit_test(test_gradient_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
