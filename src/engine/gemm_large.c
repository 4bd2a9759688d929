#include "engine/gemm_large.h"

#include <string.h>

#include "engine/internal.h"
#include "engine/tile.h"

enum {
    ROWS = 128,      // of A in a kernel's call
    BAND = 512,      // rows of C in a work item: a strip of B is copied once for them
    DEPTH = 256,     // rows of B in a copy
    ALONE = 1 << 20, // multiply-adds that are done before other threads would be awake
    STRIP = 96,      // columns of B in a copy, in panels ...
    PANEL = 32       // ... so wide
};

// to: panels (depth, PANEL) of a strip of B, the last one narrower.
static void copy_strip(int depth, int width, const float *B, int ldb, float *to) {
    for (int j = 0; j < width; j += PANEL) {
        const int columns = tile_min(PANEL, width - j);
        for (int i = 0; i < depth; i++) {
            memcpy(to, B + (size_t)i * (size_t)ldb + j, (size_t)columns * sizeof *to);
            to += columns;
        }
    }
}

static void multiply_strip(int m, int width, int k, const float *A, int lda, const float *B, int ldb, float *C, int ldc,
                           bool accumulate) {
    _Alignas(64) float strip[DEPTH * STRIP];
    for (int first = 0; first < k; first += DEPTH) {
        const int depth = tile_min(DEPTH, k - first);
        copy_strip(depth, width, B + (size_t)first * (size_t)ldb, ldb, strip);
        for (int i = 0; i < m; i += ROWS) {
            for (int j = 0; j < width; j += PANEL) {
                const int columns = tile_min(PANEL, width - j);
                gemm_tile(GEMM_NN, tile_min(ROWS, m - i), columns, depth, A + (size_t)i * (size_t)lda + first, lda,
                          strip + (size_t)j * (size_t)depth, columns, C + (size_t)i * (size_t)ldc + j, ldc,
                          accumulate || first > 0);
            }
        }
    }
}

void gemm_large(int threads, int m, int n, int k, const float *A, int lda, const float *B, int ldb, float *C, int ldc,
                bool accumulate) {
    const int band = tile_even(m, BAND, ROWS);
    const bool small = (double)m * n * k < ALONE;
#pragma omp parallel for collapse(2) num_threads(threads) schedule(static) if (!small)
    for (int i = 0; i < m; i += band) {
        for (int j = 0; j < n; j += STRIP) {
            multiply_strip(tile_min(band, m - i), tile_min(STRIP, n - j), k, A + (size_t)i * (size_t)lda, lda, B + j,
                           ldb, C + (size_t)i * (size_t)ldc + j, ldc, accumulate);
        }
    }
}
