#include "engine/gemm_large.h"

#include "engine/panel.h"

enum {
    STRIP = 384,    // columns of C in a work item
    ALONE = 1 << 20 // multiply-adds that are done before other threads would be awake
};

// C (rows, width) = [C +] A B for whole panels of B. C's rows may lie far apart and each depth comes back to them, so
// they are summed in a copy.
static void multiply_tile(PanelForm form, int rows, int width, int k, const float *A, int lda, const float *panels,
                          float *C, int ldc, bool accumulate) {
    _Alignas(64) float loaded[PANEL_BUFFER], sums[PANEL_ROWS * STRIP];
    const int piece = panel_piece(form);
    if (accumulate) rows_load(rows, width, activation_f32(C), ldc, sums, width);
    for (int first = 0; first < k; first += piece) {
        const int depth = tile_min(piece, k - first);
        const Operand a = operand_read(form, rows, depth, activation_f32(A + first), lda, loaded);
        panel_multiply(rows, depth, width, a, panels, k, first, panel_width(form), sums, width,
                       accumulate || first > 0);
    }
    rows_store(rows, width, sums, width, activation_f32(C), ldc, false);
}

size_t gemm_large_work(int n, int k) {
    return panel_size(k, n);
}

void gemm_large(int threads, EngineType type, int m, int n, int k, const float *A, int lda, const float *B, int ldb,
                float *C, int ldc, bool accumulate, float *work) {
    const PanelForm form = panel_form(type, NULL);
    const int panel = panel_width(form), strip = tile_even(n, STRIP, panel);
    const bool small = (double)m * n * k < ALONE;
#pragma omp parallel num_threads(threads) if (!small)
    {
        if (form == PANEL_BF16) amx_begin();
#pragma omp for schedule(static)
        for (int j = 0; j < n; j += panel) {
            panel_set(form, k, B + j, ldb, NULL, panel_at(form, work, k, j), tile_min(panel, n - j));
        }
#pragma omp for collapse(2) schedule(dynamic)
        for (int i = 0; i < m; i += PANEL_ROWS) {
            for (int j = 0; j < n; j += strip) {
                multiply_tile(form, tile_min(PANEL_ROWS, m - i), tile_min(strip, n - j), k, A + (size_t)i * (size_t)lda,
                              lda, panel_at(form, work, k, j), C + (size_t)i * (size_t)ldc + j, ldc, accumulate);
            }
        }
        if (form == PANEL_BF16) amx_end();
    }
}
