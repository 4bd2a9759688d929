// Taking a trained model apart and putting parts together: copies of rows, never arithmetic, but for storing them in
// another type.
#ifndef KIND_DECOMPOSE_H
#define KIND_DECOMPOSE_H

#include "model/model_file.h"

// Writes folder/config.json, folder/learngene.safetensors and folder/tailors/<id>.safetensors. Each file is valid
// alone: its __metadata__ has "kindit" (config), "part" ("learngene" or "tailor"), for tailors "class", "name" and
// "learngene_sha256"; the config has a sha256 per file. Written into a temporary folder, renamed when complete; what is
// there already is refused or replaced as by model_write. A model that is not factored has no learngene: an argument
// error that says so.
KinditStatus decompose_write(const Model *model, KinditContext *ctx, const char *folder, StorageType type,
                             bool overwrite);

// A budget for assembling. 0: no limit.
typedef struct AssembleBudget {
    int64_t bytes; // of the tensors written; a file's header comes on top
    int64_t parameters;
} AssembleBudget;

typedef struct AssemblePlan {
    int n_classes;
    int *classes;              // indices into the source's classes, in the order chosen
    int64_t bytes, parameters; // of the result
    int64_t learngene_bytes, tailor_bytes;
    int n_left_out; // asked for (or available) but over budget
    char text[512]; // what was chosen and why, for people
} AssemblePlan;

// What fits: classes in the order asked for (NULL: all, in the source's order) until the budget is spent. `source` is a
// decomposed folder or a whole model; nothing but config and headers is read. A class without a tailor is an argument
// error naming the classes there are; a budget below the learngene alone is one that says how much that takes.
KinditStatus assemble_plan(AssemblePlan *out, KinditContext *ctx, const char *source, const char *classes,
                           const AssembleBudget *budget, StorageType type);
void assemble_plan_close(AssemblePlan *plan);
// Opens exactly the planned classes from `source` and writes them: model_open + model_write, with the hash of every
// part verified. `path` and `overwrite` as for model_write; `path` may be `source` itself.
KinditStatus assemble_write(KinditContext *ctx, Engine *engine, const char *source, const AssemblePlan *plan,
                            const char *path, StorageType type, bool overwrite);
// Reads "4MB", "3.5MiB", "500k", "123456" as bytes (k, M, G decimal; Ki, Mi, Gi binary; optional B; case is ignored),
// at least 1 and rounded down to a whole byte.
KinditStatus assemble_parse_size(KinditContext *ctx, const char *text, int64_t *out);

#endif
