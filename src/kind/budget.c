#include "kind/budget.h"

#include <math.h>

const char *const budget_names[BUDGET_DIMENSIONS] = {"bytes", "params", "flops", "memory"};

typedef struct Search {
    const BudgetProblem *problem;
    bool found;
    BudgetPlan best;
    BudgetPlan smallest; // of those refused: the one that is least over
    double least_over;
} Search;

// ---- one plan ------------------------------------------------------------------------------------------------------

static void score(const BudgetProblem *problem, int type, BudgetPlan *plan) {
    const Cut *cut = &plan->choice.cut;
    const double common = problem->losses->learngene[cut->n_learngene] + problem->types[type].loss;
    const size_t stride = (size_t)problem->most.n_tailor + 1;
    plan->loss = cut->n_classes ? 0 : common; // a learngene without classes is drawn as it is
    plan->score = cut->n_classes ? 0 : fmax(0, 1 - common / BUDGET_LOSS_LIMIT);
    for (int c = 0; c < cut->n_classes; c++) {
        const double loss = common + problem->losses->tailor[(size_t)c * stride + (size_t)cut->n_tailor];
        plan->score += fmax(0, 1 - loss / BUDGET_LOSS_LIMIT);
        plan->loss += loss / cut->n_classes;
    }
}

static bool is_better(const BudgetPlan *a, const BudgetPlan *b) {
    if (a->score != b->score) return a->score > b->score;
    return a->cost.of[BUDGET_BYTES] < b->cost.of[BUDGET_BYTES];
}

// How far over its limits a cost is, as a factor; at most 1 when it fits.
static double measure_over(const BudgetProblem *problem, const BudgetCost *cost) {
    double over = 0;
    for (int d = 0; d < BUDGET_DIMENSIONS; d++)
        if (problem->limits.of[d] > 0) over = fmax(over, cost->of[d] / problem->limits.of[d]);
    return over;
}

// Plans a choice, and takes it if it fits and is the best so far.
static KinditStatus try_choice(Search *search, int type, const Cut *cut, bool *fits) {
    const BudgetProblem *problem = search->problem;
    BudgetPlan plan = {.choice = {*cut, problem->types[type].type}};
    TRY(problem->measure(problem->user, &plan.choice, &plan.cost));
    const double over = measure_over(problem, &plan.cost);
    *fits = over <= 1;
    score(problem, type, &plan);
    if (plan.score <= 0) return KINDIT_OK;
    if (*fits && (!search->found || is_better(&plan, &search->best))) {
        search->best = plan;
        search->found = true;
    }
    if (!*fits && over < search->least_over) {
        search->smallest = plan;
        search->least_over = over;
    }
    return KINDIT_OK;
}

// ---- all plans -----------------------------------------------------------------------------------------------------

// For every number of classes, from all to the fewest, the most of the learngene that fits. That number never falls on
// the way, so one walk finds them all.
static KinditStatus walk(Search *search, int type, int n_tailor) {
    const Cut *most = &search->problem->most;
    Cut cut = {.n_tailor = n_tailor};
    const int fewest = most->n_classes ? 1 : 0;
    bool fits = false;
    int n_learngene = 0;
    for (cut.n_classes = most->n_classes; cut.n_classes >= fewest; cut.n_classes--) {
        cut.n_learngene = most->n_learngene;
        TRY(try_choice(search, type, &cut, &fits));
        if (fits) return KINDIT_OK; // fewer classes could only lose
        for (fits = true; fits && n_learngene + 1 < most->n_learngene;) {
            cut.n_learngene = n_learngene + 1;
            TRY(try_choice(search, type, &cut, &fits));
            n_learngene += fits;
        }
    }
    return KINDIT_OK;
}

static bool is_drawn(const BudgetProblem *problem, int type, const Cut *cut) {
    BudgetPlan plan = {.choice.cut = *cut};
    score(problem, type, &plan);
    return plan.score > 0;
}

// The least that is worth drawing with one type and one size of tailors. More classes are less only where one of them
// needs less of the learngene.
static KinditStatus try_least(Search *search, int type, int n_tailor) {
    const Cut *most = &search->problem->most;
    Cut cut = {most->n_classes ? 1 : 0, most->n_learngene + 1, n_tailor};
    for (; cut.n_classes <= most->n_classes; cut.n_classes++) {
        const int before = cut.n_learngene;
        Cut less = cut;
        while (--less.n_learngene > 0 && is_drawn(search->problem, type, &less)) cut = less;
        bool fits;
        if (cut.n_learngene < before) TRY(try_choice(search, type, &cut, &fits));
    }
    return KINDIT_OK;
}

static KinditStatus fail_tight(KinditContext *ctx, const Search *search) {
    const BudgetPlan *least = &search->smallest;
    const double *of = least->cost.of, *limit = search->problem->limits.of;
    char over[256] = "";
    size_t n = 0;
    if (!isfinite(search->least_over))
        return context_fail(ctx, KINDIT_ERROR_NUMERIC, "no part of the model is worth drawing: its weights are lost");
    for (int d = 0; d < BUDGET_DIMENSIONS; d++)
        if (limit[d] > 0 && of[d] > limit[d])
            n += (size_t)snprintf(over + n, sizeof over - n, "%s%.0f %s of %.0f", n ? ", " : "", of[d], budget_names[d],
                                  limit[d]);
    return context_fail(ctx, KINDIT_ERROR_ARGUMENT,
                        "the budget is too small: the smallest model that still draws (%d classes, %d of %d components "
                        "of the learngene, %d of each tailor, %s) takes %s",
                        least->choice.cut.n_classes, least->choice.cut.n_learngene, search->problem->most.n_learngene,
                        least->choice.cut.n_tailor, storage_name(least->choice.type), over);
}

KinditStatus budget_plan(BudgetPlan *out, KinditContext *ctx, const BudgetProblem *problem) {
    Search search = {.problem = problem, .least_over = INFINITY};
    for (int type = 0; type < problem->n_types; type++)
        for (int t = problem->most.n_tailor; t >= 0; t--) TRY(walk(&search, type, t));
    for (int type = 0; type < problem->n_types && !search.found; type++)
        for (int t = 0; t <= problem->most.n_tailor; t++) TRY(try_least(&search, type, t));
    if (!search.found) return fail_tight(ctx, &search);
    *out = search.best;
    return KINDIT_OK;
}
