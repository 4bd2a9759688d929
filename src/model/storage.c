#include "model/storage.h"

#include "formats/quant.h"

static const struct {
    const char *name;
    int bits; // of a matrix; 0: floats
    Dtype dtype;
} types[] = {
    [STORAGE_F32] = {"f32", 0, DTYPE_F32},
    [STORAGE_BF16] = {"bf16", 0, DTYPE_BF16},
    [STORAGE_INT8] = {"int8", 8, DTYPE_BF16},
    [STORAGE_INT4] = {"int4", 4, DTYPE_BF16},
};

const char *storage_name(StorageType type) {
    return types[type].name;
}

int storage_bits(StorageType type, const ParamSpec *spec) {
    return spec->quantise ? types[type].bits : 0;
}

Dtype storage_dtype(StorageType type) {
    return types[type].dtype;
}

size_t storage_row_bytes(StorageType type, const ParamSpec *spec) {
    int bits = storage_bits(type, spec);
    if (bits == 0) return spec->row * dtype_size(storage_dtype(type));
    return quant_row_bytes(bits, spec->row) + quant_row_scales(bits, spec->row) * sizeof(uint16_t);
}
