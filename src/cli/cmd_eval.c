#include "cli/cli.h"

static const Command *const forms[] = {&command_eval_nn, NULL};

static int eval_run(KinditContext *ctx, int n_positional, char **positional) {
    (void)ctx, (void)n_positional;
    return cli_usage("eval", "'%s': expected nn", positional[0]);
}

const Command command_eval = {
    .name = "eval",
    .summary = "measure samples",
    .arguments = "FORM ...",
    .examples = "kindit help eval nn",
    .min_positional = 1,
    .max_positional = 1,
    .run = eval_run,
    .forms = forms,
};
