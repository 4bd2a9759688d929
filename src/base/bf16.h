// bfloat16: the upper half of a float.
#ifndef BASE_BF16_H
#define BASE_BF16_H

#include <stdint.h>
#include <string.h>

static inline __attribute__((always_inline)) float bf16_to_float(uint16_t half) {
    uint32_t bits = (uint32_t)half << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

// To nearest, ties to even; NaN is kept (quiet).
static inline __attribute__((always_inline)) uint16_t bf16_from_float(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    bits = value != value ? bits | 0x400000 : bits + 0x7fff + (bits >> 16 & 1);
    return (uint16_t)(bits >> 16);
}

// Two of them as one number: `even` comes first in memory.
static inline __attribute__((always_inline)) uint32_t bf16_pair(uint16_t even, uint16_t odd) {
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    return even | (uint32_t)odd << 16;
#else
    return odd | (uint32_t)even << 16;
#endif
}

// The float that bf16 would keep of it.
static inline __attribute__((always_inline)) float bf16_round(float value) {
    return bf16_to_float(bf16_from_float(value));
}

#endif
