// The planner against all plans there are, on small made-up problems; and what people write for a budget.
#include <math.h>

#include "base/rng.h"
#include "kind/budget.h"
#include "scratch.h"

enum { CLASSES = 5, LEARNGENE = 7, TAILOR = 3, PROBLEMS = 2000 };

// Costs that grow with each number, but memory, which padding makes fall here and there.
typedef struct Made {
    double base[BUDGET_DIMENSIONS], each_learngene[BUDGET_DIMENSIONS], each_tailor[BUDGET_DIMENSIONS];
    double learngene[LEARNGENE + 1], tailor[CLASSES * (TAILOR + 1)];
    EnergyLoss losses;
    BudgetType types[STORAGE_TYPES];
    BudgetProblem problem;
    int n_measured;
} Made;

static KinditStatus made_measure(void *user, const BudgetChoice *choice, BudgetCost *cost) {
    Made *made = user;
    const Cut *cut = &choice->cut;
    made->n_measured++;
    for (int d = 0; d < BUDGET_DIMENSIONS; d++) {
        double components = cut->n_classes * (cut->n_tailor * made->each_tailor[d] + 1);
        cost->of[d] = made->base[d] + cut->n_learngene * made->each_learngene[d] + components;
        if (d == BUDGET_BYTES) cost->of[d] *= 4.0 / (1 + choice->type);
        if (d == BUDGET_MEMORY) cost->of[d] += 9 * (cut->n_learngene % 3);
    }
    return KINDIT_OK;
}

// Falling losses that end at 0; now and then a step of none.
static void make_losses(double *losses, int n, const float *random, double most) {
    losses[n] = 0;
    for (int k = n - 1; k >= 0; k--) losses[k] = losses[k + 1] + (random[k] < 0.2F ? 0 : most * random[k]);
}

static void make_problem(Made *made, uint64_t seed) {
    float random[64];
    rng_fill_uniform((RngKey){.seed = seed, .purpose = RNG_TEST}, random, 64);
    *made = (Made){.problem = {.most = {CLASSES, LEARNGENE, TAILOR}, .n_types = 1 + (int)(seed % STORAGE_TYPES)}};
    for (int d = 0; d < BUDGET_DIMENSIONS; d++) {
        made->base[d] = floor(50 * random[d]);
        made->each_learngene[d] = floor(10 * random[4 + d]);
        made->each_tailor[d] = floor(10 * random[8 + d]);
        const double all = made->base[d] + LEARNGENE * 5 + (double)CLASSES * TAILOR * 5;
        if (random[12 + d] < 0.5F) made->problem.limits.of[d] = floor(1 + 1.2 * all * random[16 + d]);
    }
    make_losses(made->learngene, LEARNGENE, random + 20, 0.06);
    for (int c = 0; c < CLASSES; c++)
        make_losses(made->tailor + (size_t)c * (TAILOR + 1), TAILOR, random + 30 + (size_t)c * TAILOR, 0.1);
    for (int i = 0; i < STORAGE_TYPES; i++)
        made->types[i] = (BudgetType){(StorageType)i, i ? made->types[i - 1].loss + 0.03 * random[50 + i] : 0};
    made->losses = (EnergyLoss){made->learngene, made->tailor};
    made->problem.losses = &made->losses;
    made->problem.types = made->types;
    made->problem.measure = made_measure;
    made->problem.user = made;
}

// The definition in budget.h, word for word.
static double define_score(const Made *made, const Cut *cut, int type) {
    double score = 0;
    for (int c = 0; c < cut->n_classes; c++) {
        double loss = made->learngene[cut->n_learngene] + made->types[type].loss +
                      made->tailor[(size_t)c * (TAILOR + 1) + (size_t)cut->n_tailor];
        score += fmax(0, 1 - loss / BUDGET_LOSS_LIMIT);
    }
    return score;
}

// The best of all that fit, and for each limit the least that a plan worth drawing takes.
static double try_all(Made *made, double least[BUDGET_DIMENSIONS]) {
    double best = 0;
    for (int d = 0; d < BUDGET_DIMENSIONS; d++) least[d] = INFINITY;
    for (int i = 0; i < made->problem.n_types; i++)
        for (int n = 1; n <= CLASSES; n++)
            for (int g = 1; g <= LEARNGENE; g++)
                for (int t = 0; t <= TAILOR; t++) {
                    BudgetChoice choice = {{n, g, t}, made->types[i].type};
                    BudgetCost cost;
                    bool fits = true;
                    double score = define_score(made, &choice.cut, i);
                    made_measure(made, &choice, &cost);
                    for (int d = 0; d < BUDGET_DIMENSIONS; d++) {
                        double limit = made->problem.limits.of[d];
                        fits = fits && (limit == 0 || cost.of[d] <= limit);
                        if (score > 0) least[d] = fmin(least[d], cost.of[d]);
                    }
                    if (fits) best = fmax(best, score);
                }
    return best;
}

static int count_limits(const BudgetCost *limits, int *which) {
    int n = 0;
    for (int d = 0; d < BUDGET_DIMENSIONS; d++)
        if (limits->of[d] > 0) {
            n++;
            *which = d;
        }
    return n;
}

static void test_best_of_all(void **state) {
    Scratch *scratch = *state;
    int n_met = 0, n_refused = 0, n_named = 0, limit = 0;
    for (uint64_t seed = 0; seed < PROBLEMS; seed++) {
        Made made;
        BudgetPlan plan;
        double least[BUDGET_DIMENSIONS];
        char text[64];
        make_problem(&made, seed);
        const double best = try_all(&made, least);
        if (best > 0) {
            assert_ok(scratch->ctx, budget_plan(&plan, scratch->ctx, &made.problem));
            assert_true(fabs(plan.score - best) <= 1e-12);
            assert_true(fabs(define_score(&made, &plan.choice.cut, (int)plan.choice.type) - best) <= 1e-12);
            for (int d = 0; d < BUDGET_DIMENSIONS; d++)
                if (made.problem.limits.of[d] > 0) assert_true(plan.cost.of[d] <= made.problem.limits.of[d]);
            n_met++;
            continue;
        }
        assert_int_equal(budget_plan(&plan, scratch->ctx, &made.problem), KINDIT_ERROR_ARGUMENT);
        n_refused++;
        if (count_limits(&made.problem.limits, &limit) != 1) continue;
        snprintf(text, sizeof text, "takes %.0f %s of %.0f", least[limit], budget_names[limit],
                 made.problem.limits.of[limit]);
        assert_non_null(strstr(kindit_context_message(scratch->ctx), text));
        n_named++;
    }
    assert_true(n_met > PROBLEMS / 10 && n_refused > PROBLEMS / 10 && n_named > 50);
}

// More of a budget is never worse, and what nothing limits is everything in the finest type.
static void test_more_is_better(void **state) {
    Scratch *scratch = *state;
    for (uint64_t seed = 0; seed < 50; seed++) {
        Made made;
        BudgetPlan plan;
        double before = 0;
        make_problem(&made, seed);
        made.problem.limits = (BudgetCost){0};
        for (double bytes = 5; bytes < 600; bytes *= 1.1) {
            made.problem.limits.of[BUDGET_BYTES] = bytes;
            if (budget_plan(&plan, scratch->ctx, &made.problem)) continue;
            assert_true(plan.score >= before);
            before = plan.score;
        }
        made.problem.limits.of[BUDGET_BYTES] = 0;
        assert_ok(scratch->ctx, budget_plan(&plan, scratch->ctx, &made.problem));
        assert_true(plan.loss == 0);
        assert_int_equal(plan.choice.cut.n_classes, CLASSES);
        assert_int_equal(plan.choice.type, STORAGE_F32);
    }
}

static void test_learngene_alone(void **state) {
    Scratch *scratch = *state;
    Made made;
    BudgetPlan plan;
    make_problem(&made, 3);
    made.problem.most.n_classes = 0;
    made.problem.limits = (BudgetCost){0};
    assert_ok(scratch->ctx, budget_plan(&plan, scratch->ctx, &made.problem));
    assert_int_equal(plan.choice.cut.n_classes, 0);
    assert_int_equal(plan.choice.cut.n_learngene, LEARNGENE);
}

// ---- what people write ---------------------------------------------------------------------------------------------

static void test_budgets_are_read(void **state) {
    Scratch *scratch = *state;
    BudgetCost limits;
    assert_ok(scratch->ctx, budget_parse(scratch->ctx, "4MB", &limits));
    assert_memory_equal(&limits, &((BudgetCost){{4e6, 0, 0, 0}}), sizeof limits);
    assert_ok(scratch->ctx, budget_parse(scratch->ctx, "memory=16MiB,bytes=4MB,flops=3.5G,params=1.2M", &limits));
    assert_memory_equal(&limits, &((BudgetCost){{4e6, 1.2e6, 3.5e9, 16777216}}), sizeof limits);
    static const char *const bad[] = {"",         ",",        "4MB,",     "4MB,5MB", "4MB,bytes=5MB",
                                      "flop=3G",  "=3",       "flops=",   "flops",   "bytes=4MB;params=2",
                                      "flops=-1", "memory=0", "bytes==4", " 4MB"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (budget_parse(scratch->ctx, bad[i], &limits) != KINDIT_ERROR_ARGUMENT) fail_msg("accepts \"%s\"", bad[i]);
    char endless[300];
    memset(endless, '1', sizeof endless - 1);
    endless[sizeof endless - 1] = '\0';
    assert_int_equal(budget_parse(scratch->ctx, endless, &limits), KINDIT_ERROR_ARGUMENT);
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
        assert_ok(scratch->ctx, budget_parse_size(scratch->ctx, good[i].text, &bytes));
        assert_int_equal(bytes, good[i].bytes);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (budget_parse_size(scratch->ctx, bad[i], &bytes) != KINDIT_ERROR_ARGUMENT) fail_msg("accepts %s", bad[i]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        scratch_test(test_best_of_all),      scratch_test(test_more_is_better), scratch_test(test_learngene_alone),
        scratch_test(test_budgets_are_read), scratch_test(test_sizes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
