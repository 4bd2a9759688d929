#include "formats/torch_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

// The zip, the pickle in it, and what they say of storages: whatever is accepted must lie inside the input.
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    Safetensors file;
    if (torch_file_parse(&file, NULL, "fuzz", data, size) != KINDIT_OK) return 0;
    for (int i = 0; i < file.n_tensors; i++) {
        const Tensor *tensor = &file.tensors[i];
        float first, last;
        if (tensor->n_elements == 0) continue;
        if (tensor->n_bytes > size) __builtin_trap();
        if (tensor_read_float(tensor, NULL, 0, 1, &first) != KINDIT_OK) continue;
        if (tensor_read_float(tensor, NULL, tensor->n_elements - 1, 1, &last) != KINDIT_OK) __builtin_trap();
    }
    safetensors_close(&file);
    return 0;
}
