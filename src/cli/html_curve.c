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
    TICKS = 5
};

enum { N_COLOURS = 8 }; // after which lines are dashed
static const char *const colours[N_COLOURS] = {"#1f5fa8", "#c0561b", "#3b7d3b", "#7a4b9a",
                                               "#b8860b", "#1a8f8f", "#b03060", "#555555"};

typedef struct Curve {
    int n_lines;
    const char *names[MOST_LINES];
    int columns[MOST_LINES + 1]; // in the file; the last is x
    size_t n;
    double *values;                      // (n, n_lines + 1), x last
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

static KinditStatus find_columns(Curve *curve, KinditContext *ctx, const char *path, const char *text, const char *x,
                                 const cJSON *y) {
    const cJSON *item;
    cJSON_ArrayForEach(item, y) {
        if (curve->n_lines < MOST_LINES && cJSON_IsString(item)) curve->names[curve->n_lines++] = item->valuestring;
    }
    for (int i = 0; i <= curve->n_lines; i++) {
        const char *name = i < curve->n_lines ? curve->names[i] : x;
        curve->columns[i] = find_column(text, name);
        if (curve->columns[i] < 0)
            return context_fail(ctx, KINDIT_ERROR_FORMAT, "%s: no column '%s' in its first line", path, name);
    }
    return curve->n_lines ? KINDIT_OK
                          : context_fail(ctx, KINDIT_ERROR_ARGUMENT, "%s: a curve needs names in \"y\"", path);
}

// Cells that are no finite numbers become NaN; rows without x or without any y are passed over.
static KinditStatus read_rows(Curve *curve, KinditContext *ctx, const char *text) {
    size_t lines = 0, stride = (size_t)curve->n_lines + 1;
    for (const char *c = text; *c; c++) lines += *c == '\n';
    TRY(memory_alloc(ctx, lines + 1, stride * sizeof *curve->values, &curve->values));
    for (const char *line = strchr(text, '\n'); line && line[1]; line = strchr(line + 1, '\n')) {
        double *row = curve->values + curve->n * stride;
        bool any = false;
        for (size_t i = 0; i < stride; i++) {
            char *end;
            const char *cell = find_cell(line + 1, curve->columns[i]);
            bool empty = !cell || strcspn(cell, ",\r\n") == 0; // strtod would go on to the next line
            row[i] = empty ? NAN : strtod(cell, &end);
            if (!empty && (end == cell || !isfinite(row[i]))) row[i] = NAN;
            any = any || (i + 1 < stride && !isnan(row[i]));
        }
        curve->n += any && !isnan(row[stride - 1]);
    }
    return KINDIT_OK;
}

static void find_range(Curve *curve, bool from_zero) {
    size_t stride = (size_t)curve->n_lines + 1;
    curve->x_low = curve->y_low = INFINITY;
    curve->x_high = curve->y_high = -INFINITY;
    for (size_t i = 0; i < curve->n; i++) {
        const double *row = curve->values + i * stride;
        curve->x_low = fmin(curve->x_low, row[curve->n_lines]);
        curve->x_high = fmax(curve->x_high, row[curve->n_lines]);
        for (int k = 0; k < curve->n_lines; k++) {
            curve->y_low = fmin(curve->y_low, row[k]); // of NaN and a number it is the number
            curve->y_high = fmax(curve->y_high, row[k]);
        }
    }
    if (from_zero) curve->y_low = fmin(curve->y_low, 0);
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
    if (curve->log_y) y = log(y);
    return HEIGHT - BOTTOM - (y - curve->y_low) / (curve->y_high - curve->y_low) * (HEIGHT - TOP - BOTTOM);
}

static void draw_axes(FILE *out, const Curve *curve, const char *x_name) {
    for (int i = 0; i <= TICKS; i++) {
        double share = (double)i / TICKS;
        double x = curve->x_low + share * (curve->x_high - curve->x_low);
        double y = curve->y_low + share * (curve->y_high - curve->y_low);
        if (curve->log_y) y = exp(y);
        fprintf(out, "<line x1=\"%d\" x2=\"%d\" y1=\"%.1f\" y2=\"%.1f\" stroke=\"#e4e4e0\"/>\n", LEFT, curve->right,
                place_y(curve, y), place_y(curve, y));
        fprintf(out, "<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%.2g</text>\n", LEFT - 6, place_y(curve, y) + 4, y);
        char number[32];
        snprintf(number, sizeof number, "%.5g", x);
        if (fabs(x) >= 1e5) cli_format_count(number, x); // or else an exponent
        fprintf(out, "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%s</text>\n", place_x(curve, x), HEIGHT - 16,
                number);
    }
    fprintf(out, "<text x=\"%d\" y=\"%d\" text-anchor=\"end\">", curve->right, HEIGHT - 2);
    html_text(out, x_name);
    fputs("</text>\n", out);
}

// Neighbouring rows are averaged down to what the eye can tell apart.
static void draw_line(FILE *out, const Curve *curve, int line) {
    size_t stride = (size_t)curve->n_lines + 1, group = (curve->n + POINTS - 1) / POINTS;
    fprintf(out, "<polyline fill=\"none\" stroke=\"%s\" stroke-width=\"1.6\"%s points=\"", colours[line % N_COLOURS],
            line < N_COLOURS ? "" : " stroke-dasharray=\"5 3\"");
    for (size_t first = 0; first < curve->n; first += group) {
        size_t n = curve->n - first < group ? curve->n - first : group;
        double x = 0, y = 0, found = 0;
        for (size_t i = first; i < first + n; i++) {
            const double *row = curve->values + i * stride;
            if (isnan(row[line])) continue;
            x += row[curve->n_lines];
            y += row[line];
            found++;
        }
        if (found > 0) fprintf(out, "%.1f,%.1f ", place_x(curve, x / found), place_y(curve, y / found));
    }
    const bool few = curve->n_lines <= FEW_LINES;
    fprintf(out, "\"/>\n<text x=\"%d\" y=\"%d\" fill=\"%s\" text-anchor=\"%s\">", curve->right + (few ? -8 : 8),
            TOP + 14 + 16 * line, colours[line % N_COLOURS], few ? "end" : "start");
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
    for (int k = 0; k < curve->n_lines; k++) draw_line(out, curve, k);
    fputs("</svg>\n", out);
}

KinditStatus html_svg_curve(FILE *out, KinditContext *ctx, const char *path, const char *x, const cJSON *y,
                            bool from_zero) {
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
        find_range(&curve, from_zero);
        draw(out, &curve, x);
    }
    memory_free(&curve.values);
    memory_free(&text);
    return status;
}

KinditStatus html_curve(FILE *out, KinditContext *ctx, const char *path, const char *x, const cJSON *y) {
    fputs("<figure>", out);
    TRY(html_svg_curve(out, ctx, path, x, y, false));
    fputs("</figure>\n", out);
    return KINDIT_OK;
}
