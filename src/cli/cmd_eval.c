// Samples, or a model, against a reference: the command, whose work is eval_compare.c's.
#include "cli/eval_compare.h"
#include "cli/sample_options.h"
#include "cli/share.h"

EvalSettings eval_settings;
static EvalCompare settings;

int eval_join_options(Option out[EVAL_OPTIONS], const Option *own, int n_own) {
    static const Option shared[] = {
        {"--network", NULL, OPTION_STRING, &eval_settings.network, "FILE",
         "weights of the network that looks at the images (docs/evaluation.md; default: our own, for 32x32 glyphs)", 0,
         0, NULL},
        {"--profile", NULL, OPTION_STRING, &eval_settings.profile, "NAME",
         "adm, pytorch-fid, dgm-eval or native: whose preprocessing and conventions (default: the network's)", 0, 0,
         NULL},
        {"--n", "-n", OPTION_INT, &eval_settings.n, "N",
         "images to measure (default: all there are, or so many of them evenly spread; 5000 of a model, its classes in "
         "turn)",
         2, 1e8, NULL},
        {"--split", NULL, OPTION_CHOICE, &eval_settings.split, "train|heldout",
         "of a data set that is measured itself (default train)", 0, 0, NULL},
        {"--cache", NULL, OPTION_STRING, &eval_settings.cache, "DIR",
         "keep features here: what was interrupted goes on, what is known is not computed again", 0, 0, NULL},
        {"--json", NULL, OPTION_FLAG, &eval_settings.json, NULL, "print JSON", 0, 0, NULL},
    };
    Option looking[EVAL_OPTIONS];
    int n_drawing;
    const Option *drawing = sample_options(&n_drawing);
    const int n = cli_join_options(looking, own, n_own, shared, sizeof shared / sizeof *shared);
    return cli_join_options(out, looking, n, drawing, n_drawing);
}

KinditStatus eval_open_looker(Looker *out, KinditContext *ctx) {
    char own[1024];
    *out = (Looker){0};
    if (!eval_settings.network) TRY(share_find(own, ctx, SHARE_GLYPH_FEATURES));
    return looker_open(out, ctx, eval_settings.network ? eval_settings.network : own, eval_settings.profile,
                       eval_settings.cache);
}

static const Option *eval_options(int *n) {
    static const Option own[] = {
        {"--data", NULL, OPTION_STRING, &settings.data, "DIR", "the data set to measure against", 0, 0, NULL},
        {"--reference", NULL, OPTION_STRING, &settings.reference, "train|heldout|PATH",
         "a split of --data (default train), or other images (folder, .npz), or statistics (.npz with mu, sigma)", 0, 0,
         NULL},
        {"--metrics", NULL, OPTION_STRING, &settings.metrics, "fid,sfid,is,pr,prob",
         "what to measure (default: all that can be; fdd and fd are other names of fid)", 0, 0, NULL},
        {"--per-class", NULL, OPTION_FLAG, &settings.per_class, NULL,
         "measure each class by itself too: its samples against its reference images", 0, 0, NULL},
        {"--csv", NULL, OPTION_STRING, &settings.csv, "FILE", "append a row with the whole recipe", 0, 0, NULL},
    };
    static Option all[EVAL_OPTIONS];
    *n = eval_join_options(all, own, sizeof own / sizeof *own);
    return all;
}

static int eval_run(KinditContext *ctx, int n_positional, char **positional) {
    (void)n_positional;
    const int code = sample_options_check("eval");
    return code ? code : eval_compare(ctx, positional[0], &settings);
}

static const Command *const forms[] = {&command_eval_nn, &command_eval_stats, &command_eval_activations,
                                       &command_eval_train_features, NULL};

const Command command_eval = {
    .name = "eval",
    .summary = "measure samples, or a model: FID, sFID, FDD, Inception Score, precision and recall, and more",
    .arguments = "SAMPLES|MODEL [options]",
    .examples =
        "kindit eval models/letters.safetensors --data data/glyphs --sampler ddim --steps 25 --cache cache\n"
        "kindit eval samples.npz --reference VIRTUAL_imagenet256_labeled.npz --network inception.safetensors --profile "
        "adm\n"
        "kindit eval samples/ --data data/photos --network dinov2.safetensors --csv results.csv --json",
    .notes =
        "SAMPLES: a batch (.npz), a folder of pictures, or a data set. MODEL: as for `kindit sample`; its images are "
        "drawn, measured and not written. docs/evaluation.md says what each figure is and what it must not be compared "
        "with.",
    .min_positional = 1,
    .max_positional = 1,
    .options = eval_options,
    .run = eval_run,
    .forms = forms,
};
