// Putting together under a budget: what fits is chosen in the order asked for, and the written file is as long as
// planned.
#include "kind/decompose.h"
#include "model/models.h"

typedef struct Fixture {
    Scratch *scratch;
    KinditContext *ctx;
    Engine *engine;
    Model *model;
    char parts[1024], whole[1024], out[1024];
} Fixture;

static Fixture fixture_open(void **state) {
    Fixture f = {.scratch = *state};
    f.ctx = f.scratch->ctx;
    assert_ok(f.ctx, engine_create(&f.engine, f.ctx));
    DitConfig config = models_config(true);
    f.model = models_create(f.ctx, f.engine, &config);
    strcpy(f.parts, scratch_path(f.scratch, "parts"));
    strcpy(f.whole, scratch_path(f.scratch, "whole"));
    strcpy(f.out, scratch_path(f.scratch, "out.safetensors"));
    assert_ok(f.ctx, decompose_write(f.model, f.ctx, f.parts, STORAGE_F32, false));
    assert_ok(f.ctx, model_write(f.model, f.whole, STORAGE_F32, false));
    return f;
}

static void fixture_close(Fixture *f) {
    model_close(&f->model);
    engine_close(&f->engine);
}

static int64_t tensor_bytes(Fixture *f, const char *path) {
    Safetensors file;
    assert_ok(f->ctx, safetensors_open(&file, f->ctx, path));
    int64_t n = 0;
    for (int i = 0; i < file.n_tensors; i++) n += (int64_t)file.tensors[i].n_bytes;
    safetensors_close(&file);
    return n;
}

static void check_source(Fixture *f, const char *source, StorageType type) {
    AssemblePlan plan;
    Model *read;
    assert_ok(f->ctx, assemble_plan(&plan, f->ctx, source, "d,a", &(AssembleBudget){0}, type));
    assert_int_equal(plan.n_classes, 2);
    assert_int_equal(plan.classes[0], 3);
    assert_int_equal(plan.classes[1], 0);
    assert_int_equal(plan.n_left_out, 0);
    assert_int_equal(plan.bytes, plan.learngene_bytes + 2 * plan.tailor_bytes);
    assert_ok(f->ctx, assemble_write(f->ctx, f->engine, source, &plan, f->out, type, true));
    assert_int_equal(tensor_bytes(f, f->out), plan.bytes);
    assert_ok(f->ctx, model_open(&read, f->ctx, f->engine, f->out, NULL));
    models_assert_equal(read, f->model, (int[]){3, 0}, 2, type);
    model_close(&read);
    assemble_plan_close(&plan);
}

static void test_sources(void **state) {
    Fixture f = fixture_open(state);
    for (int type = 0; type < STORAGE_TYPES; type++) check_source(&f, f.parts, (StorageType)type);
    check_source(&f, f.whole, STORAGE_F32);
    fixture_close(&f);
}

// All classes back together give the file of the model that was taken apart.
static void test_all_is_the_model(void **state) {
    Fixture f = fixture_open(state);
    AssemblePlan plan;
    assert_ok(f.ctx, assemble_plan(&plan, f.ctx, f.parts, NULL, &(AssembleBudget){0}, STORAGE_F32));
    assert_int_equal(plan.n_classes, 4);
    assert_ok(f.ctx, assemble_write(f.ctx, f.engine, f.parts, &plan, f.out, STORAGE_F32, false));
    assert_true(models_same_file(f.ctx, f.out, scratch_path(f.scratch, "whole/model.safetensors")));
    assert_fails(f.ctx, assemble_write(f.ctx, f.engine, f.parts, &plan, f.out, STORAGE_F32, false),
                 KINDIT_ERROR_ARGUMENT, "exists");
    // In place of its own source.
    assert_ok(f.ctx, assemble_write(f.ctx, f.engine, f.parts, &plan, f.parts, STORAGE_F32, true));
    assert_true(models_same_file(f.ctx, f.out, scratch_path(f.scratch, "parts/model.safetensors")));
    assert_false(file_exists(scratch_path(f.scratch, "parts/learngene.safetensors")));
    assemble_plan_close(&plan);
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

static void test_budgets(void **state) {
    Fixture f = fixture_open(state);
    AssemblePlan plan;
    int64_t learngene, tailor;
    expected_sizes(&learngene, &tailor);
    for (int n = 0; n <= 4; n++)
        for (int spare = 0; spare < 2; spare++) { // exactly n tailors, and one byte or parameter short of n + 1
            int64_t fits = learngene + n * tailor;
            AssembleBudget budgets[] = {{.bytes = 4 * fits + spare * (4 * tailor - 1)},
                                        {.parameters = fits + spare * (tailor - 1)},
                                        {.bytes = 1 << 30, .parameters = fits},
                                        {.bytes = 4 * fits, .parameters = 1 << 30}};
            for (int b = 0; b < 4; b++) {
                assert_ok(f.ctx, assemble_plan(&plan, f.ctx, f.parts, "c-1.x,b,a,d", &budgets[b], STORAGE_F32));
                assert_int_equal(plan.n_classes, n);
                assert_int_equal(plan.n_left_out, 4 - n);
                assert_int_equal(plan.parameters, fits);
                assert_memory_equal(plan.classes, ((int[]){2, 1, 0, 3}), (size_t)n * sizeof(int));
                assert_int_equal(strstr(plan.text, "left out") != NULL, n < 4);
                assemble_plan_close(&plan);
            }
        }
    // Half the bytes a number: about twice as many tailors.
    assert_ok(f.ctx, assemble_plan(&plan, f.ctx, f.parts, NULL,
                                   &(AssembleBudget){.bytes = 2 * (learngene + 3 * tailor)}, STORAGE_BF16));
    assert_int_equal(plan.n_classes, 3);
    assemble_plan_close(&plan);
    char needed[32];
    snprintf(needed, sizeof needed, "%lld bytes", (long long)(4 * learngene));
    assert_fails(f.ctx,
                 assemble_plan(&plan, f.ctx, f.parts, NULL, &(AssembleBudget){.bytes = 4 * learngene - 1}, STORAGE_F32),
                 KINDIT_ERROR_ARGUMENT, needed);
    fixture_close(&f);
}

static void test_refusals(void **state) {
    Fixture f = fixture_open(state);
    AssemblePlan plan;
    const AssembleBudget free_of_limits = {0};
    assert_fails(f.ctx, assemble_plan(&plan, f.ctx, f.parts, "a,q", &free_of_limits, STORAGE_F32),
                 KINDIT_ERROR_ARGUMENT, "there are: a, b, c-1.x, d");
    assert_ok(f.ctx, assemble_plan(&plan, f.ctx, f.parts, "a,b", &free_of_limits, STORAGE_F32));
    models_edit(f.ctx, scratch_path(f.scratch, "parts/tailors/b.safetensors"), "Letter B", "Letter X");
    assert_fails(f.ctx, assemble_write(f.ctx, f.engine, f.parts, &plan, f.out, STORAGE_F32, false), KINDIT_ERROR_FORMAT,
                 "sha256");
    assert_false(file_exists(f.out));
    assemble_plan_close(&plan);

    Model *dense;
    DitConfig config = models_config(false);
    assert_ok(f.ctx, model_create(&dense, f.ctx, f.engine, &config, test_classes, 1));
    assert_ok(f.ctx, model_write(dense, scratch_path(f.scratch, "dense"), STORAGE_F32, false));
    model_close(&dense);
    assert_fails(f.ctx, assemble_plan(&plan, f.ctx, f.scratch->path, NULL, &free_of_limits, STORAGE_F32),
                 KINDIT_ERROR_ARGUMENT, "dense");
    fixture_close(&f);
}

static void test_sizes(void **state) {
    static const struct {
        const char *text;
        int64_t bytes;
    } good[] = {{"123456", 123456},  {"4MB", 4000000}, {"4mb", 4000000},   {"3.5MiB", 3670016}, {"500k", 500000},
                {"1KiB", 1024},      {"1K", 1000},     {"2G", 2000000000}, {"2Gi", 2147483648}, {"7B", 7},
                {"4.35MB", 4350000}, {"0.29k", 290},   {"1.9999", 1},      {"0.001k", 1}};
    static const char *const bad[] = {"",    "MB",  "-4MB", "+4",   "4 MB", "4TB", "4MBs",        "4Bi", "0",
                                      ".5M", "0.5", "1e6",  "0x10", "inf",  "nan", "9999999999G", "4iB", "1.2.3M"};
    Scratch *scratch = *state;
    int64_t bytes;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        assert_ok(scratch->ctx, assemble_parse_size(scratch->ctx, good[i].text, &bytes));
        assert_int_equal(bytes, good[i].bytes);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (assemble_parse_size(scratch->ctx, bad[i], &bytes) != KINDIT_ERROR_ARGUMENT) fail_msg("accepts %s", bad[i]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        scratch_test(test_sources), scratch_test(test_all_is_the_model),
        scratch_test(test_budgets), scratch_test(test_refusals),
        scratch_test(test_sizes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
