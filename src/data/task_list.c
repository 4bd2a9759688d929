#include "data/task_list.h"

#include <stdlib.h>
#include <string.h>

#include "base/file.h"

// A field of the text: not ended by NUL.
typedef struct Field {
    const char *start;
    size_t length;
} Field;

typedef struct Parser {
    KinditContext *ctx;
    const char *name;
    TaskList *list;
    int capacity;
    int task_column, class_column;
    Field *classes; // [lines] of all tasks
    size_t n_classes;
} Parser;

static bool is_field(Field field, const char *text) {
    return field.length == strlen(text) && memcmp(field.start, text, field.length) == 0;
}

// Field number `column` of a line; its start is NULL when there are fewer.
static Field get_field(Field line, int column) {
    for (int i = 0;; i++) {
        const char *tab = memchr(line.start, '\t', line.length);
        const size_t length = tab ? (size_t)(tab - line.start) : line.length;
        if (i == column) return (Field){line.start, length};
        if (!tab) return (Field){0};
        line = (Field){tab + 1, line.length - length - 1};
    }
}

static int find_column(Field header, const char *name) {
    for (int i = 0;; i++) {
        const Field field = get_field(header, i);
        if (!field.start) return -1;
        if (is_field(field, name)) return i;
    }
}

static KinditStatus read_header(Parser *parser, Field line) {
    parser->task_column = find_column(line, "task");
    parser->class_column = find_column(line, "wnid");
    if (parser->task_column >= 0 && parser->class_column >= 0) return KINDIT_OK;
    return context_fail(parser->ctx, KINDIT_ERROR_FORMAT,
                        "%s:1: expected tab-separated names of columns, \"task\" and \"wnid\" among them",
                        parser->name);
}

static KinditStatus grow(Parser *parser) {
    TaskList *list = parser->list;
    Task *larger;
    const int capacity = parser->capacity ? 2 * parser->capacity : 16;
    if (list->n < parser->capacity) return KINDIT_OK;
    TRY(memory_alloc(parser->ctx, (size_t)capacity, sizeof *larger, &larger));
    if (list->n) memcpy(larger, list->tasks, (size_t)list->n * sizeof *larger);
    memory_free(&list->tasks);
    list->tasks = larger;
    parser->capacity = capacity;
    return KINDIT_OK;
}

// The task of that name, which may be new. Tasks come together as a rule, so the search starts at the last.
static KinditStatus find_task(Parser *parser, Field name, Task **out) {
    TaskList *list = parser->list;
    for (int i = list->n - 1; i >= 0; i--) {
        *out = &list->tasks[i];
        if (is_field(name, (*out)->name)) return KINDIT_OK;
    }
    if (list->n == MOST_TASKS)
        return context_fail(parser->ctx, KINDIT_ERROR_FORMAT, "%s: more than %d tasks", parser->name, MOST_TASKS);
    TRY(grow(parser));
    *out = &list->tasks[list->n++];
    memcpy((*out)->name, name.start, name.length); // room was zeroed, and the caller bounds the length
    return KINDIT_OK;
}

static KinditStatus read_line(Parser *parser, size_t number, Field line) {
    const Field name = get_field(line, parser->task_column), class = get_field(line, parser->class_column);
    Task *task;
    if (!name.start || !class.start || name.length == 0 || class.length == 0 || name.length >= TASK_NAME_SIZE ||
        memchr(name.start, '\0', name.length))
        return context_fail(parser->ctx, KINDIT_ERROR_FORMAT, "%s:%zu: expected a task of at most %d bytes and a class",
                            parser->name, number, TASK_NAME_SIZE - 1);
    TRY(find_task(parser, name, &task));
    task->n_classes++;
    parser->classes[parser->n_classes++] = class;
    return KINDIT_OK;
}

static int compare_fields(const void *a, const void *b) {
    const Field *x = a, *y = b;
    const int order = memcmp(x->start, y->start, x->length < y->length ? x->length : y->length);
    return order ? order : (x->length > y->length) - (x->length < y->length);
}

static KinditStatus check_classes(Parser *parser) {
    qsort(parser->classes, parser->n_classes, sizeof *parser->classes, compare_fields);
    for (size_t i = 1; i < parser->n_classes; i++)
        if (compare_fields(&parser->classes[i - 1], &parser->classes[i]) == 0)
            return context_fail(parser->ctx, KINDIT_ERROR_FORMAT, "%s: class \"%.*s\" comes twice", parser->name,
                                (int)(parser->classes[i].length < 80 ? parser->classes[i].length : 80),
                                parser->classes[i].start);
    return KINDIT_OK;
}

static KinditStatus read_lines(Parser *parser, const char *text, size_t size) {
    size_t number = 0;
    for (size_t at = 0; at < size;) {
        const char *end = memchr(text + at, '\n', size - at);
        const size_t length = end ? (size_t)(end - text) - at : size - at;
        const Field line = {text + at, length};
        at += length + 1;
        TRY(++number == 1 ? read_header(parser, line) : read_line(parser, number, line));
    }
    if (parser->n_classes == 0) return context_fail(parser->ctx, KINDIT_ERROR_FORMAT, "%s: no classes", parser->name);
    return check_classes(parser);
}

KinditStatus task_list_parse(TaskList *out, KinditContext *ctx, const char *name, const char *text, size_t size) {
    Parser parser = {.ctx = ctx, .name = name, .list = out};
    size_t lines = 1;
    *out = (TaskList){0};
    for (size_t i = 0; i < size; i++) lines += text[i] == '\n';
    TRY(memory_alloc(ctx, lines, sizeof *parser.classes, &parser.classes));
    KinditStatus status = read_lines(&parser, text, size);
    memory_free(&parser.classes);
    if (status) task_list_close(out);
    return status;
}

KinditStatus task_list_read(TaskList *out, KinditContext *ctx, const char *path) {
    FileMap map;
    *out = (TaskList){0};
    TRY(file_map(&map, ctx, path));
    KinditStatus status = task_list_parse(out, ctx, path, (const char *)map.data, map.size);
    file_unmap(&map);
    return status;
}

void task_list_close(TaskList *list) {
    memory_free(&list->tasks);
    list->n = 0;
}
