#include "adapt/adapt_methods.h"

#include <stdio.h>
#include <string.h>

enum { BASE = ROLE_SHARED | ROLE_LEARNGENE };
enum { ALL_SHARED = ROLE_SHARED | ROLE_LEARNGENE | ROLE_LABELS };

const AdaptMethod adapt_methods[] = {
    // Label dropout: a sample without its label opens no tailor, so that with a frozen null row it would teach nothing.
    {"kind", "fresh tailors beside a frozen learngene (the paper's Section 3.4)", ADAPT_FACTORED, ALL_SHARED, 1e-3, 0,
     ADAPTER_NONE, ADAPT_AS_IS, ADAPT_ALL_BLOCKS},
    {"kind-nogate", "as many components without a gate, for every class at once (Table 4, #3)", ADAPT_FACTORED, BASE,
     1e-3, 0.1, ADAPTER_COMPONENTS, ADAPT_AS_IS, ADAPT_ALL_BLOCKS},
    {"learngene-lora", "LoRA beside a frozen learngene (Table 4, #2)", ADAPT_FACTORED, BASE, 1e-3, 0.1, ADAPTER_LORA,
     ADAPT_AS_IS, ADAPT_ALL_BLOCKS},
    {"svd-lora", "LoRA beside singular vectors of the dense model, chosen at random (Table 4, #1)", ADAPT_DENSE, BASE,
     1e-3, 0.1, ADAPTER_LORA, ADAPT_RANDOM_VECTORS, ADAPT_ALL_BLOCKS},
    {"lora", "LoRA: two thin matrices beside each frozen one", ADAPT_DENSE, BASE, 1e-3, 0.1, ADAPTER_LORA, ADAPT_AS_IS,
     ADAPT_ALL_BLOCKS},
    {"pissa", "LoRA that starts from the strongest singular components", ADAPT_DENSE, BASE, 1e-3, 0.1, ADAPTER_LORA,
     ADAPT_PRINCIPAL, ADAPT_ALL_BLOCKS},
    {"dora", "LoRA, and the length of each row of the sum", ADAPT_DENSE, BASE, 1e-3, 0.1, ADAPTER_DORA, ADAPT_AS_IS,
     ADAPT_ALL_BLOCKS},
    {"loha", "the product, element by element, of two such pairs", ADAPT_DENSE, BASE, 1e-3, 0.1, ADAPTER_LOHA,
     ADAPT_AS_IS, ADAPT_ALL_BLOCKS},
    {"oft", "block-diagonal rotations of what each frozen matrix reads", ADAPT_DENSE, BASE, 1e-4, 0.1, ADAPTER_OFT,
     ADAPT_AS_IS, ADAPT_ALL_BLOCKS},
    {"svdiff", "shifts of the singular values", ADAPT_DENSE, BASE, 5e-3, 0.1, ADAPTER_SVDIFF, ADAPT_ALL_VECTORS,
     ADAPT_ALL_BLOCKS},
    {"heur-lg", "the base's last blocks; those before them are fresh, and everything trains", ADAPT_DENSE, 0, 1e-4, 0.1,
     ADAPTER_NONE, ADAPT_AS_IS, ADAPT_LAST_BLOCKS},
    {"auto-lg", "blocks most like those of a model briefly trained on the new data; the others are fresh", ADAPT_DENSE,
     0, 1e-4, 0.1, ADAPTER_NONE, ADAPT_AS_IS, ADAPT_SIMILAR_BLOCKS},
    {"laptop", "a smaller model: the blocks that the output needs most, taught by the whole (Laptop-diff)", ADAPT_DENSE,
     0, 1e-4, 0.1, ADAPTER_NONE, ADAPT_AS_IS, ADAPT_NEEDED_BLOCKS},
    {"full", "everything trains", ADAPT_FACTORED | ADAPT_DENSE, 0, 1e-4, 0.1, ADAPTER_NONE, ADAPT_AS_IS,
     ADAPT_ALL_BLOCKS},
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
