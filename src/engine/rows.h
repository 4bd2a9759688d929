// Rows of an activation as fp32 in cache, whatever they are stored in: where every kernel reads and writes memory.
// All serial: called inside a thread's own tile.
#ifndef ENGINE_ROWS_H
#define ENGINE_ROWS_H

#include "engine/internal.h"

// to (n, width; rows `ld` apart) = from (rows `stride` apart), through GELU when from.gelu.
void rows_load(int n, int width, Activation from, int stride, float *to, int ld);
// to = from, rounded where stored in bf16; with `accumulate`, to += from (the sum is rounded once).
void rows_store(int n, int width, const float *from, int ld, Activation to, int stride, bool accumulate);
// Each of n floats becomes what bf16 keeps of it.
void rows_round(size_t n, float *values);

#endif
