// Putting parts together: the learngene, the tailors of the classes asked for, and of each as much as fits a budget.
#ifndef KIND_ASSEMBLE_H
#define KIND_ASSEMBLE_H

#include "kind/budget.h"

// The memory that drawing with a model of this structure takes: what this layer cannot know.
typedef struct AssemblyMemory {
    size_t (*bytes)(const void *user, const Dit *dit);
    const void *user;
} AssemblyMemory;

typedef struct Assembly {
    Model *parts; // learngene and all classes asked for
    Energy energy;
    EnergyLoss losses;
    AssemblyMemory memory;
} Assembly;

// Reads from `source` (whatever model_open takes) the classes asked for, the most wanted first (NULL: all, in the
// source's order), with the hash of every part verified. A dense model is an argument error.
KinditStatus assembly_open(Assembly *out, KinditContext *ctx, Engine *engine, const char *source, const char *classes,
                           AssemblyMemory memory);
void assembly_close(Assembly *assembly);

// All there is, as f32.
BudgetChoice assembly_everything(const Assembly *assembly);
// What a choice costs: its bytes and parameters as the file will hold them, the FLOPs and memory of drawing with it.
KinditStatus assembly_measure(const Assembly *assembly, const BudgetChoice *choice, BudgetCost *cost);
// The types that a plan chooses among when none is asked for, the finest first: those that keep the class accuracy.
// int4 does not (docs/quality.md), so it is for who asks for it.
enum { ASSEMBLY_TYPES = 3 };
extern const StorageType assembly_types[ASSEMBLY_TYPES];
// The best choice within `limits`, of the types allowed (at most STORAGE_TYPES, the finest first).
KinditStatus assembly_plan(const Assembly *assembly, const BudgetCost *limits, const StorageType *types, int n_types,
                           BudgetPlan *out);
// Writes a choice, `path` and `overwrite` as for model_write; `path` may be the source itself.
KinditStatus assembly_write(const Assembly *assembly, const BudgetChoice *choice, const char *path, bool overwrite);

#endif
