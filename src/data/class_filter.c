#include "data/dataset.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct Merge {
    const char *member, *superclass, *name;
} Merge;

typedef struct Wanted {
    const char *text;                // id or name, as the user wrote it
    char found[DIT_CLASS_NAME_SIZE]; // id of the class it stands for, "" while none came
    bool ambiguous;                  // a second id has that name too
} Wanted;

struct ClassFilter {
    KinditContext *ctx;
    Arena arena;
    Wanted *wanted; // NULL: all
    size_t n_wanted;
    Merge *merges; // sorted by member
    size_t n_merges;
};

// Cuts `text` in place at each `separator`: *fields = pointers to the pieces.
static KinditStatus split_text(ClassFilter *filter, char *text, char separator, const char ***fields, size_t *n) {
    *n = 1;
    for (const char *c = text; *c; c++) *n += *c == separator;
    TRY(arena_alloc(&filter->arena, filter->ctx, *n, sizeof **fields, fields));
    for (size_t i = 0; i < *n; i++) {
        (*fields)[i] = text;
        char *end = strchr(text, separator);
        if (!end) break;
        *end = '\0';
        text = end + 1;
    }
    return KINDIT_OK;
}

static KinditStatus read_wanted(ClassFilter *filter, const char *classes) {
    char *text;
    const char **fields;
    TRY(arena_copy_string(&filter->arena, filter->ctx, classes, &text));
    TRY(split_text(filter, text, ',', &fields, &filter->n_wanted));
    TRY(arena_alloc(&filter->arena, filter->ctx, filter->n_wanted, sizeof *filter->wanted, &filter->wanted));
    for (size_t i = 0; i < filter->n_wanted; i++) {
        if (fields[i][0] == '\0')
            return context_fail(filter->ctx, KINDIT_ERROR_ARGUMENT, "classes \"%s\": empty name in the list", classes);
        filter->wanted[i] = (Wanted){.text = fields[i]};
    }
    return KINDIT_OK;
}

// Columns of a merge file; -1 for none.
typedef struct Columns {
    int superclass, member, name;
} Columns;

static int find_column(const char *const *fields, size_t n, const char *name) {
    for (size_t i = 0; i < n; i++)
        if (strcmp(fields[i], name) == 0) return (int)i;
    return -1;
}

// Takes a header's columns; false when the line is no header.
static bool read_header(const char *const *fields, size_t n, Columns *columns) {
    Columns found = {find_column(fields, n, "superclass"), find_column(fields, n, "member"),
                     find_column(fields, n, "name")};
    if (found.superclass < 0 || found.member < 0) return false;
    *columns = found;
    return true;
}

static KinditStatus read_line(ClassFilter *filter, const char *path, size_t number, char *line, Columns *columns) {
    bool comment = line[0] == '#';
    const char **fields;
    size_t n;
    if (comment) line += 1 + strspn(line + 1, " ");
    TRY(split_text(filter, line, '\t', &fields, &n));
    bool header = (comment || filter->n_merges == 0) && read_header(fields, n, columns);
    if (header || comment || (n == 1 && fields[0][0] == '\0')) return KINDIT_OK;
    if ((int)n <= columns->superclass || (int)n <= columns->member || (int)n <= columns->name)
        return context_fail(filter->ctx, KINDIT_ERROR_FORMAT,
                            "%s:%zu: expected superclass <tab> member, found %zu fields", path, number, n);
    Merge merge = {.member = fields[columns->member], .superclass = fields[columns->superclass]};
    merge.name = columns->name >= 0 ? fields[columns->name] : merge.superclass;
    if (!dataset_class_id_valid(merge.superclass) || merge.member[0] == '\0' || merge.name[0] == '\0')
        return context_fail(
            filter->ctx, KINDIT_ERROR_FORMAT,
            "%s:%zu: expected a superclass id of letters, digits, - _ . and a member, found \"%s\", \"%s\"", path,
            number, merge.superclass, merge.member);
    filter->merges[filter->n_merges++] = merge;
    return KINDIT_OK;
}

static int compare_members(const void *a, const void *b) {
    return strcmp(((const Merge *)a)->member, ((const Merge *)b)->member);
}

static int compare_superclasses(const void *a, const void *b) {
    return strcmp(((const Merge *)a)->superclass, ((const Merge *)b)->superclass);
}

static KinditStatus check_merges(ClassFilter *filter, const char *path) {
    Merge *merges = filter->merges;
    qsort(merges, filter->n_merges, sizeof *merges, compare_superclasses);
    for (size_t i = 1; i < filter->n_merges; i++)
        if (compare_superclasses(&merges[i - 1], &merges[i]) == 0 && strcmp(merges[i - 1].name, merges[i].name) != 0)
            return context_fail(filter->ctx, KINDIT_ERROR_FORMAT,
                                "%s: superclass \"%s\" is named both \"%s\" and \"%s\"", path, merges[i].superclass,
                                merges[i - 1].name, merges[i].name);
    qsort(merges, filter->n_merges, sizeof *merges, compare_members);
    for (size_t i = 1; i < filter->n_merges; i++)
        if (compare_members(&merges[i - 1], &merges[i]) == 0 && compare_superclasses(&merges[i - 1], &merges[i]) != 0)
            return context_fail(filter->ctx, KINDIT_ERROR_FORMAT, "%s: \"%s\" is a member of both \"%s\" and \"%s\"",
                                path, merges[i].member, merges[i - 1].superclass, merges[i].superclass);
    return KINDIT_OK;
}

static KinditStatus read_merges(ClassFilter *filter, const char *path) {
    FileMap map;
    char *text = NULL;
    TRY(file_map(&map, filter->ctx, path));
    KinditStatus status = arena_alloc(&filter->arena, filter->ctx, map.size + 1, 1, &text);
    if (!status && map.size) memcpy(text, map.data, map.size);
    if (!status) text[map.size] = '\0';
    file_unmap(&map);
    TRY(status);
    size_t n_lines = 1, number = 0;
    for (const char *c = text; *c; c++) n_lines += *c == '\n';
    TRY(arena_alloc(&filter->arena, filter->ctx, n_lines, sizeof *filter->merges, &filter->merges));
    Columns columns = {.superclass = 0, .member = 1, .name = -1};
    for (char *line = text; line;) {
        char *end = strchr(line, '\n'), *next = end ? end + 1 : NULL;
        if (!end) end = line + strlen(line);
        if (end > line && end[-1] == '\r') end--;
        *end = '\0';
        TRY(read_line(filter, path, ++number, line, &columns));
        line = next;
    }
    return check_merges(filter, path);
}

KinditStatus class_filter_create(ClassFilter **out, KinditContext *ctx, const char *classes, const char *merge_tsv) {
    TRY(memory_alloc(ctx, 1, sizeof **out, out));
    (*out)->ctx = ctx;
    KinditStatus status = KINDIT_OK;
    if (classes) status = read_wanted(*out, classes);
    if (!status && merge_tsv) status = read_merges(*out, merge_tsv);
    if (status) class_filter_close(out);
    return status;
}

static const Merge *find_merge(const ClassFilter *filter, const char *member) {
    Merge key = {.member = member};
    return filter->n_merges ? bsearch(&key, filter->merges, filter->n_merges, sizeof key, compare_members) : NULL;
}

bool class_filter_target(ClassFilter *filter, const char *id, const char *name, ClassTarget *out) {
    const Merge *merge = find_merge(filter, id);
    if (!merge) merge = find_merge(filter, name);
    *out = merge ? (ClassTarget){.id = merge->superclass, .name = merge->name} : (ClassTarget){.id = id, .name = name};
    bool is_wanted = filter->wanted == NULL;
    for (size_t i = 0; i < filter->n_wanted; i++) {
        Wanted *wanted = &filter->wanted[i];
        if (strcmp(wanted->text, out->id) != 0 && strcmp(wanted->text, out->name) != 0) continue;
        if (wanted->found[0] == '\0') snprintf(wanted->found, sizeof wanted->found, "%s", out->id);
        if (strcmp(wanted->found, out->id) != 0) wanted->ambiguous = true;
        is_wanted = true;
    }
    return is_wanted;
}

KinditStatus class_filter_check_used(const ClassFilter *filter, KinditContext *ctx) {
    char list[600] = "";
    size_t used = 0;
    for (size_t i = 0; i < filter->n_wanted; i++) {
        const Wanted *wanted = &filter->wanted[i];
        if (wanted->ambiguous)
            return context_fail(ctx, KINDIT_ERROR_ARGUMENT, "class \"%s\" is the name of \"%s\" and of others: use ids",
                                wanted->text, wanted->found);
        if (wanted->found[0] == '\0' && used + strlen(wanted->text) + 3 < sizeof list)
            used += (size_t)snprintf(list + used, sizeof list - used, "%s%s", used ? ", " : "", wanted->text);
    }
    if (used) return context_fail(ctx, KINDIT_ERROR_ARGUMENT, "the source has no class %s", list);
    return KINDIT_OK;
}

void class_filter_close(ClassFilter **filter) {
    if (!filter || !*filter) return;
    arena_close(&(*filter)->arena);
    memory_free(filter);
}
