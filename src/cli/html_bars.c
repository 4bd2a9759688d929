#include "cli/html_bars.h"

#include <math.h>

enum { GROUP = 250, GAP = 40, HEIGHT = 260, TOP = 40, BOTTOM = 60, MARGIN = 20 };

static const char *const colours[] = {"#2a6f97", "#c8553d", "#6a994e", "#8e6c8a", "#bc8a2f"};
enum { N_COLOURS = sizeof colours / sizeof *colours };

typedef struct Scale {
    double low, high;
} Scale;

static Scale find_scale(const double *values, int n) {
    Scale scale = {0, 0};
    for (int i = 0; i < n; i++) {
        if (isnan(values[i])) continue;
        scale.low = fmin(scale.low, values[i]);
        scale.high = fmax(scale.high, values[i]);
    }
    if (scale.high <= scale.low) scale.high = scale.low + 1;
    return scale;
}

static double place(const Scale *scale, double value) {
    return HEIGHT - BOTTOM - (value - scale->low) / (scale->high - scale->low) * (HEIGHT - TOP - BOTTOM);
}

static void draw_bar(FILE *out, const Scale *scale, double value, double x, double width, int colour) {
    const double zero = place(scale, 0), end = place(scale, value);
    if (isnan(value)) return;
    fprintf(out, "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" fill=\"%s\"/>\n", x, fmin(zero, end),
            width, fabs(zero - end), colours[colour % N_COLOURS]);
    fprintf(out, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">%.3g</text>\n", x + width / 2, fmin(zero, end) - 4,
            value);
}

static void draw_group(FILE *out, const HtmlBars *group, int n_bars, double left) {
    const Scale scale = find_scale(group->values, n_bars);
    const double step = (double)GROUP / n_bars;
    fprintf(out, "<text x=\"%.1f\" y=\"16\" text-anchor=\"middle\" font-weight=\"bold\">", left + GROUP / 2.0);
    html_text(out, group->title);
    fputs("</text>\n", out);
    for (int b = 0; b < n_bars; b++)
        draw_bar(out, &scale, group->values[b], left + step * b + step * 0.1, step * 0.8, b);
    fprintf(out, "<line x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\" stroke=\"#888\"/>\n", left, left + GROUP,
            place(&scale, 0), place(&scale, 0));
}

static void draw_names(FILE *out, const char *const *names, int n_bars, int width) {
    const double step = (double)(width - 2 * MARGIN) / n_bars;
    for (int b = 0; b < n_bars; b++) {
        const double x = MARGIN + step * b;
        fprintf(out, "<rect x=\"%.1f\" y=\"%d\" width=\"11\" height=\"11\" fill=\"%s\"/>\n<text x=\"%.1f\" y=\"%d\">",
                x, HEIGHT - 26, colours[b % N_COLOURS], x + 16, HEIGHT - 16);
        html_text(out, names[b]);
        fputs("</text>\n", out);
    }
}

void html_svg_bars(FILE *out, const HtmlBars *groups, int n_groups, const char *const *names, int n_bars) {
    const int width = 2 * MARGIN + n_groups * GROUP + (n_groups - 1) * GAP;
    fprintf(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" viewBox=\"0 0 %d %d\" font-size=\"12\" "
        "font-family=\"sans-serif\" fill=\"#444\">\n<rect width=\"%d\" height=\"%d\" fill=\"#fff\"/>\n",
        width, HEIGHT, width, HEIGHT, width, HEIGHT);
    for (int g = 0; g < n_groups; g++) draw_group(out, &groups[g], n_bars, MARGIN + g * (GROUP + GAP));
    draw_names(out, names, n_bars, width);
    fputs("</svg>\n", out);
}
