// The tailors that were dropped into a decomposed folder: files in tailors/ that its config does not list.
#ifndef MODEL_TAILOR_FOLDER_H
#define MODEL_TAILOR_FOLDER_H

#include "model/model_file.h"

// Appends to `*classes` (*n of them, reallocated) a class for each file of `folder`/tailors that none of them has, in
// the order of their ids: the id is the file's name, the name what the file says, or the id where it cannot be read.
// Nothing is judged here but the file's name, so that a bad file hinders nobody who does not ask for it; other files
// than *.safetensors are not looked at.
KinditStatus tailor_folder_find(KinditContext *ctx, const char *folder, ModelClass **classes, int *n);

#endif
