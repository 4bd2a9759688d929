// A line chart from a CSV file.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "cli/html.h"

enum {
    MOST_LINES = 16,
    FEW_LINES = 4, // whose names have room over the plot; more stand beside it
    POINTS = 400,
    WIDTH = 760,
    HEIGHT = 280,
    LEFT = 60,
    RIGHT = 28,
    NAMES = 150,
    TOP = 12,
    BOTTOM = 34,
    TICKS = 5 // about so many
};

enum { N_COLOURS = 8 }; // after which lines are dashed
static const char *const colours[N_COLOURS] = {"#1f5fa8", "#c0561b", "#3b7d3b", "#7a4b9a",
                                               "#b8860b", "#1a8f8f", "#b03060", "#555555"};

typedef struct Curve {
    int n_lines;
    const char *names[MOST_LINES];
    int columns[2 * MOST_LINES + 1]; // in the file: each line's, its spread's (or none, -1), and x
    size_t n, stride;
    double *values;                      // (n, stride), in the order of `columns`
    double x_low, x_high, y_low, y_high; // y as its logarithm where it is positive throughout, as losses are
    bool log_y;
    int right; // of the axes
} Curve;

// Cell `column` of the line at `text`, or NULL.
static const char *find_cell(const char *text, int column) {
    for (; column > 0; column--) {
        text += strcspn(text, ",\n");
        if (*text != ',') return NULL;
        text++;
    }
    return text;
}

static int find_column(const char *header, const char *name) {
    for (int column = 0;; column++) {
        const char *cell = find_cell(header, column);
        if (!cell) return -1;
        if (strcspn(cell, ",\r\n") == strlen(name) && strncmp(cell, name, strlen(name)) == 0) return column;
    }
}

static KinditStatus require_column(int *column, KinditContext *ctx, const char *path, const char *text,
                                   const char *name) {
    *column = find_column(text, name);
    if (*column >= 0) return KINDIT_OK;
    return context_fail(ctx, KINDIT_ERROR_FORMAT, "%s: no column '%s' in its first line", path, name);
}

static KinditStatus find_columns(Curve *curve, KinditContext *ctx, const char *path, const char *text, const char *x,
                                 const cJSON *y) {
    const cJSON *item;
    cJSON_ArrayForEach(item, y) {
        if (curve->n_lines < MOST_LINES && cJSON_IsString(item)) curve->names[curve->n_lines++] = item->valuestring;
    }
    for (int i = 0; i < curve->n_lines; i++) {
        char spread[128];
        snprintf(spread, sizeof spread, "%s_spread", curve->names[i]);
        TRY(require_column(&curve->columns[i], ctx, path, text, curve->names[i]));
        curve->columns[curve->n_lines + i] = find_column(text, spread);
    }
    curve->stride = 2 * (size_t)curve->n_lines + 1;
    TRY(require_column(&curve->columns[2 * curve->n_lines], ctx, path, text, x));
    return curve->n_lines ? KINDIT_OK
                          : context_fail(ctx, KINDIT_ERROR_ARGUMENT, "%s: a curve needs names in \"y\"", path);
}

// Cells that are no finite numbers become NaN; rows without x or without any y are passed over.
static KinditStatus read_rows(Curve *curve, KinditContext *ctx, const char *text) {
    size_t lines = 0;
    for (const char *c = text; *c; c++) lines += *c == '\n';
    TRY(memory_alloc(ctx, lines + 1, curve->stride * sizeof *curve->values, &curve->values));
    for (const char *line = strchr(text, '\n'); line && line[1]; line = strchr(line + 1, '\n')) {
        double *row = curve->values + curve->n * curve->stride;
        bool any = false;
        for (size_t i = 0; i < curve->stride; i++) {
            char *end;
            const char *cell = curve->columns[i] < 0 ? NULL : find_cell(line + 1, curve->columns[i]);
            bool empty = !cell || strcspn(cell, ",\r\n") == 0; // strtod would go on to the next line
            row[i] = empty ? NAN : strtod(cell, &end);
            if (!empty && (end == cell || !isfinite(row[i]))) row[i] = NAN;
            any = any || (i < (size_t)curve->n_lines && !isnan(row[i]));
        }
        curve->n += any && !isnan(row[curve->stride - 1]);
    }
    return KINDIT_OK;
}

static void find_range(Curve *curve, HtmlRange range) {
    curve->x_low = curve->y_low = INFINITY;
    curve->x_high = curve->y_high = -INFINITY;
    for (size_t i = 0; i < curve->n; i++) {
        const double *row = curve->values + i * curve->stride;
        curve->x_low = fmin(curve->x_low, row[curve->stride - 1]);
        curve->x_high = fmax(curve->x_high, row[curve->stride - 1]);
        for (int k = 0; k < curve->n_lines; k++) {
            const double spread = row[curve->n_lines + k];
            const double band = spread < row[k] ? spread : 0; // a logarithm has no place for the rest
            curve->y_low = fmin(curve->y_low, row[k] - band); // of NaN and a number it is the number
            curve->y_high = fmax(curve->y_high, row[k] + band);
        }
    }
    if (range.from_zero) curve->y_low = fmin(curve->y_low, 0);
    if (range.y_high > 0) curve->y_high = fmin(curve->y_high, range.y_high);
    curve->log_y = curve->y_low > 0;
    if (curve->log_y) {
        curve->y_low = log(curve->y_low);
        curve->y_high = log(curve->y_high);
    }
    if (curve->x_high <= curve->x_low) curve->x_high = curve->x_low + 1;
    if (curve->y_high <= curve->y_low) curve->y_high = curve->y_low + 1;
}

static double place_x(const Curve *curve, double x) {
    return LEFT + (x - curve->x_low) / (curve->x_high - curve->x_low) * (curve->right - LEFT);
}

static double place_y(const Curve *curve, double y) {
    if (curve->log_y) y = y > 0 ? log(y) : curve->y_low;
    return HEIGHT - BOTTOM - (y - curve->y_low) / (curve->y_high - curve->y_low) * (HEIGHT - TOP - BOTTOM);
}

// The round step (1, 2 or 5 times a power of ten) that makes about TICKS of a range.
static double round_step(double range) {
    const double rough = range / TICKS, power = pow(10, floor(log10(rough)));
    const double times = rough / power;
    return power * (times < 1.5 ? 1 : times < 3.5 ? 2 : times < 7.5 ? 5 : 10);
}

// After a round number the next, on a scale that is logarithmic and spans much: 1, 2, 5, 10, 20, ...
static double next_on_log(double y) {
    const double power = pow(10, floor(log10(y) + 1e-9)), times = y / power;
    return power * (times < 1.5 ? 2 : times < 3.5 ? 5 : 10);
}

static void draw_y_tick(FILE *out, const Curve *curve, double y) {
    const double at = place_y(curve, y);
    fprintf(out, "<line x1=\"%d\" x2=\"%d\" y1=\"%.1f\" y2=\"%.1f\" stroke=\"#e4e4e0\"/>\n", LEFT, curve->right, at,
            at);
    fprintf(out, "<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%.3g</text>\n", LEFT - 6, at + 4, y);
}

static void draw_x_tick(FILE *out, const Curve *curve, double x) {
    char number[32];
    snprintf(number, sizeof number, "%.5g", x);
    if (fabs(x) >= 1e5) cli_format_count(number, x); // or else an exponent
    fprintf(out, "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%s</text>\n", place_x(curve, x), HEIGHT - 16,
            number);
}

static void draw_axes(FILE *out, const Curve *curve, const char *x_name) {
    const double low = curve->log_y ? exp(curve->y_low) : curve->y_low;
    const double high = curve->log_y ? exp(curve->y_high) : curve->y_high;
    const double step = round_step(high - low), x_step = round_step(curve->x_high - curve->x_low);
    if (curve->log_y && high > 8 * low) {
        for (double y = pow(10, floor(log10(low))); y <= high; y = next_on_log(y))
            if (y >= low) draw_y_tick(out, curve, y);
    } else {
        for (double k = ceil(low / step - 1e-9); k * step <= high * (1 + 1e-9); k++) draw_y_tick(out, curve, k * step);
    }
    for (double k = ceil(curve->x_low / x_step - 1e-9); k * x_step <= curve->x_high * (1 + 1e-9); k++)
        draw_x_tick(out, curve, k * x_step);
    fprintf(out, "<text x=\"%d\" y=\"%d\" text-anchor=\"end\">", curve->right, HEIGHT - 2);
    html_text(out, x_name);
    fputs("</text>\n", out);
}

// Its points, neighbouring rows averaged down to what the eye can tell apart; `spreads` of them higher, from the last
// row to the first when that is negative, as the second half of a band's outline is.
static void draw_points(FILE *out, const Curve *curve, int line, int spreads) {
    const size_t group = (curve->n + POINTS - 1) / POINTS, n_groups = (curve->n + group - 1) / group;
    for (size_t g = 0; g < n_groups; g++) {
        const size_t first = (spreads < 0 ? n_groups - 1 - g : g) * group;
        const size_t n = curve->n - first < group ? curve->n - first : group;
        double x = 0, y = 0, found = 0;
        for (size_t i = first; i < first + n; i++) {
            const double *row = curve->values + i * curve->stride;
            const double value = spreads ? row[line] + spreads * row[curve->n_lines + line] : row[line];
            if (isnan(value)) continue;
            x += row[curve->stride - 1];
            y += value;
            found++;
        }
        if (found > 0) fprintf(out, "%.1f,%.1f ", place_x(curve, x / found), place_y(curve, y / found));
    }
}

static void draw_stroke(FILE *out, int line) {
    fprintf(out, " stroke=\"%s\" stroke-width=\"1.6\"%s", colours[line % N_COLOURS],
            line < N_COLOURS ? "" : " stroke-dasharray=\"5 3\"");
}

static void draw_line(FILE *out, const Curve *curve, int line) {
    if (curve->columns[curve->n_lines + line] >= 0) {
        fprintf(out, "<polygon fill=\"%s\" fill-opacity=\"0.15\" points=\"", colours[line % N_COLOURS]);
        draw_points(out, curve, line, 1);
        draw_points(out, curve, line, -1);
        fputs("\"/>\n", out);
    }
    fputs("<polyline fill=\"none\"", out);
    draw_stroke(out, line);
    fputs(" points=\"", out);
    draw_points(out, curve, line, 0);
    fputs("\"/>\n", out);
}

static void draw_name(FILE *out, const Curve *curve, int line) {
    const bool few = curve->n_lines <= FEW_LINES;
    const int x = curve->right + (few ? -8 : 34), y = TOP + 14 + 16 * line;
    if (!few) {
        fprintf(out, "<path d=\"M%d %dh20\"", curve->right + 8, y - 4);
        draw_stroke(out, line);
        fputs("/>\n", out);
    }
    fprintf(out, "<text x=\"%d\" y=\"%d\" fill=\"%s\" text-anchor=\"%s\">", x, y, colours[line % N_COLOURS],
            few ? "end" : "start");
    html_text(out, curve->names[line]);
    fputs("</text>\n", out);
}

static void draw(FILE *out, const Curve *curve, const char *x_name) {
    fprintf(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" viewBox=\"0 0 %d %d\" font-size=\"12\" "
        "font-family=\"sans-serif\" fill=\"#444\">\n",
        WIDTH, HEIGHT, WIDTH, HEIGHT);
    fprintf(out, "<rect width=\"%d\" height=\"%d\" fill=\"#fff\"/>\n", WIDTH, HEIGHT);
    draw_axes(out, curve, x_name);
    const int width = curve->right - LEFT, height = HEIGHT - TOP - BOTTOM; // beyond which nothing is drawn
    fprintf(out, "<svg x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\" viewBox=\"%d %d %d %d\">\n", LEFT, TOP, width,
            height, LEFT, TOP, width, height);
    for (int k = 0; k < curve->n_lines; k++) draw_line(out, curve, k);
    fputs("</svg>\n", out);
    for (int k = 0; k < curve->n_lines; k++) draw_name(out, curve, k);
    fputs("</svg>\n", out);
}

KinditStatus html_svg_curve(FILE *out, KinditContext *ctx, const char *path, const char *x, const cJSON *y,
                            HtmlRange range) {
    FileMap map;
    char *text;
    Curve curve = {0};
    TRY(file_map(&map, ctx, path));
    KinditStatus status = memory_alloc(ctx, map.size + 1, 1, &text); // ends in NUL
    if (!status && map.size) memcpy(text, map.data, map.size);
    file_unmap(&map);
    if (!status) status = find_columns(&curve, ctx, path, text, x, y);
    if (!status) status = read_rows(&curve, ctx, text);
    curve.right = WIDTH - (curve.n_lines <= FEW_LINES ? RIGHT : NAMES);
    if (!status && curve.n) {
        find_range(&curve, range);
        draw(out, &curve, x);
    }
    memory_free(&curve.values);
    memory_free(&text);
    return status;
}

KinditStatus html_curve(FILE *out, KinditContext *ctx, const char *path, const char *x, const cJSON *y,
                        HtmlRange range) {
    fputs("<figure>", out);
    TRY(html_svg_curve(out, ctx, path, x, y, range));
    fputs("</figure>\n", out);
    return KINDIT_OK;
}
