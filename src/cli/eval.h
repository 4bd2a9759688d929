// kindit eval: one file a form of it, and what they share.
#ifndef CLI_EVAL_H
#define CLI_EVAL_H

#include "cli/cli.h"
#include "metrics/side.h"

// What every form that looks at images has as options, beside those of drawing.
typedef struct EvalSettings {
    const char *network, *profile, *cache;
    int64_t n; // 0: not given
    int64_t split;
    bool json;
} EvalSettings;
extern EvalSettings eval_settings;
// out = `own`, these, and those of drawing; returns how many there are.
enum { EVAL_OPTIONS = 40 };
int eval_join_options(Option out[EVAL_OPTIONS], const Option *own, int n_own);

// --network, --profile and --cache; an argument error when the first is missing.
KinditStatus eval_open_looker(Looker *out, KinditContext *ctx);

// ---- results (eval_print.c, eval_csv.c) ----------------------------------------------------------------------------

// A figure as records name it: "fid", "sfid", "is", ...
typedef struct EvalFigure {
    const char *key, *label;
    double value;
} EvalFigure;
enum { EVAL_FIGURES = 16 };
int eval_figures(const Evaluation *evaluation, const VisionInfo *network, EvalFigure out[EVAL_FIGURES]);

// What a comparison was made of, as one flat JSON object: a column each in records. Caller deletes.
cJSON *eval_recipe(const Looker *looker, const Side *samples, const Side *reference);

// A row for the file, which is made with a header line where there is none. Atomic. An error when the header of what is
// there is another.
KinditStatus eval_csv_append(KinditContext *ctx, const char *path, const cJSON *recipe, const EvalFigure *figures,
                             int n);

#endif
