// One tailor's file: what it says of itself, held against the model that it shall join.
#ifndef MODEL_TAILOR_FILE_H
#define MODEL_TAILOR_FILE_H

#include "model/model_file.h"

// The model's side, with the paths that stand for it in messages.
typedef struct TailorFit {
    const DitConfig *config;
    const char *config_path;
    const char *learngene_path, *learngene_sha256;
} TailorFit;

// Opens the tailor at `path` and reads its header: `*class` is what it holds. A format error, which names both sides,
// when it is no tailor, is written in a newer format, was made for a model of another structure, for another learngene,
// or contradicts itself. The bytes of its tensors are not looked at: their shapes are model_params_check's business.
KinditStatus tailor_file_open(Safetensors *out, KinditContext *ctx, const char *path, const TailorFit *fit,
                              ModelClass *class);
// The same of a file that is open, or lies in memory.
KinditStatus tailor_file_check(const Safetensors *file, KinditContext *ctx, const TailorFit *fit, ModelClass *class);

// The id that a file's name in tailors/ stands for: "<id>.safetensors". False for any other name, and a hidden one.
bool tailor_file_id(const char *name, char id[DIT_CLASS_NAME_SIZE]);

#endif
