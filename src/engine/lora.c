// What low-rank adapters make of a frozen matrix (LoRA: Hu et al. 2021; DoRA: Liu et al. 2024, peft's DoraLinearLayer):
//
//     M = diag(g) (W + sum over k of s_k b_k a_k^T)      W (m2, m1), A (r, m1), s (r), B (r, m2)
//
// g is 1 (LoRA), or brings the rows of the sum to given lengths (DoRA); it gets no gradient (Section 4.3 there). M is
// formed once a pass. That takes r m1 m2 multiply-adds, where the way through A and B takes r (m1 + m2) for each row of
// x and passes over y once more.
#include <math.h>
#include <string.h>

#include "engine/internal.h"
#include "engine/rows.h"
#include "engine/simd.h"
#include "engine/tile.h"

enum {
    ROWS = 64,      // of M that a thread forms at a time
    COLUMNS = 256,  // of an activation
    LANES = 16,     // sums of a row's squares, side by side
    PART_ROWS = 512 // rows of an activation that are summed at once
};

// ---- the matrix ----------------------------------------------------------------------------------------------------

size_t engine_lora_scratch(const LoraShape *shape) {
    return scratch_size((size_t)shape->m2 * (size_t)shape->r);
}

// The row brought to a length; returns what it was.
ENGINE_CLONES
static float set_length(int m1, float length, float *row) {
    double sums[LANES] = {0}, sum = 0;
    const int whole = m1 - m1 % LANES;
    for (int j = 0; j < whole; j += LANES) {
        for (int l = 0; l < LANES; l++) sums[l] += (double)row[j + l] * (double)row[j + l];
    }
    for (int j = whole; j < m1; j++) sum += (double)row[j] * (double)row[j];
    for (int l = 0; l < LANES; l++) sum += sums[l];
    const float norm = (float)sqrt(sum), factor = length / norm;
    for (int j = 0; j < m1; j++) row[j] *= factor;
    return norm;
}

void engine_lora_form(Engine *engine, const LoraShape *shape, const LoraFactors *f, const float *W, float *norms,
                      float *M) {
    engine_profile_begin(engine);
    const int m1 = shape->m1, m2 = shape->m2, r = shape->r;
    float *scaled = engine->scratch;
    for (int k = 0; k < r; k++) {
        const size_t at = (size_t)k * (size_t)m2;
        for (int j = 0; j < m2; j++) scaled[at + (size_t)j] = f->s[k] * f->B[at + (size_t)j];
    }
#pragma omp parallel for num_threads(engine->threads) schedule(static)
    for (int i = 0; i < m2; i += ROWS) {
        const int rows = tile_min(ROWS, m2 - i);
        const size_t at = (size_t)i * (size_t)m1;
        memcpy(M + at, W + at, (size_t)rows * (size_t)m1 * sizeof *M);
        gemm_wide(GEMM_TN, rows, m1, r, scaled + i, m2, f->A, m1, M + at, m1, true);
        for (int k = 0; k < rows && f->lengths; k++) {
            norms[i + k] = set_length(m1, f->lengths[i + k], M + at + (size_t)k * (size_t)m1);
        }
    }
    engine_profile_end(engine, KERNEL_ADAPTER, 2.0 * m1 * m2 * r, 8.0 * m1 * m2);
}

// ---- the lengths ---------------------------------------------------------------------------------------------------

typedef struct Lengths {
    int n, m;
    Activation y, dy;
    const float *bias;
    float *sums; // scratch: (parts, m)
} Lengths;

// Of columns [column, column + width), over a part of the rows.
ENGINE_CLONES
static void sum_tile(const Lengths *l, int part, int column, int width) {
    _Alignas(64) float slope[COLUMNS], row[COLUMNS];
    float *sums = l->sums + (size_t)part * (size_t)l->m + (size_t)column;
    memset(sums, 0, (size_t)width * sizeof *sums);
    for (int i = 0; i < tile_extent(l->n, PART_ROWS, part); i++) {
        const size_t at = (size_t)(part * PART_ROWS + i) * (size_t)l->m + (size_t)column;
        rows_load(1, width, activation_at(l->dy, at), l->m, slope, width);
        rows_load(1, width, activation_at(l->y, at), l->m, row, width);
        for (int k = 0; k < width; k++) sums[k] += slope[k] * (row[k] - l->bias[column + k]);
    }
}

size_t engine_lengths_scratch(int n, int m) {
    return scratch_size((size_t)tile_count(n, PART_ROWS) * (size_t)m);
}

void engine_lengths_backward(Engine *engine, int n, int m, Activation y, const float *bias, const float *lengths,
                             Activation dy, float *dlengths) {
    engine_profile_begin(engine);
    const Lengths l = {n, m, y, dy, bias, engine->scratch};
    const int parts = tile_count(n, PART_ROWS);
#pragma omp parallel for collapse(2) num_threads(engine->threads) schedule(static)
    for (int part = 0; part < parts; part++) {
        for (int j = 0; j < tile_count(m, COLUMNS); j++) sum_tile(&l, part, j * COLUMNS, tile_extent(m, COLUMNS, j));
    }
    for (int part = 0; part < parts; part++) {
        const float *sums = l.sums + (size_t)part * (size_t)m;
        for (int j = 0; j < m; j++) dlengths[j] += lengths[j] != 0 ? sums[j] / lengths[j] : 0.0F;
    }
    engine_profile_end(engine, KERNEL_ADAPTER, 3.0 * n * m, 8.0 * n * m);
}
