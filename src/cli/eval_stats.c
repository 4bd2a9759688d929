// Mean and covariance of a network's features, in a file that pytorch-fid and ADM's evaluator read as well.
#include <stdio.h>

#include "cli/eval.h"
#include "cli/progress.h"
#include "cli/sample_options.h"

static const char *output;

static const Option *stats_options(int *n) {
    static const Option own[] = {
        {"--output", "-o", OPTION_STRING, &output, "FILE", "the .npz to write (required)", 0, 0, NULL},
    };
    static Option all[EVAL_OPTIONS];
    *n = eval_join_options(all, own, sizeof own / sizeof *own);
    return all;
}

static KinditStatus take_statistics(Statistics *out, KinditContext *ctx, const Side *side, FeatureKind kind) {
    FeatureRows rows;
    if (feature_set_width(side->set, kind) == 0) return KINDIT_OK;
    TRY(feature_set_rows(&rows, side->set, kind, NULL, side->n));
    KinditStatus status = statistics_of_rows(out, ctx, &rows);
    feature_rows_close(&rows);
    return status;
}

static KinditStatus write_statistics(KinditContext *ctx, const Side *side) {
    StatisticsFile file = {0};
    KinditStatus status = take_statistics(&file.features, ctx, side, FEATURE_POOLED);
    if (!status) status = take_statistics(&file.spatial, ctx, side, FEATURE_SPATIAL);
    if (!status) status = statistics_file_write(&file, ctx, output);
    statistics_file_close(&file);
    return status;
}

static KinditStatus measure(Looker *looker, Side *side, KinditContext *ctx, const char *path) {
    const KinditSampleSettings drawing = sample_options_settings();
    TRY(eval_open_looker(looker, ctx));
    TRY(side_open(side, looker, path, &drawing, (SourceSplit)eval_settings.split, eval_settings.n));
    TRY(side_extract(side, looker, "features"));
    return write_statistics(ctx, side);
}

static int stats_run(KinditContext *ctx, int n_positional, char **positional) {
    (void)n_positional;
    Looker looker = {0};
    Side side = {0};
    int code = sample_options_check("eval stats");
    if (code) return code;
    if (!output) return cli_usage("eval stats", "-o FILE is missing");
    KinditStatus status = measure(&looker, &side, ctx, positional[0]);
    progress_finish();
    if (!status)
        printf("%s: %d features of %lld images, %s, profile %s\n", output, looker.widths[FEATURE_POOLED],
               (long long)side.n, vision_info(looker.network)->name, profile_name(looker.profile));
    side_close(&side);
    looker_close(&looker);
    return cli_report(ctx, status);
}

const Command command_eval_stats = {
    .name = "eval stats",
    .summary = "mean and covariance of a network's features, as pytorch-fid and ADM keep them",
    .arguments = "IMAGES|MODEL --network FILE -o FILE.npz [options]",
    .examples = "kindit eval stats data/glyphs --network NETWORK.safetensors -o glyphs.npz\n"
                "kindit eval stats photos/ --network inception.safetensors --profile pytorch-fid -o photos.npz",
    .notes =
        "The file has mu and sigma, of a network with spatial features also mu_s and sigma_s, and n. It stands for "
        "its images as `kindit eval --reference FILE`, and in pytorch-fid and ADM's evaluator.",
    .min_positional = 1,
    .max_positional = 1,
    .options = stats_options,
    .run = stats_run,
};
