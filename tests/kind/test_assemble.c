// Putting together: what fits is chosen in the order asked for, the strongest components stay, and the written file is
// as long as planned.
#include <math.h>

#include "kind/assemble.h"
#include "kind/fixture.h"

static int64_t tensor_bytes(Fixture *f, const char *path) {
    Safetensors file;
    assert_ok(f->ctx, safetensors_open(&file, f->ctx, path));
    int64_t n = 0;
    for (int i = 0; i < file.n_tensors; i++) n += (int64_t)file.tensors[i].n_bytes;
    safetensors_close(&file);
    return n;
}

// Nothing here draws: any figure that the structure determines will do for memory.
static size_t made_memory(const void *user, const Dit *dit) {
    (void)user;
    return 1000 + dit->layout.n_shared + (size_t)dit->config.n_classes * dit->layout.n_tailor;
}

static Assembly open_assembly(Fixture *f, const char *source, const char *classes) {
    Assembly assembly;
    assert_ok(f->ctx,
              assembly_open(&assembly, f->ctx, f->engine, source, classes, (AssemblyMemory){made_memory, NULL}));
    return assembly;
}

static void check_source(Fixture *f, const char *source, StorageType type) {
    Assembly assembly = open_assembly(f, source, "d,a");
    BudgetPlan plan;
    Model *read;
    assert_ok(f->ctx, assembly_plan(&assembly, &(BudgetCost){{0}}, &type, 1, &plan));
    assert_memory_equal(&plan.choice.cut, &((Cut){2, 5, 3}), sizeof(Cut));
    assert_int_equal(plan.choice.type, type);
    assert_ok(f->ctx, assembly_write(&assembly, &plan.choice, f->out, true));
    assert_int_equal(tensor_bytes(f, f->out), plan.cost.of[BUDGET_BYTES]);
    assert_ok(f->ctx, model_open(&read, f->ctx, f->engine, f->out, NULL));
    models_assert_equal(read, f->model, (int[]){3, 0}, 2, type);
    model_close(&read);
    assembly_close(&assembly);
}

static void test_sources(void **state) {
    Fixture f = fixture_open_both(state, "whole");
    for (int type = 0; type < STORAGE_TYPES; type++) check_source(&f, f.parts, (StorageType)type);
    check_source(&f, f.whole, STORAGE_F32);
    fixture_close(&f);
}

// All classes back together give the file of the model that was taken apart.
static void test_all_is_the_model(void **state) {
    Fixture f = fixture_open_both(state, "whole");
    Assembly assembly = open_assembly(&f, f.parts, NULL);
    const BudgetChoice all = assembly_everything(&assembly);
    assert_ok(f.ctx, assembly_write(&assembly, &all, f.out, false));
    assert_true(models_same_file(f.ctx, f.out, scratch_path(f.scratch, "whole/model.safetensors")));
    assert_fails(f.ctx, assembly_write(&assembly, &all, f.out, false), KINDIT_ERROR_ARGUMENT, "exists");
    // In place of its own source.
    assert_ok(f.ctx, assembly_write(&assembly, &all, f.parts, true));
    assert_true(models_same_file(f.ctx, f.out, scratch_path(f.scratch, "parts/model.safetensors")));
    assert_false(file_exists(scratch_path(f.scratch, "parts/learngene.safetensors")));
    assembly_close(&assembly);
    fixture_close(&f);
}

// The parameters of the learngene file and of a tailor, counted by hand for the model of models.h.
static void expected_sizes(int64_t *learngene, int64_t *tailor) {
    int64_t D = 12, H = 4 * D, n_g = 5, n_t = 3, depth = 2, patch_in = 3 * 2 * 2, patch_out = 2 * 2 * 6;
    int64_t component = 4 * (D + 1 + D) + 2 * (D + 1 + H);
    int64_t dense = D * patch_in + D + D * 256 + D + D * D + D + D + 2 * D * D + 2 * D + patch_out * D + patch_out;
    *learngene = dense + depth * (6 * D * D + 6 * D + 4 * D + H + D + n_g * component);
    *tailor = depth * n_t * component + D;
}

// Where to lose any component is to lose too much, a budget chooses among classes alone.
static void test_budgets(void **state) {
    Fixture f = fixture_open_both(state, "whole");
    Assembly assembly = open_assembly(&f, f.parts, "c-1.x,b,a,d");
    const StorageType f32 = STORAGE_F32, both[] = {STORAGE_F32, STORAGE_BF16};
    int64_t learngene, tailor;
    BudgetPlan plan;
    char needed[64];
    for (int k = 0; k < 5; k++) assembly.losses.learngene[k] = 1;
    for (int k = 0; k < 4 * 4; k++) assembly.losses.tailor[k] = k % 4 < 3;
    expected_sizes(&learngene, &tailor);
    for (int n = 1; n <= 4; n++)
        for (int spare = 0; spare < 2; spare++) { // exactly n tailors, and one byte or parameter short of n + 1
            double fits = (double)(learngene + n * tailor), more = spare * (double)(tailor - 1);
            const BudgetCost budgets[] = {
                {{4 * fits + spare * (4 * (double)tailor - 1)}}, {{0, fits + more}}, {{1e9, fits}}, {{4 * fits, 1e9}}};
            for (int b = 0; b < 4; b++) {
                assert_ok(f.ctx, assembly_plan(&assembly, &budgets[b], &f32, 1, &plan));
                assert_memory_equal(&plan.choice.cut, &((Cut){n, 5, 3}), sizeof(Cut));
                assert_int_equal(plan.cost.of[BUDGET_PARAMETERS], fits);
                assert_int_equal(plan.cost.of[BUDGET_BYTES], 4 * fits);
            }
        }
    // Half the bytes a number: all of them, where float32 holds one.
    const BudgetCost one = {{4 * (double)(learngene + tailor)}};
    assert_ok(f.ctx, assembly_plan(&assembly, &one, both, 2, &plan));
    assert_int_equal(plan.choice.type, STORAGE_BF16);
    assert_int_equal(plan.choice.cut.n_classes, 4);
    snprintf(needed, sizeof needed, "takes %lld bytes", (long long)(4 * (learngene + tailor)));
    assert_fails(f.ctx, assembly_plan(&assembly, &(BudgetCost){{one.of[BUDGET_BYTES] - 1}}, &f32, 1, &plan),
                 KINDIT_ERROR_ARGUMENT, needed);
    assembly_close(&assembly);
    fixture_close(&f);
}

// ---- cutting -------------------------------------------------------------------------------------------------------

static float *host_of(Fixture *f, const float *vector, size_t n) {
    float *host = test_calloc(n, sizeof *host);
    engine_download(f->engine, host, vector, n);
    return host;
}

// The squared energies of the components of one matrix, straight from its rows.
static double energy_of(const Linear *linear, const float *shared, int k) {
    const ParamSpec *specs = linear->layout->specs, *u = &specs[linear->param[FACTORED_U]],
                    *s = &specs[linear->param[FACTORED_S]], *v = &specs[linear->param[FACTORED_V]];
    double uu = 0, vv = 0, sigma = shared[s->shared_offset + (size_t)k];
    for (size_t i = 0; i < u->row; i++) uu += pow(shared[u->shared_offset + (size_t)k * u->row + i], 2);
    for (size_t i = 0; i < v->row; i++) vv += pow(shared[v->shared_offset + (size_t)k * v->row + i], 2);
    return sigma * sigma * uu * vv;
}

// Of every factored matrix the weakest component of the learngene goes, and the others stay as they are.
static void test_weakest_goes(void **state) {
    Fixture f = fixture_open_both(state, "whole");
    Assembly assembly = open_assembly(&f, f.parts, NULL);
    const Dit *full = f.model->dit;
    Model *cut;
    assert_ok(f.ctx, cut_create(&cut, assembly.parts, &assembly.energy, &(Cut){2, 4, 1}));
    float *before = host_of(&f, f.model->params.shared, full->layout.n_shared),
          *after = host_of(&f, cut->params.shared, cut->dit->layout.n_shared);
    double loss = 0;
    int n_matrices = 0;
    for (int i = 0; i < full->n_linears; i++) {
        const Linear *linear = full->linears[i], *own = cut->dit->linears[i];
        if (linear->kind != &linear_factored) continue;
        int weakest = 0, at = 0;
        double sum = 0;
        for (int k = 0; k < 5; k++) {
            sum += energy_of(linear, before, k);
            if (energy_of(linear, before, k) < energy_of(linear, before, weakest)) weakest = k;
        }
        for (int which = FACTORED_U; which <= FACTORED_V; which++, at = 0) {
            const ParamSpec *from = &full->layout.specs[linear->param[which]],
                            *to = &cut->dit->layout.specs[own->param[which]];
            assert_int_equal(to->shape[0], 4);
            for (int k = 0; k < 5; k++)
                if (k != weakest)
                    assert_memory_equal(after + to->shared_offset + (size_t)at++ * to->row,
                                        before + from->shared_offset + (size_t)k * from->row, to->row * sizeof(float));
        }
        loss += energy_of(linear, before, weakest) / sum;
        n_matrices++;
    }
    assert_true(fabs(assembly.losses.learngene[4] - loss / n_matrices) <= 1e-12);
    assert_true(fabs(assembly.losses.learngene[0] - 1) <= 1e-12);
    assert_true(assembly.losses.tailor[3] == 0);
    test_free(before);
    test_free(after);
    model_close(&cut);
    assembly_close(&assembly);
    fixture_close(&f);
}

// What is cut away might as well have been zero: a model whose weakest tailor components have s = 0 merges to the same
// matrices as the same model without them.
static void test_cut_is_zero(void **state) {
    Fixture f = fixture_open_both(state, "whole");
    Energy energy;
    Model *cut;
    assert_ok(f.ctx, energy_measure(&energy, f.model));
    assert_ok(f.ctx, cut_create(&cut, f.model, &energy, &(Cut){4, 5, 2}));
    const Dit *dit = f.model->dit;
    float *shared = host_of(&f, f.model->params.shared, dit->layout.n_shared),
          *tailor = host_of(&f, f.model->params.tailor[1], dit->layout.n_tailor),
          *cut_shared = host_of(&f, cut->params.shared, cut->dit->layout.n_shared),
          *cut_tailor = host_of(&f, cut->params.tailor[1], cut->dit->layout.n_tailor);
    const double *squares = energy.tailor + (size_t)energy.n_matrices * 3; // of class 1
    for (int i = 0; i < dit->n_linears; i++) {
        const Linear *linear = dit->linears[i];
        if (linear->kind != &linear_factored) continue;
        int weakest = 0;
        for (int k = 1; k < 3; k++)
            if (squares[k] < squares[weakest]) weakest = k;
        squares += 3;
        tailor[dit->layout.specs[linear->param[FACTORED_S]].tailor_offset + (size_t)weakest] = 0;
        const size_t n = (size_t)linear->m1 * (size_t)linear->m2;
        double *zeroed = test_calloc(2 * n, sizeof *zeroed);
        assert_ok(f.ctx, linear->kind->merge(linear, f.ctx, shared, tailor, zeroed));
        assert_ok(f.ctx, linear->kind->merge(cut->dit->linears[i], f.ctx, cut_shared, cut_tailor, zeroed + n));
        assert_memory_equal(zeroed, zeroed + n, n * sizeof *zeroed);
        test_free(zeroed);
    }
    test_free(shared);
    test_free(tailor);
    test_free(cut_shared);
    test_free(cut_tailor);
    energy_close(&energy);
    model_close(&cut);
    fixture_close(&f);
}

// What rounding loses lies between nothing and all, and more with fewer bits.
static void test_rounding(void **state) {
    Fixture f = fixture_open_both(state, "whole");
    double loss[STORAGE_TYPES];
    for (int type = 0; type < STORAGE_TYPES; type++)
        assert_ok(f.ctx, energy_measure_rounding(&loss[type], f.model, (StorageType)type));
    assert_true(loss[STORAGE_F32] == 0);
    // A bf16 of 8 bits is wrong by 2^-9 of itself at most; 127 steps by half a step of a third of the row's largest.
    assert_true(loss[STORAGE_BF16] > 0 && loss[STORAGE_BF16] < 2 * 0x1p-18);
    assert_true(loss[STORAGE_INT8] > loss[STORAGE_BF16] && loss[STORAGE_INT8] < 1e-3);
    assert_true(loss[STORAGE_INT4] > 50 * loss[STORAGE_INT8] && loss[STORAGE_INT4] < 0.05);
    fixture_close(&f);
}

static void test_refusals(void **state) {
    Fixture f = fixture_open_both(state, "whole");
    Assembly assembly;
    const AssemblyMemory memory = {made_memory, NULL};
    assert_fails(f.ctx, assembly_open(&assembly, f.ctx, f.engine, f.parts, "a,q", memory), KINDIT_ERROR_ARGUMENT,
                 "there are: a, b, c-1.x, d");
    models_edit(f.ctx, scratch_path(f.scratch, "parts/tailors/b.safetensors"), "Letter B", "Letter X");
    assert_fails(f.ctx, assembly_open(&assembly, f.ctx, f.engine, f.parts, "a,b", memory), KINDIT_ERROR_FORMAT,
                 "sha256");
    Model *dense;
    DitConfig config = models_config(false);
    assert_ok(f.ctx, model_create(&dense, f.ctx, f.engine, &config, test_classes, 1));
    assert_ok(f.ctx, model_write(dense, scratch_path(f.scratch, "dense"), STORAGE_F32, false));
    model_close(&dense);
    assert_fails(f.ctx, assembly_open(&assembly, f.ctx, f.engine, f.scratch->path, NULL, memory), KINDIT_ERROR_ARGUMENT,
                 "dense");
    fixture_close(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        scratch_test(test_sources),      scratch_test(test_all_is_the_model), scratch_test(test_budgets),
        scratch_test(test_weakest_goes), scratch_test(test_cut_is_zero),      scratch_test(test_rounding),
        scratch_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
