#include "cli/cli.h"

static const Command *const forms[] = {&command_eval_nn, &command_eval_train_features, NULL};

static int eval_run(KinditContext *ctx, int n_positional, char **positional) {
    (void)ctx, (void)n_positional;
    return cli_usage("eval", "'%s': expected nn or train-features", positional[0]);
}

const Command command_eval = {
    .name = "eval",
    .summary = "measure samples, or train the network that measures them",
    .arguments = "FORM ...",
    .examples = "kindit help eval nn",
    .min_positional = 1,
    .max_positional = 1,
    .run = eval_run,
    .forms = forms,
};
