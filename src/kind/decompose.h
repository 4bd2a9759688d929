// Taking a trained model apart: copies of rows, never arithmetic, but for storing them in another type.
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

#endif
