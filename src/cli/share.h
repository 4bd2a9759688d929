// Files that come with the program.
#ifndef CLI_SHARE_H
#define CLI_SHARE_H

#include "base/context.h"

// The network that metrics use when none is named: trained on the glyphs of this project's data set (models/README.md).
#define SHARE_GLYPH_FEATURES "glyph-features.safetensors"

// Where `name` is: in the folder that KINDIT_SHARE names in the environment, else in share/kindit beside the folder of
// the running program (as installed), else in models beside it (as built in the sources). KINDIT_ERROR_IO naming them
// all when it is in none.
KinditStatus share_find(char out[1024], KinditContext *ctx, const char *name);

#endif
