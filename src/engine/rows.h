// Rows of an activation as fp32 in cache, whatever they are stored in: where every kernel reads and writes memory.
// All serial: called inside a thread's own tile.
#ifndef ENGINE_ROWS_H
#define ENGINE_ROWS_H

#include "engine/internal.h"

// Whether the rows are the fp32 values themselves: a product may read and write them where they are.
static inline bool rows_in_place(Activation rows) {
    return rows.type == ENGINE_F32 && !rows.gelu;
}

// to (n, width; rows `ld` apart) = from (rows `stride` apart), through GELU when from.gelu.
void rows_load(int n, int width, Activation from, int stride, float *to, int ld);
// The same rows without a copy where they are in place; else they are loaded to `buffer` (n, width) and *stride becomes
// `width`.
const float *rows_read(int n, int width, Activation from, int *stride, float *buffer);
// to = from, rounded where stored in bf16; with `accumulate`, to += from (the sum is rounded once).
void rows_store(int n, int width, const float *from, int ld, Activation to, int stride, bool accumulate);
// values (n, width; rows `ld` apart) *= GELU's slope at x (rows `stride` apart).
void rows_gelu_slope(int n, int width, Activation x, int stride, float *values, int ld);
// to (width) += the n rows of x as they are stored (rows `stride` apart) ...
void rows_sum(int n, int width, Activation x, int stride, float *to);
// ... or of x * y (rows `ld` apart).
void rows_sum_products(int n, int width, Activation x, int stride, const float *y, int ld, float *to);
// to (rows `stride` apart) = values (n, width; rows `ld` apart), which then are multiplied by factor (width).
void rows_store_and_scale(int n, int width, const float *factor, float *values, int ld, Activation to, int stride);
// Each of n floats becomes what bf16 keeps of it.
void rows_round(size_t n, float *values);

#endif
