#include "formats/npy.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static volatile uint8_t sink;
    Npy npy;
    if (npz_parse(&npy, NULL, "fuzz", data, size, "arr_0") != KINDIT_OK) return 0;
    const uint8_t *bytes = npy.array.data;
    for (size_t i = 0; i < npy.array.n_bytes; i++) sink = sink ^ bytes[i];
    npy_close(&npy);
    return 0;
}
