// Rows of results in a CSV file, each with the whole recipe.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "cli/eval.h"

// Quoted where a separator is inside.
static void write_cell(FILE *out, const char *text) {
    if (!strpbrk(text, ",\"\n")) {
        fputs(text, out);
        return;
    }
    fputc('"', out);
    for (; *text; text++) {
        if (*text == '"') fputc('"', out);
        fputc(*text, out);
    }
    fputc('"', out);
}

static void write_value(FILE *out, const cJSON *item) {
    if (cJSON_IsString(item))
        write_cell(out, item->valuestring);
    else if (cJSON_IsBool(item))
        fputs(cJSON_IsTrue(item) ? "true" : "false", out);
    else if (cJSON_IsNumber(item))
        fprintf(out, "%.17g", item->valuedouble);
}

// Every figure has a column, so that rows of different metrics stand in one file.
static const char *const columns[] = {"fid",       "fdd",    "fd",      "sfid",     "is",      "is_deviation",
                                      "precision", "recall", "entropy", "variance", "kurtosis"};

static void write_header(FILE *out, const cJSON *recipe) {
    const cJSON *item;
    cJSON_ArrayForEach(item, recipe) fprintf(out, "%s,", item->string);
    for (size_t c = 0; c < sizeof columns / sizeof *columns; c++) fprintf(out, "%s%s", c ? "," : "", columns[c]);
    fputc('\n', out);
}

static void write_row(FILE *out, const cJSON *recipe, const EvalFigure *figures, int n) {
    const cJSON *item;
    cJSON_ArrayForEach(item, recipe) {
        write_value(out, item);
        fputc(',', out);
    }
    for (size_t c = 0; c < sizeof columns / sizeof *columns; c++) {
        if (c) fputc(',', out);
        for (int i = 0; i < n; i++)
            if (strcmp(figures[i].key, columns[c]) == 0) fprintf(out, "%.10g", figures[i].value);
    }
    fputc('\n', out);
}

static bool same_header(const FileMap *old, const char *header) {
    const size_t length = strlen(header);
    return old->size >= length && memcmp(old->data, header, length) == 0;
}

static KinditStatus write_file(KinditContext *ctx, const char *path, const FileMap *old, const char *header,
                               const cJSON *recipe, const EvalFigure *figures, int n) {
    FileWriter writer;
    if (old->size && !same_header(old, header))
        return context_fail(ctx, KINDIT_ERROR_FORMAT,
                            "%s: its columns are others than this program's; choose another file", path);
    TRY(file_begin(&writer, ctx, path));
    if (old->size)
        fwrite(old->data, 1, old->size, writer.stream);
    else
        fputs(header, writer.stream);
    write_row(writer.stream, recipe, figures, n);
    return file_commit(&writer, ctx);
}

KinditStatus eval_csv_append(KinditContext *ctx, const char *path, const cJSON *recipe, const EvalFigure *figures,
                             int n) {
    char *header = NULL;
    size_t length;
    FileMap old = {0};
    FILE *memory = open_memstream(&header, &length);
    if (!memory) return context_fail(ctx, KINDIT_ERROR_MEMORY, "out of memory");
    write_header(memory, recipe);
    fclose(memory);
    KinditStatus status = file_exists(path) ? file_map(&old, ctx, path) : KINDIT_OK;
    if (!status) status = write_file(ctx, path, &old, header, recipe, figures, n);
    file_unmap(&old);
    free(header);
    return status;
}
