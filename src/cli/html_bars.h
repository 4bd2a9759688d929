// Bar charts for pages and files.
#ifndef CLI_HTML_BARS_H
#define CLI_HTML_BARS_H

#include "cli/html.h"

// A group of bars on a scale of its own, from zero (or from the least, below zero).
typedef struct HtmlBars {
    const char *title;
    const double *values; // [n_bars]; NaN: a gap
} HtmlBars;

// An <svg>, which is also a file of its own: the groups side by side, a bar for each name in each, values written on
// them.
void html_svg_bars(FILE *out, const HtmlBars *groups, int n_groups, const char *const *names, int n_bars);

#endif
