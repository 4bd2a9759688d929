#include "base/json.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"

enum { JSON_MAX_DEPTH = 64 };

// Skips the string that opens at text[i] and returns the index of its closing quote, or `size` if it never closes. Sets
// *bad at what cJSON would let through: bare control characters, and an escaped NUL that would cut the C string short.
static size_t skip_string(const char *text, size_t size, size_t i, bool *bad) {
    for (i++; i < size && text[i] != '"'; i++) {
        if ((unsigned char)text[i] < 0x20) *bad = true;
        if (text[i] == '\\') {
            if (size - i >= 6 && memcmp(text + i, "\\u0000", 6) == 0) *bad = true;
            i++;
        }
    }
    return i;
}

// Bounds nesting before the recursive parser sees the text, and refuses the strings that skip_string calls bad.
static KinditStatus check_text(KinditContext *ctx, const char *name, const char *text, size_t size) {
    int depth = 0;
    for (size_t i = 0; i < size; i++) {
        bool bad = text[i] == '\0';
        if (text[i] == '"') i = skip_string(text, size, i, &bad);
        if (bad) return context_fail(ctx, KINDIT_ERROR_FORMAT, "%s: control character in JSON at byte %zu", name, i);
        if (i >= size) break;
        if (text[i] == '[' || text[i] == '{') depth++;
        if (text[i] == ']' || text[i] == '}') depth--;
        if (depth > JSON_MAX_DEPTH)
            return context_fail(ctx, KINDIT_ERROR_FORMAT, "%s: JSON nested deeper than %d at byte %zu", name,
                                JSON_MAX_DEPTH, i);
    }
    return KINDIT_OK;
}

static int compare_names(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

// Sorting keeps a header of a million names, all hostile, far from quadratic time. Depth is bounded by check_text.
static KinditStatus check_duplicates(KinditContext *ctx, const char *name, const cJSON *value) {
    size_t n = 0;
    const cJSON *child;
    cJSON_ArrayForEach(child, value) {
        n++;
        if (child->child) TRY(check_duplicates(ctx, name, child));
    }
    if (!cJSON_IsObject(value) || n < 2) return KINDIT_OK;
    const char **names;
    TRY(memory_alloc(ctx, n, sizeof *names, &names));
    n = 0;
    cJSON_ArrayForEach(child, value) names[n++] = child->string;
    qsort(names, n, sizeof *names, compare_names);
    KinditStatus status = KINDIT_OK;
    for (size_t i = 1; i < n && !status; i++)
        if (strcmp(names[i - 1], names[i]) == 0)
            status = context_fail(ctx, KINDIT_ERROR_FORMAT, "%s: key \"%s\" appears twice", name, names[i]);
    memory_free(&names);
    return status;
}

KinditStatus json_parse(cJSON **out, KinditContext *ctx, const char *name, const void *data, size_t size) {
    *out = NULL;
    TRY(check_text(ctx, name, data, size));
    char *text; // with a NUL: cJSON before 1.7.18 can look one byte past an unterminated text
    TRY(memory_alloc(ctx, size + 1, 1, &text));
    if (size) memcpy(text, data, size);
    const char *end = text;
    cJSON *value = cJSON_ParseWithLengthOpts(text, size + 1, &end, false);
    if (value) end += strspn(end, " \t\r\n");
    size_t position = (size_t)(end - text);
    KinditStatus status = KINDIT_OK;
    if (!value)
        status = context_fail(ctx, KINDIT_ERROR_FORMAT, "%s: not valid JSON near byte %zu", name, position);
    else if (position != size)
        status = context_fail(ctx, KINDIT_ERROR_FORMAT, "%s: JSON ends at byte %zu but %zu bytes follow", name,
                              position, size - position);
    else
        status = check_duplicates(ctx, name, value);
    memory_free(&text);
    if (status)
        cJSON_Delete(value);
    else
        *out = value;
    return status;
}

KinditStatus json_read(cJSON **out, KinditContext *ctx, const char *path) {
    *out = NULL;
    FileMap map;
    TRY(file_map(&map, ctx, path));
    KinditStatus status = json_parse(out, ctx, path, map.data, map.size);
    file_unmap(&map);
    return status;
}

// cJSON prints 15 digits where they are "close enough"; here each number becomes the shortest text that reads back
// exactly.
static KinditStatus spell_numbers(cJSON *value, KinditContext *ctx, const char *path) {
    cJSON *child;
    cJSON_ArrayForEach(child, value) TRY(spell_numbers(child, ctx, path));
    if (!cJSON_IsNumber(value)) return KINDIT_OK;
    if (!isfinite(value->valuedouble))
        return context_fail(ctx, KINDIT_ERROR_NUMERIC, "%s: \"%s\" is not a finite number, which JSON cannot hold",
                            path, value->string ? value->string : "");
    enum { TEXT_SIZE = 32 };
    char *text = cJSON_malloc(TEXT_SIZE);
    if (!text) return context_fail(ctx, KINDIT_ERROR_MEMORY, "%s: out of memory while printing JSON", path);
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(text, TEXT_SIZE, "%.*g", digits, value->valuedouble);
        if (strtod(text, NULL) == value->valuedouble) break;
    }
    value->type = (value->type & ~0xff) | cJSON_Raw; // printed as it is, and freed with the item
    value->valuestring = text;
    return KINDIT_OK;
}

KinditStatus json_write(KinditContext *ctx, const char *path, const cJSON *value) {
    cJSON *spelled = cJSON_Duplicate(value, true);
    if (!spelled) return context_fail(ctx, KINDIT_ERROR_MEMORY, "%s: out of memory while printing JSON", path);
    KinditStatus status = spell_numbers(spelled, ctx, path);
    char *text = status ? NULL : cJSON_Print(spelled);
    if (text) {
        size_t length = strlen(text);
        text[length] = '\n'; // in place of the NUL: text files end in a newline
        status = file_write(ctx, path, text, length + 1);
    } else if (!status) {
        status = context_fail(ctx, KINDIT_ERROR_MEMORY, "%s: out of memory while printing JSON", path);
    }
    cJSON_free(text);
    cJSON_Delete(spelled);
    return status;
}

static KinditStatus get_item(const cJSON *object, KinditContext *ctx, const char *name, const char *key, int type,
                             const char *type_name, const cJSON **out) {
    const cJSON *item = *out = cJSON_GetObjectItemCaseSensitive(object, key);
    if (!item)
        return context_fail(ctx, KINDIT_ERROR_FORMAT, "%s: \"%s\" is missing (expected %s)", name, key, type_name);
    if (!(item->type & type))
        return context_fail(ctx, KINDIT_ERROR_FORMAT, "%s: \"%s\": expected %s", name, key, type_name);
    return KINDIT_OK;
}

KinditStatus json_get_int(const cJSON *object, KinditContext *ctx, const char *name, const char *key, int64_t low,
                          int64_t high, int64_t *out) {
    const cJSON *item;
    TRY(get_item(object, ctx, name, key, cJSON_Number, "an integer", &item));
    double value = item->valuedouble;
    if (!(fabs(value) <= 0x1p53) || value != floor(value))
        return context_fail(ctx, KINDIT_ERROR_FORMAT, "%s: \"%s\": expected an integer, found %g", name, key, value);
    int64_t integer = (int64_t)value;
    if (integer < low || integer > high)
        return context_fail(ctx, KINDIT_ERROR_FORMAT, "%s: \"%s\": expected %lld..%lld, found %lld", name, key,
                            (long long)low, (long long)high, (long long)integer);
    *out = integer;
    return KINDIT_OK;
}

KinditStatus json_get_double(const cJSON *object, KinditContext *ctx, const char *name, const char *key, double *out) {
    const cJSON *item;
    TRY(get_item(object, ctx, name, key, cJSON_Number, "a number", &item));
    if (!isfinite(item->valuedouble))
        return context_fail(ctx, KINDIT_ERROR_FORMAT, "%s: \"%s\": expected a finite number", name, key);
    *out = item->valuedouble;
    return KINDIT_OK;
}

KinditStatus json_get_bool(const cJSON *object, KinditContext *ctx, const char *name, const char *key, bool *out) {
    const cJSON *item;
    TRY(get_item(object, ctx, name, key, cJSON_True | cJSON_False, "true or false", &item));
    *out = cJSON_IsTrue(item);
    return KINDIT_OK;
}

KinditStatus json_get_string(const cJSON *object, KinditContext *ctx, const char *name, const char *key,
                             const char **out) {
    const cJSON *item;
    TRY(get_item(object, ctx, name, key, cJSON_String, "a string", &item));
    *out = item->valuestring;
    return KINDIT_OK;
}

KinditStatus json_get_object(const cJSON *object, KinditContext *ctx, const char *name, const char *key,
                             const cJSON **out) {
    return get_item(object, ctx, name, key, cJSON_Object, "an object", out);
}

KinditStatus json_get_array(const cJSON *object, KinditContext *ctx, const char *name, const char *key,
                            const cJSON **out) {
    return get_item(object, ctx, name, key, cJSON_Array, "an array", out);
}

bool json_add_copy(cJSON *object, const char *key, const cJSON *item) {
    cJSON *copy = cJSON_Duplicate(item, true);
    if (!item || cJSON_AddItemToObject(object, key, copy)) return true;
    cJSON_Delete(copy);
    return false;
}
