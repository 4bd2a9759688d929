#include "cli/html.h"

static struct { const char *output; } settings;

static const Option *report_options(int *n) {
    static const Option options[] = {
        {"--output", "-o", OPTION_STRING, &settings.output, "FILE", "HTML file to write", 0, 0, NULL},
    };
    *n = sizeof options / sizeof *options;
    return options;
}

static int report_run(KinditContext *ctx, int n_positional, char **positional) {
    (void)n_positional;
    if (!settings.output) return cli_usage("report", "-o FILE is missing");
    return cli_report(ctx, html_report(ctx, positional[0], settings.output));
}

const Command command_report = {
    .name = "report",
    .summary = "make one HTML file of pictures, curves and tables",
    .arguments = "SPEC.json -o report.html",
    .examples = "kindit report out/demo/report.json -o out/demo/report.html",
    .notes =
        "SPEC is {\"title\", \"text\", \"sections\": [{\"heading\", \"text\", \"images\": [{\"file\", \"caption\"}], "
        "\"curve\": "
        "{\"file\": CSV, \"x\": column, \"y\": [columns], \"y_high\": number}, \"table\": {\"columns\": [{\"label\", "
        "\"key\", "
        "\"format\"}], \"rows\": "
        "[{..., \"files\": [JSON]}]}, \"commands\": [text]}]}. All but title and sections may be left out. Files are "
        "relative to SPEC. A cell is the value at its column's key (a.b.c) in the row or in the row's files; format is "
        "bytes, count or percent. A curve is cut off at y_high, and has a band where there is a column NAME_spread.",
    .min_positional = 1,
    .max_positional = 1,
    .options = report_options,
    .run = report_run,
};
