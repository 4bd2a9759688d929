#include "formats/idx.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    Idx idx;
    if (idx_parse(&idx, NULL, "fuzz", data, size) != KINDIT_OK) return 0;
    size_t n = 1;
    for (int i = 0; i < idx.n_dims; i++) n *= (size_t)idx.shape[i];
    if (n != idx.n_elements) __builtin_trap();
    idx_close(&idx);
    return 0;
}
