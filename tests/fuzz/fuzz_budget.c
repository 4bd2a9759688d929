#include <string.h>

#include "base/memory.h"
#include "kind/budget.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

// What is accepted is at least one limit of at least 1.
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char *text;
    BudgetCost limits;
    if (memory_alloc(NULL, size + 1, 1, &text)) return 0;
    memcpy(text, data, size);
    if (!budget_parse(NULL, text, &limits)) {
        int n = 0;
        for (int d = 0; d < BUDGET_DIMENSIONS; d++) n += limits.of[d] >= 1 && limits.of[d] <= 0x1p53;
        if (n == 0) __builtin_trap();
    }
    memory_free(&text);
    return 0;
}
