// Products of two low-rank matrices, element by element (LoHa: Hyeon-Woo et al. 2022; peft's HadaWeight):
//
//     W' = W + scale P1 * P2        P1 = A1^T B1, P2 = A2^T B2        A (r, m2), B (r, m1)
//
// Backward, G = dL/dW': with T1 = scale G * P2, dA1 = B1 T1^T and dB1 = A1 T1; the same with 1 and 2 exchanged.
#include <string.h>

#include "engine/internal.h"
#include "engine/tile.h"

enum { ROWS = 64, COLUMNS = 256 }; // of a tile of W

// P (rows, width) = rows [row, ...) and columns [column, ...) of A^T B
static void product(const HadamardShape *shape, const float *A, const float *B, int row, int rows, int column,
                    int width, float *P) {
    gemm_tile(GEMM_TN, rows, width, shape->r, A + row, shape->m2, B + column, shape->m1, P, width, false);
}

void engine_hadamard_forward(Engine *engine, const HadamardShape *shape, const HadamardFactors *f, const float *W,
                             float *products, float *out) {
    engine_profile_begin(engine);
    const int m1 = shape->m1, m2 = shape->m2;
    const size_t all = (size_t)m1 * (size_t)m2;
#pragma omp parallel for collapse(2) num_threads(engine->threads) schedule(static)
    for (int i = 0; i < m2; i += ROWS) {
        for (int j = 0; j < m1; j += COLUMNS) {
            _Alignas(64) float tiles[2][ROWS * COLUMNS];
            const int rows = tile_min(ROWS, m2 - i), width = tile_min(COLUMNS, m1 - j);
            product(shape, f->a1, f->b1, i, rows, j, width, tiles[0]);
            product(shape, f->a2, f->b2, i, rows, j, width, tiles[1]);
            for (int k = 0; k < rows; k++) {
                const size_t at = (size_t)(i + k) * (size_t)m1 + (size_t)j, bytes = (size_t)width * sizeof(float);
                const float *first = tiles[0] + k * width, *second = tiles[1] + k * width;
                for (int l = 0; l < width; l++) {
                    out[at + (size_t)l] = W[at + (size_t)l] + shape->scale * first[l] * second[l];
                }
                if (!products) continue;
                memcpy(products + at, first, bytes);
                memcpy(products + all + at, second, bytes);
            }
        }
    }
    engine_profile_end(engine, KERNEL_ADAPTER, 4.0 * m1 * m2 * shape->r, 8.0 * m1 * m2);
}

// T (rows, width) = scale G * P
static void slope(const HadamardShape *shape, const float *P, const float *G, int row, int rows, int column, int width,
                  float *T) {
    for (int k = 0; k < rows; k++) {
        const size_t at = (size_t)(row + k) * (size_t)shape->m1 + (size_t)column;
        for (int l = 0; l < width; l++) T[k * width + l] = shape->scale * G[at + (size_t)l] * P[at + (size_t)l];
    }
}

// dA += B T^T with T from the other pair's product: each thread has columns of its own.
static void add_left(Engine *engine, const HadamardShape *shape, const float *B, const float *P, const float *G,
                     float *dA) {
    const int m1 = shape->m1, m2 = shape->m2;
#pragma omp parallel for num_threads(engine->threads) schedule(static)
    for (int i = 0; i < m2; i += ROWS) {
        const int rows = tile_min(ROWS, m2 - i);
        for (int j = 0; j < m1; j += COLUMNS) {
            _Alignas(64) float T[ROWS * COLUMNS], Tt[COLUMNS * ROWS];
            const int width = tile_min(COLUMNS, m1 - j);
            slope(shape, P, G, i, rows, j, width, T);
            gemm_transpose(rows, width, T, width, Tt, rows);
            gemm_tile(GEMM_NN, shape->r, rows, width, B + j, m1, Tt, rows, dA + i, m2, true);
        }
    }
}

// dB += A T, likewise.
static void add_right(Engine *engine, const HadamardShape *shape, const float *A, const float *P, const float *G,
                      float *dB) {
    const int m1 = shape->m1, m2 = shape->m2;
#pragma omp parallel for num_threads(engine->threads) schedule(static)
    for (int j = 0; j < m1; j += COLUMNS) {
        const int width = tile_min(COLUMNS, m1 - j);
        for (int i = 0; i < m2; i += ROWS) {
            _Alignas(64) float T[ROWS * COLUMNS];
            const int rows = tile_min(ROWS, m2 - i);
            slope(shape, P, G, i, rows, j, width, T);
            gemm_tile(GEMM_NN, shape->r, width, rows, A + i, m2, T, width, dB + j, m1, true);
        }
    }
}

void engine_hadamard_backward(Engine *engine, const HadamardShape *shape, const HadamardFactors *f,
                              const float *products, const float *G, const HadamardGradients *d) {
    engine_profile_begin(engine);
    const float *first = products, *second = products + (size_t)shape->m1 * (size_t)shape->m2;
    add_left(engine, shape, f->b1, second, G, d->a1);
    add_right(engine, shape, f->a1, second, G, d->b1);
    add_left(engine, shape, f->b2, first, G, d->a2);
    add_right(engine, shape, f->a2, first, G, d->b2);
    engine_profile_end(engine, KERNEL_ADAPTER, 8.0 * shape->m1 * shape->m2 * shape->r, 32.0 * shape->m1 * shape->m2);
}
