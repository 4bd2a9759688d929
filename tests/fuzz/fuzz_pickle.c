#include "formats/pickle.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

// The stream alone, without the CRC-32 of the archive around it, which random changes rarely get past.
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const char *const globals[] = {"collections OrderedDict", "torch._utils _rebuild_tensor_v2",
                                          "torch FloatStorage", NULL};
    Arena arena = {0};
    Pickle pickle;
    if (pickle_parse(&pickle, &arena, NULL, "fuzz", data, size, globals) == KINDIT_OK) pickle_get(pickle.root, "ema");
    arena_close(&arena);
    return 0;
}
