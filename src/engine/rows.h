// Rows of an activation as fp32 in cache, whatever they are stored in: where every kernel reads and writes memory.
// All serial: called inside a thread's own tile.
#ifndef ENGINE_ROWS_H
#define ENGINE_ROWS_H

#include "engine/gemm_bf16.h"
#include "engine/internal.h"

enum { ROW_PIECE = 256 };    // columns that rows_quantise takes of rows that are not in place
enum { FAR_STRIDE = 256 };   // rows further apart are best copied: they would fight over cache sets and TLB entries ...
enum { PAGE_STRIDE = 1024 }; // ... even those that a product reads row by row, where they are pages apart

// Whether the rows are the fp32 values themselves: a product may read and write them where they are.
static inline bool rows_in_place(Activation rows) {
    return rows.type == ENGINE_F32 && !rows.gelu;
}

// to (n, width; rows `ld` apart) = from (rows `stride` apart), through GELU when from.gelu.
void rows_load(int n, int width, Activation from, int stride, float *to, int ld);
// The same rows without a copy where they are in place, less than PAGE_STRIDE apart; else they are loaded to `buffer`
// (n, width) and *stride becomes `width`.
const float *rows_read(int n, int width, Activation from, int *stride, float *buffer);
// The same as operands of gemm_bf16: bf16 rows with zeros from `width` to a whole number of BF16_STEP. Loaded to `to`,
// rows `ld` apart ...
void rows_load_bf16(int n, int width, Activation from, int stride, uint16_t *to, int ld);
// ... or without a copy where they are so already; else *stride becomes that of `buffer`.
const uint16_t *rows_read_bf16(int n, int width, Activation from, int *stride, uint16_t *buffer);
// to (n / 2, width, 2) = the rows in pairs, n rounded up to whole steps by rows of zeros.
void rows_load_pairs(int n, int width, Activation from, int stride, uint16_t *to);
// The same in panels of BF16_PANEL columns, as gemm_bf16_panels reads them, of n rows rounded up to whole steps.
void rows_load_panels(int n, int width, Activation from, int stride, uint16_t *panels);
// The zeros behind such pairs of n rows.
void rows_pad_pairs(int n, int width, uint16_t *pairs);
// columns (width, n rounded up to whole steps) = the rows turned, by way of their pairs: each moves as a float does.
void rows_load_columns(int n, int width, Activation from, int stride, float *pairs, uint16_t *columns);
// One such pair of fp32 rows; NULL: zeros.
void rows_pair(int width, const float *even, const float *odd, uint16_t *to);
// The same as operands of gemm_int8: to (n, width; rows `ld` bytes apart, zeros from `width` to it) = each row divided
// by its scale and rounded, which is its largest number / 127 (NaN for a row that has one or infinity).
void rows_quantise(int n, int width, Activation from, int stride, int8_t *to, int ld, float *scales);
// fp32 rows divided by given scales: 0 where the scale is 0 or NaN. In rows, as above ...
void rows_divide(int n, int width, const float *from, int stride, const float *scales, int8_t *to, int ld);
// ... or four of them as quads, to (width, 4); NULL: zeros.
void rows_quad(int width, const float *const rows[4], const float scales[4], int8_t *to);
// The largest |value| of a row; NaN or infinity where it has one.
float rows_largest(int width, const float *row);
// to = from, through GELU when to.gelu, rounded where stored in bf16; with `accumulate`, to += from (without GELU; the
// sum is rounded once).
void rows_store(int n, int width, const float *from, int ld, Activation to, int stride, bool accumulate);
// values (n, width; rows `ld` apart) *= GELU's slope at x (rows `stride` apart).
void rows_gelu_slope(int n, int width, Activation x, int stride, float *values, int ld);
// to (width) += the n rows of x as they are stored (rows `stride` apart) ...
void rows_sum(int n, int width, Activation x, int stride, float *to);
// ... or of x * y (rows `ld` apart).
void rows_sum_products(int n, int width, Activation x, int stride, const float *y, int ld, float *to);
// to (rows `stride` apart; or none) = values (n, width; rows `ld` apart); then scaled = values times factor (width), in
// bf16 and as far apart, or, where it is NULL, the values themselves.
void rows_store_and_scale(int n, int width, const float *factor, float *values, int ld, Activation to, int stride,
                          uint16_t *scaled);
// Each of n floats becomes what bf16 keeps of it.
void rows_round(size_t n, float *values);

#endif
