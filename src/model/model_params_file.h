// Parameter vectors <-> the tensors of an open file: what model_params_read does, for callers that choose classes or
// must know that everything fits before they make room for it.
#ifndef MODEL_MODEL_PARAMS_FILE_H
#define MODEL_MODEL_PARAMS_FILE_H

#include "model/model_file.h"

// Which rows of the file belong to which rows of the vectors.
typedef struct ParamsRows {
    ModelPart part;
    int class_index;    // MODEL_PART_TAILOR: whose vector
    int n_classes;      // MODEL_PART_WHOLE: classes of the vectors
    int n_file_classes; // and of the file
    const int *classes; // [n_classes] the file's index of each, NULL: all, in the same order
    bool tailors_only;  // MODEL_PART_WHOLE: the shared rows stay where they are
    int class_table; // index of a shared tensor that begins with one row per class (a dense model's labels), -1: none
} ParamsRows;

// Every tensor of `part` is there as storage_find takes it, and nothing else is. Reads the header only.
KinditStatus model_params_check(const Safetensors *file, KinditContext *ctx, const ParamLayout *layout,
                                const ParamsRows *rows);
// Checks, then copies the rows asked for into `params`; no other row is touched, neither in the file nor in memory.
KinditStatus model_params_load(const Safetensors *file, KinditContext *ctx, const ParamLayout *layout,
                               const ParamsRows *rows, ParamSet *params);
enum { MODEL_PARAMS_STAGE_BYTES = 1 << 18 }; // that loading takes beside them; more where a row is longer
// Numbers in the tensors of a part (padding is not in files).
size_t model_params_count(const ParamLayout *layout, ModelPart part, int n_classes);
// Bytes of those tensors in a file of that type, scales included, the file's header not: exact, and linear in the
// classes: whole(n) = shared + n * tailor for a factored model.
size_t model_params_bytes(const ParamLayout *layout, ModelPart part, int n_classes, StorageType type);

#endif
