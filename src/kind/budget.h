// The best model that fits: how many of the classes, how much of the learngene and of each tailor, which type of
// weights. Pure: what a choice costs and what it loses is asked for, nothing is read or made here.
//
// "Best" is the plan of the highest score,
//
//     score = sum over the classes kept of quality(loss),    loss = what the cut loses (energy.h) + what the type
//     rounds quality(loss) = max(0, 1 - loss / BUDGET_LOSS_LIMIT)
//
// so a class more is worth having only as long as the others keep their shape. The more of any budget, the higher the
// score or the same. Classes are kept in the order of preference: all tailors are of one size, so the first n of them
// are the best n where none is preferred to one before it. A plan without quality is none: a model that has lost more
// draws noise. Among equal scores the choice is the fewer bytes, then the type listed first. No chance, no clock.
//
// The limit and the straight line are measured, not derived: of the reference model's class accuracy, its learngene
// ranked by `kindit factorize`, a loss of 1.2 % leaves 94 %, 2.1 % leaves 84 %, 3.7 % leaves 58 % and 5.8 % leaves 28
// %; not ranked, 2.6 % leaves 80 %, 5.7 % leaves 54 % and 9.0 % leaves 32 %.
#ifndef KIND_BUDGET_H
#define KIND_BUDGET_H

#include "kind/cut.h"

#define BUDGET_LOSS_LIMIT 0.1

enum { BUDGET_BYTES, BUDGET_PARAMETERS, BUDGET_FLOPS, BUDGET_MEMORY, BUDGET_DIMENSIONS };
// A cost, or limits (0: no limit): bytes of the tensors written (a file's header comes on top), parameters, FLOPs of
// one pass of one image with its class's tailor open (2 a multiply-add), bytes of memory to draw one image.
typedef struct BudgetCost {
    double of[BUDGET_DIMENSIONS];
} BudgetCost;
// "bytes", "params", "flops", "memory".
extern const char *const budget_names[BUDGET_DIMENSIONS];

// "4MB" (bytes), or a list such as "bytes=4MB,params=1.2M,flops=3G,memory=16MB". Each once, at least 1; k, M, G are
// decimal and Ki, Mi, Gi binary.
KinditStatus budget_parse(KinditContext *ctx, const char *text, BudgetCost *limits);
// Reads "4MB", "3.5MiB", "500k", "123456" as bytes (k, M, G decimal; Ki, Mi, Gi binary; optional B; case is ignored),
// at least 1 and rounded down to a whole byte.
KinditStatus budget_parse_size(KinditContext *ctx, const char *text, int64_t *out);

typedef struct BudgetChoice {
    Cut cut;
    StorageType type;
} BudgetChoice;

typedef struct BudgetType {
    StorageType type;
    double loss; // what writing the weights as this type loses
} BudgetType;

// What to choose from. Costs grow, or stay, with the number of classes.
typedef struct BudgetProblem {
    Cut most;                 // what there is
    const EnergyLoss *losses; // of its classes, in order of preference
    const BudgetType *types;  // those allowed
    int n_types;
    BudgetCost limits;
    KinditStatus (*measure)(void *user, const BudgetChoice *choice, BudgetCost *cost);
    void *user;
} BudgetProblem;

typedef struct BudgetPlan {
    BudgetChoice choice;
    BudgetCost cost;
    double score;
    double loss; // mean of the classes kept
} BudgetPlan;

// KINDIT_ERROR_ARGUMENT when nothing fits; the message has what the smallest plan costs.
KinditStatus budget_plan(BudgetPlan *out, KinditContext *ctx, const BudgetProblem *problem);

#endif
