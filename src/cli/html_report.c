// A report from its description: headings, pictures, curves and tables.
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "cli/html.h"

typedef struct Report {
    KinditContext *ctx;
    const char *spec;  // its path, for messages
    char folder[1024]; // of the spec: where its files lie
    FILE *out;
} Report;

static const char *string_of(const cJSON *object, const char *key) {
    return cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(object, key));
}

static KinditStatus require_string(const Report *report, const cJSON *object, const char *key, const char **out) {
    return json_get_string(object, report->ctx, report->spec, key, out);
}

static KinditStatus resolve(const Report *report, const char *file, char path[1024]) {
    if (file[0] == '/') return file_path(path, report->ctx, "%s", file);
    return file_path(path, report->ctx, "%s/%s", report->folder, file);
}

// ---- tables --------------------------------------------------------------------------------------------------------

// The value at "a.b.c", or NULL.
static const cJSON *find_value(const cJSON *object, const char *key) {
    char name[128];
    while (object && *key) {
        size_t length = strcspn(key, ".");
        if (length >= sizeof name) return NULL;
        memcpy(name, key, length);
        name[length] = '\0';
        object = cJSON_GetObjectItemCaseSensitive(object, name);
        key += length + (key[length] == '.');
    }
    return object;
}

static void write_value(FILE *out, const cJSON *value, const char *format) {
    char text[64];
    if (cJSON_IsString(value)) {
        html_text(out, value->valuestring);
    } else if (!cJSON_IsNumber(value)) {
        fputs("-", out);
    } else if (format && strcmp(format, "bytes") == 0) {
        fputs(cli_format_bytes(text, value->valuedouble), out);
    } else if (format && strcmp(format, "count") == 0) {
        fputs(cli_format_count(text, value->valuedouble), out);
    } else if (format && strcmp(format, "percent") == 0) {
        fprintf(out, "%.1f %%", 100 * value->valuedouble);
    } else {
        fprintf(out, "%.4g", value->valuedouble);
    }
}

// A row's own values, then those of the JSON files it names: the first that has the column's key.
static KinditStatus write_row(const Report *report, const cJSON *columns, const cJSON *row) {
    enum { MOST_FILES = 8 };
    cJSON *files[MOST_FILES] = {0};
    int n_files = 0;
    KinditStatus status = KINDIT_OK;
    const cJSON *item;
    cJSON_ArrayForEach(item, cJSON_GetObjectItemCaseSensitive(row, "files")) {
        char path[1024];
        if (status || !cJSON_IsString(item) || n_files == MOST_FILES) continue;
        status = resolve(report, item->valuestring, path);
        if (!status) status = json_read(&files[n_files++], report->ctx, path);
    }
    if (!status) fputs("<tr>", report->out);
    cJSON_ArrayForEach(item, columns) {
        const char *key = string_of(item, "key");
        const cJSON *value = key ? find_value(row, key) : NULL;
        for (int i = 0; i < n_files && !value && key; i++) value = find_value(files[i], key);
        fputs("<td>", report->out);
        write_value(report->out, value, string_of(item, "format"));
        fputs("</td>", report->out);
    }
    fputs("</tr>\n", report->out);
    for (int i = 0; i < n_files; i++) cJSON_Delete(files[i]);
    return status;
}

static KinditStatus write_table(const Report *report, const cJSON *table) {
    const cJSON *columns, *rows, *item;
    TRY(json_get_array(table, report->ctx, report->spec, "columns", &columns));
    TRY(json_get_array(table, report->ctx, report->spec, "rows", &rows));
    fputs("<table><tr>", report->out);
    cJSON_ArrayForEach(item, columns) {
        const char *label;
        TRY(require_string(report, item, "label", &label));
        html_element(report->out, "th", label);
    }
    fputs("</tr>\n", report->out);
    cJSON_ArrayForEach(item, rows) TRY(write_row(report, columns, item));
    fputs("</table>\n", report->out);
    return KINDIT_OK;
}

// ---- sections ------------------------------------------------------------------------------------------------------

static KinditStatus write_curve(const Report *report, const cJSON *curve) {
    const char *file, *x;
    const cJSON *y;
    char path[1024];
    TRY(require_string(report, curve, "file", &file));
    TRY(require_string(report, curve, "x", &x));
    TRY(json_get_array(curve, report->ctx, report->spec, "y", &y));
    TRY(resolve(report, file, path));
    const HtmlRange range = {.y_high = cJSON_GetNumberValue(cJSON_GetObjectItemCaseSensitive(curve, "y_high"))};
    return html_curve(report->out, report->ctx, path, x, y, range);
}

static KinditStatus write_section(const Report *report, const cJSON *section) {
    const cJSON *item, *table = cJSON_GetObjectItemCaseSensitive(section, "table");
    const cJSON *curve = cJSON_GetObjectItemCaseSensitive(section, "curve");
    html_element(report->out, "h2", string_of(section, "heading"));
    html_element(report->out, "p", string_of(section, "text"));
    cJSON_ArrayForEach(item, cJSON_GetObjectItemCaseSensitive(section, "images")) {
        const char *file;
        char path[1024];
        TRY(require_string(report, item, "file", &file));
        TRY(resolve(report, file, path));
        TRY(html_image(report->out, report->ctx, path, string_of(item, "caption")));
    }
    if (curve) TRY(write_curve(report, curve));
    if (table) TRY(write_table(report, table));
    cJSON_ArrayForEach(item, cJSON_GetObjectItemCaseSensitive(section, "commands"))
        html_element(report->out, "pre", cJSON_GetStringValue(item));
    return KINDIT_OK;
}

static KinditStatus write_report(Report *report, const cJSON *spec) {
    const char *title;
    const cJSON *sections, *section;
    TRY(require_string(report, spec, "title", &title));
    TRY(json_get_array(spec, report->ctx, report->spec, "sections", &sections));
    html_begin(report->out, title);
    html_element(report->out, "p", string_of(spec, "text"));
    cJSON_ArrayForEach(section, sections) TRY(write_section(report, section));
    html_end(report->out);
    return KINDIT_OK;
}

KinditStatus html_report(KinditContext *ctx, const char *path, const char *output) {
    Report report = {.ctx = ctx, .spec = path};
    const char *slash = strrchr(path, '/');
    cJSON *spec;
    FileWriter writer;
    TRY(file_path(report.folder, ctx, "%.*s", slash ? (int)(slash - path) : 1, slash ? path : "."));
    TRY(json_read(&spec, ctx, path));
    KinditStatus status = file_begin(&writer, ctx, output);
    if (!status) {
        report.out = writer.stream;
        status = write_report(&report, spec);
        if (status)
            file_abandon(&writer);
        else
            status = file_commit(&writer, ctx);
    }
    cJSON_Delete(spec);
    return status;
}
