#include "adapt/adapt_methods.h"

#include <stdio.h>
#include <string.h>

enum { ALL_SHARED = ROLE_SHARED | ROLE_LEARNGENE | ROLE_LABELS };

const AdaptMethod adapt_methods[] = {
    // Label dropout: a sample without its label opens no tailor, so that with a frozen null row it would teach nothing.
    {"kind", "fresh tailors beside a frozen learngene (the paper's Section 3.4)", ADAPT_FACTORED, ALL_SHARED, 1e-3, 0},
    {"full", "everything trains", ADAPT_FACTORED | ADAPT_DENSE, 0, 1e-4, 0.1},
};
const int n_adapt_methods = sizeof adapt_methods / sizeof *adapt_methods;

KinditStatus adapt_method_find(const AdaptMethod **out, KinditContext *ctx, const char *name) {
    char list[512] = "";
    for (int i = 0; i < n_adapt_methods; i++) {
        *out = &adapt_methods[i];
        if (strcmp((*out)->name, name) == 0) return KINDIT_OK;
        size_t length = strlen(list);
        snprintf(list + length, sizeof list - length, "%s%s", i ? ", " : "", (*out)->name);
    }
    return context_fail(ctx, KINDIT_ERROR_ARGUMENT, "no method \"%.80s\"; there are: %s", name, list);
}

bool adapt_method_keeps_learngene(const AdaptMethod *method) {
    return method->bases == ADAPT_FACTORED && (method->frozen & ALL_SHARED) == ALL_SHARED;
}
