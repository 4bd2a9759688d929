// The options that describe a model, for every command that makes or measures one.
#ifndef CLI_MODEL_OPTIONS_H
#define CLI_MODEL_OPTIONS_H

#include "cli/cli.h"
#include "model/dit.h"

// --preset, --kind, --width ... --factor-adaln.
const Option *model_options(int *n);
// --image-size, --channels, --n-classes: for commands that have no data set to take them from.
const Option *model_shape_options(int *n);
bool model_options_given(void); // was a model described at all?

// The described model, over what *config holds. With `with_shape` the shape options are applied too; otherwise
// image_size, channels and n_classes stay as they are. Sizes the options leave open: --preset's; N_G = 53/128 of the
// width and N_T = width / 256 (the paper's own proportions).
KinditStatus model_options_config(KinditContext *ctx, bool with_shape, DitConfig *config);

#endif
