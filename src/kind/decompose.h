// Taking a trained model apart: copies of rows, never arithmetic, but for storing them in another type.
#ifndef KIND_DECOMPOSE_H
#define KIND_DECOMPOSE_H

#include "model/model_file.h"

// Writes folder/config.json, folder/learngene.safetensors and folder/tailors/<id>.safetensors. Each file is valid
// alone: its __metadata__ has "kindit" (config), "part" ("learngene" or "tailor"), for tailors "class", "name" and
// "learngene_sha256"; the config has a sha256 per file. Written into a temporary folder, renamed when complete; what is
// there already is refused or replaced as by model_write. A model that is not factored has no learngene: an argument
// error that says so. One adapted beside a frozen learngene gives the learngene file of the model that it was adapted
// from, byte for byte in the same type, so that its tailors belong to that one's learngene too.
KinditStatus decompose_write(const Model *model, KinditContext *ctx, const char *folder, StorageType type,
                             bool overwrite);

// Puts the tailors of a model beside those of a decomposed folder, in its storage type, and into its config.json with
// their hashes: the folder then holds the classes of both. An argument error, and the folder as before, when the model
// is of another structure, has not the folder's learngene bit for bit (and all that is shared), or has a class that is
// there.
KinditStatus decompose_into(const Model *model, KinditContext *ctx, const char *folder);

#endif
