// `kindit debug features`: what a frozen network makes of images that are prepared already.
#ifndef CLI_DEBUG_FEATURES_H
#define CLI_DEBUG_FEATURES_H

#include "base/context.h"

// Reads `images` (N, C, S, S) from the .safetensors file `input` and writes features (N, F) and, where the network has
// them, spatial (N, P) and logits (N, K); of a single image also layer.<name> of each layer, flat. `times` > 0: runs
// that often more and prints the images per second of each run on stdout.
KinditStatus debug_features(KinditContext *ctx, const char *network, const char *input, const char *output, int times);

#endif
