// DoRA's magnitudes (Liu et al. 2024; peft's DoraLinearLayer): the columns of a product are brought to the length g, by
// the norms of the rows of W + sum over k of s_k b_k a_k^T. The norms get no gradient (Section 4.3 there).
#include <math.h>
#include <string.h>

#include "engine/internal.h"
#include "engine/rows.h"
#include "engine/simd.h"
#include "engine/tile.h"

enum {
    ROWS = 64,      // rows of W, or of an activation, in a tile ...
    COLUMNS = 256,  // ... and columns
    PART_ROWS = 512 // rows of an activation that are summed at once
};

// ---- norms ---------------------------------------------------------------------------------------------------------

size_t engine_lora_norms_scratch(int m2, int r) {
    return scratch_size((size_t)m2 * (size_t)r);
}

// Of rows [row, row + rows) of W + B^T A, B scaled.
static void norm_tile(int m1, int m2, int r, const float *W, const float *A, const float *B, int row, int rows,
                      float *norms) {
    _Alignas(64) float tile[ROWS * COLUMNS];
    double sums[ROWS] = {0};
    for (int first = 0; first < m1; first += COLUMNS) {
        const int width = tile_min(COLUMNS, m1 - first);
        for (int i = 0; i < rows; i++) {
            memcpy(tile + i * width, W + (size_t)(row + i) * (size_t)m1 + first, (size_t)width * sizeof *tile);
        }
        gemm_tile(GEMM_TN, rows, width, r, B + row, m2, A + first, m1, tile, width, true);
        for (int i = 0; i < rows; i++) {
            for (int j = 0; j < width; j++) sums[i] += (double)tile[i * width + j] * tile[i * width + j];
        }
    }
    for (int i = 0; i < rows; i++) norms[row + i] = (float)sqrt(sums[i]);
}

void engine_lora_norms(Engine *engine, int m1, int m2, int r, const float *W, const float *A, const float *s,
                       const float *B, float *norms) {
    engine_profile_begin(engine);
    float *scaled = engine->scratch;
    for (int k = 0; k < r; k++) {
        const size_t at = (size_t)k * (size_t)m2;
        for (int j = 0; j < m2; j++) scaled[at + (size_t)j] = s[k] * B[at + (size_t)j];
    }
#pragma omp parallel for num_threads(engine->threads) schedule(static)
    for (int i = 0; i < tile_count(m2, ROWS); i++) {
        norm_tile(m1, m2, r, W, A, scaled, i * ROWS, tile_extent(m2, ROWS, i), norms);
    }
    engine_profile_end(engine, KERNEL_ADAPTER, 2.0 * m1 * m2 * (r + 1), 4.0 * m1 * m2);
}

// ---- magnitudes ----------------------------------------------------------------------------------------------------

void engine_magnitude_forward(Engine *engine, int n, int m, Activation z, const float *bias, const float *magnitude,
                              const float *norms, Activation y) {
    engine_profile_begin(engine);
#pragma omp parallel for num_threads(engine->threads) schedule(static)
    for (int i = 0; i < n; i++) {
        for (int j = 0; j < m; j += COLUMNS) {
            _Alignas(64) float row[COLUMNS];
            const int width = tile_min(COLUMNS, m - j);
            const size_t at = (size_t)i * (size_t)m + (size_t)j;
            rows_load(1, width, activation_at(z, at), m, row, width);
            for (int k = 0; k < width; k++) {
                row[k] = magnitude[j + k] / norms[j + k] * (row[k] - bias[j + k]) + bias[j + k];
            }
            rows_store(1, width, row, width, activation_at(y, at), m, false);
        }
    }
    engine_profile_end(engine, KERNEL_ADAPTER, 3.0 * n * m, 8.0 * n * m);
}

typedef struct Backward {
    int n, m;
    Activation z, dy, dz;
    const float *bias, *magnitude, *norms;
    float *sums; // scratch: (parts, m)
} Backward;

// Columns [column, column + width) of a part of the rows: dz, and the sums of dy (z - b).
static void magnitude_tile(const Backward *b, int part, int column, int width) {
    _Alignas(64) float slope[COLUMNS], row[COLUMNS];
    float *sums = b->sums + (size_t)part * (size_t)b->m + (size_t)column;
    memset(sums, 0, (size_t)width * sizeof *sums);
    for (int i = 0; i < tile_extent(b->n, PART_ROWS, part); i++) {
        const size_t at = (size_t)(part * PART_ROWS + i) * (size_t)b->m + (size_t)column;
        rows_load(1, width, activation_at(b->dy, at), b->m, slope, width);
        rows_load(1, width, activation_at(b->z, at), b->m, row, width);
        for (int k = 0; k < width; k++) {
            sums[k] += slope[k] * (row[k] - b->bias[column + k]);
            slope[k] *= b->magnitude[column + k] / b->norms[column + k];
        }
        rows_store(1, width, slope, width, activation_at(b->dz, at), b->m, false);
    }
}

size_t engine_magnitude_scratch(int n, int m) {
    return scratch_size((size_t)tile_count(n, PART_ROWS) * (size_t)m);
}

void engine_magnitude_backward(Engine *engine, int n, int m, Activation z, const float *bias, const float *magnitude,
                               const float *norms, Activation dy, Activation dz, float *dmagnitude) {
    engine_profile_begin(engine);
    const Backward b = {n, m, z, dy, dz, bias, magnitude, norms, engine->scratch};
    const int parts = tile_count(n, PART_ROWS);
#pragma omp parallel for collapse(2) num_threads(engine->threads) schedule(static)
    for (int part = 0; part < parts; part++) {
        for (int j = 0; j < tile_count(m, COLUMNS); j++) {
            magnitude_tile(&b, part, j * COLUMNS, tile_extent(m, COLUMNS, j));
        }
    }
    for (int part = 0; part < parts && dmagnitude; part++) {
        const float *sums = b.sums + (size_t)part * (size_t)m;
        for (int j = 0; j < m; j++) dmagnitude[j] += sums[j] / norms[j];
    }
    engine_profile_end(engine, KERNEL_ADAPTER, 4.0 * n * m, 12.0 * n * m);
}
