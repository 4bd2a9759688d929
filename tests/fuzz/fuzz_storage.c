// Any bytes as a file of a model of two tensors: what is accepted is read to the last row, inside the input, and is
// numbers where it was stored in few bits.
#include <math.h>
#include <stdlib.h>

#include "model/storage_file.h"

enum { ROWS = 3, ROW = 35 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_rows(const Safetensors *file, const ParamSpec *spec, int64_t n_rows) {
    StoredTensor tensor;
    float row[ROW];
    if (storage_find(&tensor, file, NULL, spec, n_rows)) return;
    for (size_t i = 0; i < (size_t)n_rows; i++) {
        if (storage_read(&tensor, NULL, i, 1, row)) continue;
        for (size_t k = 0; k < spec->row && tensor.bits; k++)
            if (!isfinite(row[k])) abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const ParamSpec matrix = {.name = "w", .n_dims = 2, .shape = {ROWS, ROW}, .row = ROW, .quantise = true};
    const ParamSpec vector = {.name = "b", .n_dims = 1, .shape = {ROWS}, .row = 1};
    Safetensors file;
    if (safetensors_parse(&file, NULL, "fuzz", data, size)) return 0;
    read_rows(&file, &matrix, ROWS);
    read_rows(&file, &vector, ROWS);
    safetensors_close(&file);
    return 0;
}
