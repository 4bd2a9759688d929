#include "formats/quant.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "base/bf16.h"

enum { ZERO_4 = 8 }; // what is added to a q of 4 bits

static size_t group_of(int bits, size_t n) {
    return bits == 8 ? n : QUANT_GROUP_4;
}

size_t quant_row_bytes(int bits, size_t n) {
    return bits == 8 ? n : n / 2 + n % 2;
}

size_t quant_row_scales(int bits, size_t n) {
    size_t group = group_of(bits, n);
    return n ? n / group + (n % group != 0) : 0;
}

static uint8_t get_4(const uint8_t *q, size_t i) {
    return i % 2 ? q[i / 2] >> 4 : q[i / 2] & 15;
}

static void put(int bits, uint8_t *q, size_t i, int value) {
    if (bits == 8)
        q[i] = (uint8_t)value;
    else if (i % 2)
        q[i / 2] = (uint8_t)((q[i / 2] & 15) | (value + ZERO_4) << 4);
    else
        q[i / 2] = (uint8_t)(ZERO_4 << 4 | (value + ZERO_4)); // the neighbour is to come, or stays a zero
}

float quant_scale(int bits, float largest) {
    if (!(largest <= QUANT_LARGEST)) return NAN;
    float scale = bf16_round(largest / (bits == 8 ? 127.0F : 7.0F));
    return scale < FLT_MIN ? 0 : scale;
}

bool quant_encode_row(int bits, const float *w, size_t n, uint8_t *q, uint16_t *scales) {
    const size_t group = group_of(bits, n);
    for (size_t first = 0; first < n; first += group) {
        size_t end = n - first < group ? n : first + group;
        float largest = 0;
        for (size_t i = first; i < end; i++) {
            if (!(fabsf(w[i]) <= QUANT_LARGEST)) return false;
            largest = fmaxf(largest, fabsf(w[i]));
        }
        const float scale = quant_scale(bits, largest);
        *scales++ = bf16_from_float(scale);
        for (size_t i = first; i < end; i++) put(bits, q, i, scale > 0 ? (int)rintf(w[i] / scale) : 0);
    }
    return true;
}

bool quant_decode_row(int bits, const uint8_t *q, const void *scales, size_t n, float *w) {
    const size_t group = group_of(bits, n);
    const uint8_t *next = scales;
    for (size_t first = 0; first < n; first += group, next += sizeof(uint16_t)) {
        size_t end = n - first < group ? n : first + group;
        uint16_t half;
        memcpy(&half, next, sizeof half);
        float scale = bf16_to_float(half);
        if (!(scale >= 0 && scale <= QUANT_LARGEST)) return false;
        if (bits == 8)
            for (size_t i = first; i < end; i++) w[i] = scale * (float)(int8_t)q[i];
        else
            for (size_t i = first; i < end; i++) w[i] = scale * (float)(get_4(q, i) - ZERO_4);
    }
    return true;
}
