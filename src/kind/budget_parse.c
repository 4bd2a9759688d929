// What people write for a budget.
#include <ctype.h>
#include <string.h>

#include "kind/budget.h"

// The factor of "", "k", "M", "G", "Ki", "Mi", "Gi", each with or without "B"; 0 for anything else.
static double unit_factor(const char *unit) {
    static const char prefixes[] = "kmg";
    const char *prefix = *unit ? strchr(prefixes, tolower((unsigned char)*unit)) : NULL;
    double factor = 1;
    if (prefix) {
        bool binary = tolower((unsigned char)unit[1]) == 'i';
        for (const char *p = prefixes; p <= prefix; p++) factor *= binary ? 1024 : 1000;
        unit += binary ? 2 : 1;
    }
    unit += tolower((unsigned char)*unit) == 'b';
    return *unit == '\0' ? factor : 0;
}

KinditStatus budget_parse_size(KinditContext *ctx, const char *text, int64_t *out) {
    double digits = 0, scale = 1; // digits / scale: exact where a running sum of tenths would not be
    size_t whole = strspn(text, "0123456789");
    size_t fraction = whole > 0 && text[whole] == '.' ? 1 + strspn(text + whole + 1, "0123456789") : 0;
    for (size_t i = 0; i < whole + fraction; i++) {
        if (i == whole) continue; // the point
        digits = digits * 10 + (text[i] - '0');
        if (i > whole) scale *= 10;
    }
    double bytes = digits * unit_factor(text + whole + fraction) / scale;
    if (whole == 0 || !(bytes >= 1 && bytes <= 0x1p53))
        return context_fail(ctx, KINDIT_ERROR_ARGUMENT,
                            "\"%.40s\": expected a size of at least 1 byte such as 4MB, 3.5MiB, 500k or 123456", text);
    *out = (int64_t)bytes;
    return KINDIT_OK;
}

// The dimension named by the first `length` letters of text, BUDGET_DIMENSIONS when there is none.
static int find_dimension(const char *text, size_t length) {
    int d = 0;
    while (d < BUDGET_DIMENSIONS && (strlen(budget_names[d]) != length || strncmp(budget_names[d], text, length) != 0))
        d++;
    return d;
}

// One of the list: "4MB" or "params=1.2M".
static KinditStatus parse_one(KinditContext *ctx, const char *text, size_t length, BudgetCost *limits) {
    char value[64];
    int64_t size = 0;
    int d = BUDGET_BYTES;
    const char *equals = memchr(text, '=', length);
    if (equals) {
        d = find_dimension(text, (size_t)(equals - text));
        length -= (size_t)(equals + 1 - text);
        text = equals + 1;
    }
    if (d == BUDGET_DIMENSIONS || length >= sizeof value)
        return context_fail(ctx, KINDIT_ERROR_ARGUMENT,
                            "budget: expected a size such as 4MB, or bytes=4MB,params=1.2M,flops=3G,memory=16MB");
    memcpy(value, text, length);
    value[length] = '\0';
    KinditStatus status = budget_parse_size(ctx, value, &size);
    if (status) return context_prefix(ctx, status, "budget");
    if (limits->of[d] > 0)
        return context_fail(ctx, KINDIT_ERROR_ARGUMENT, "budget: %s is given twice", budget_names[d]);
    limits->of[d] = (double)size;
    return KINDIT_OK;
}

KinditStatus budget_parse(KinditContext *ctx, const char *text, BudgetCost *limits) {
    *limits = (BudgetCost){0};
    for (bool more = true; more;) {
        size_t length = strcspn(text, ",");
        TRY(parse_one(ctx, text, length, limits));
        more = text[length] == ',';
        text += length + more;
    }
    return KINDIT_OK;
}
