// Samples against a reference.
#ifndef CLI_EVAL_COMPARE_H
#define CLI_EVAL_COMPARE_H

#include "cli/eval.h"

typedef struct EvalCompare {
    const char *data, *reference, *metrics, *csv; // as the options of these names, or NULL
    bool per_class;
} EvalCompare;

// Measures and prints; returns an exit code.
int eval_compare(KinditContext *ctx, const char *samples, const EvalCompare *settings);

#endif
