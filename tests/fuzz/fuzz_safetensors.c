#include "formats/safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

// Whatever is accepted must lie inside the input: reading every tensor makes ASan check it.
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    Safetensors file;
    if (safetensors_parse(&file, NULL, "fuzz", data, size) != KINDIT_OK) return 0;
    size_t n_bytes = 0;
    for (int i = 0; i < file.n_tensors; i++) {
        const Tensor *tensor = &file.tensors[i];
        n_bytes += tensor->n_bytes;
        float values[16];
        for (size_t at = 0; at < tensor->n_elements; at += 16) {
            size_t left = tensor->n_elements - at;
            if (tensor_read_float(tensor, NULL, at, left < 16 ? left : 16, values) != KINDIT_OK) break;
        }
    }
    if (n_bytes > size) __builtin_trap();
    safetensors_close(&file);
    return 0;
}
