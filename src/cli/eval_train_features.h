// `kindit eval train-features`: a feature network for a data set that others never saw.
#ifndef CLI_EVAL_TRAIN_FEATURES_H
#define CLI_EVAL_TRAIN_FEATURES_H

#include "cli/cli.h"

// Its options, beside --data and --json of `eval`.
const Option *eval_train_features_options(int *n);
// Runs it; returns an exit code.
int eval_train_features(KinditContext *ctx, const char *data, bool json);

#endif
