// Pieces of a self-contained HTML page, written to a stream whose errors are found when the file is committed.
#ifndef CLI_HTML_H
#define CLI_HTML_H

#include <stdio.h>

#include "cli/cli.h"

void html_begin(FILE *out, const char *title);
void html_end(FILE *out);
void html_text(FILE *out, const char *text);                     // escaped
void html_element(FILE *out, const char *tag, const char *text); // <tag>text</tag>; nothing when text is NULL

// <figure> with the PNG, JPEG or WebP at `path` inlined.
KinditStatus html_image(FILE *out, KinditContext *ctx, const char *path, const char *caption);

// What of y a chart shows.
typedef struct HtmlRange {
    bool from_zero;
    double y_high; // lines are cut off there; without a positive one, the largest value
} HtmlRange;

// A line chart (inline SVG) of columns `y` against column `x` of a CSV file with a header line. At most 16 columns. If
// there is a column NAME_spread as well, a band that far above and below NAME's line.
KinditStatus html_curve(FILE *out, KinditContext *ctx, const char *path, const char *x, const cJSON *y,
                        HtmlRange range);
// The <svg> alone, which is also a file of its own. A line passes over rows where its cell is empty; a scale of losses
// is logarithmic, one from zero is not.
KinditStatus html_svg_curve(FILE *out, KinditContext *ctx, const char *path, const char *x, const cJSON *y,
                            HtmlRange range);

// The page that the JSON file `spec` describes (`kindit help report`), written to `output`.
KinditStatus html_report(KinditContext *ctx, const char *spec, const char *output);

#endif
