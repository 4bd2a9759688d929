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

static bool is_drawn(const BudgetProblem *problem, int type, const Cut *cut) {
    BudgetPlan plan = {.choice.cut = *cut};
    score(problem, type, &plan);
    return plan.score > 0;
}

// With this much of the learngene and of each tailor: the fewest classes of which one is worth drawing, and if they
// fit, the most classes that do. Costs grow with their number.
static KinditStatus try_classes(Search *search, int type, Cut cut) {
    const int most = cut.n_classes;
    bool fits;
    cut.n_classes = most > 0 ? 1 : 0;
    while (cut.n_classes < most && !is_drawn(search->problem, type, &cut)) cut.n_classes++;
    TRY(try_choice(search, type, &cut, &fits));
    if (!fits) return KINDIT_OK;
    int fitting = cut.n_classes, over = most + 1;
    while (over - fitting > 1) {
        cut.n_classes = over > most ? most : fitting + (over - fitting) / 2; // all of them first
        TRY(try_choice(search, type, &cut, &fits));
        *(fits ? &fitting : &over) = cut.n_classes;
    }
    return KINDIT_OK;
}

// Every part of the learngene, from all of it down, until even all classes could not reach the best so far.
static KinditStatus walk(Search *search, int type, int n_tailor) {
    BudgetPlan bound = {.choice.cut = search->problem->most};
    bound.choice.cut.n_tailor = n_tailor;
    for (; bound.choice.cut.n_learngene > 0; bound.choice.cut.n_learngene--) {
        score(search->problem, type, &bound);
        if (bound.score <= 0 || (search->found && bound.score < search->best.score)) break;
        TRY(try_classes(search, type, bound.choice.cut));
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
    if (!search.found) return fail_tight(ctx, &search);
    *out = search.best;
    return KINDIT_OK;
}
