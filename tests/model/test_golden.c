// A DiT's output and the gradient of every parameter against an independent implementation in float64 (golden/model).
#include "golden/golden.h"

enum { MAX_BATCH = 8, MAX_CLASSES = 8 };

static const char *const cases[] = {"dense_p2", "dense_p4", "kind_p2", "kind_p4", "kind_fused"};
enum { N_CASES = sizeof cases / sizeof *cases };

// The class gate by hand: slots in order of first appearance.
typedef struct HandGate {
    Gate gate;
    int slot[MAX_BATCH];
    const float *tailor[MAX_CLASSES];
    float *dtailor[MAX_CLASSES];  // by slot
    float *by_class[MAX_CLASSES]; // the same, by class; NULL: absent
} HandGate;

static void hand_gate_open(HandGate *h, Golden *g, const int *labels, int n) {
    const int n_classes = g->model->dit->config.n_classes;
    int class_slot[MAX_CLASSES];
    *h = (HandGate){.gate = {.n_samples = n, .slot = h->slot, .tailor = h->tailor, .dtailor = h->dtailor}};
    for (int c = 0; c < n_classes; c++) class_slot[c] = -1;
    for (int i = 0; i < n; i++) {
        int c = labels[i];
        h->slot[i] = -1;
        if (c == n_classes || !g->model->dit->config.factored) continue;
        if (class_slot[c] < 0) {
            int slot = class_slot[c] = h->gate.n_slots++;
            h->tailor[slot] = g->model->params.tailor[c];
            h->dtailor[slot] = h->by_class[c] = golden_upload(g, NULL, g->model->dit->layout.n_tailor);
        }
        h->slot[i] = class_slot[c];
    }
}

static void hand_gate_close(HandGate *h, Golden *g) {
    for (int slot = 0; slot < h->gate.n_slots; slot++) engine_free(g->engine, &h->dtailor[slot]);
}

// One pass of the case's samples: x -> output, and back from doutput when that is not NULL.
static void check_pass(Golden *g, const char *folder, const char *input, const char *output, const int *labels,
                       const char *doutput) {
    const Dit *dit = g->model->dit;
    const Tensor *x = golden_find(g, input);
    const int n = (int)x->shape[0], *t = golden_ints(g, "t");
    size_t n_out = x->n_elements / (size_t)dit->config.channels * (size_t)dit_config_out_channels(&dit->config);
    float times[MAX_BATCH];
    for (int i = 0; i < n; i++) times[i] = (float)t[i];

    HandGate hand;
    hand_gate_open(&hand, g, labels, n);
    float *x_device = golden_upload(g, golden_floats(g, input), x->n_elements);
    float *t_device = golden_upload(g, times, (size_t)n), *out = golden_upload(g, NULL, n_out);
    float *dshared = golden_upload(g, NULL, dit->layout.n_shared);
    DitWorkspace *workspace = NULL;
    golden_require(g, dit_workspace_create(&workspace, dit, g->engine, n, (DitMode){.training = doutput != NULL}));
    DitBatch batch = {.n = n, .x = x_device, .t = t_device, .labels = labels, .gate = &hand.gate};

    dit_forward(dit, workspace, g->model->params.shared, &batch, out);
    // 2e-6: single precision leaves 3e-7 after these few layers; an error in a formula is never that small.
    if (output)
        golden_assert_close(folder, output, n_out, golden_download(g, out, n_out), golden_floats(g, output), 2e-6);
    if (doutput) {
        engine_upload(g->engine, out, golden_floats(g, doutput), n_out);
        dit_backward(dit, workspace, g->model->params.shared, &batch, out, dshared);
        golden_assert_gradients(g, folder, dshared, hand.by_class);
    }
    dit_workspace_close(&workspace);
    engine_free(g->engine, &dshared);
    engine_free(g->engine, &out);
    engine_free(g->engine, &t_device);
    engine_free(g->engine, &x_device);
    hand_gate_close(&hand, g);
}

static void test_forward(void **state) {
    (void)state;
    for (int i = 0; i < N_CASES; i++) {
        Golden g;
        golden_open(&g, cases[i], cases[i], 2);
        check_pass(&g, cases[i], "x", "out", golden_ints(&g, "y"), NULL);
        golden_close(&g);
    }
}

// No class at all: the learngene alone.
static void test_forward_null(void **state) {
    (void)state;
    for (int i = 0; i < N_CASES; i++) {
        Golden g;
        int labels[MAX_BATCH];
        golden_open(&g, cases[i], cases[i], 1);
        for (int b = 0; b < MAX_BATCH; b++) labels[b] = g.model->dit->config.n_classes;
        if (g.model->dit->config.factored) check_pass(&g, cases[i], "x", "out.null", labels, NULL);
        golden_close(&g);
    }
}

static void test_backward(void **state) {
    (void)state;
    for (int i = 0; i < N_CASES; i++) {
        Golden g;
        golden_open(&g, cases[i], cases[i], 2);
        check_pass(&g, cases[i], "xt", NULL, golden_ints(&g, "y"), "doutput");
        golden_close(&g);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_forward),
        cmocka_unit_test(test_forward_null),
        cmocka_unit_test(test_backward),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
