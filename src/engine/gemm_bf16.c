#include "engine/gemm_bf16.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/bf16.h"
#include "engine/amx.h"
#include "engine/tile.h"

void gemm_bf16_plain(int m, int n, int k, const uint16_t *A, int lda, const uint16_t *B, int ldb, float *C, int ldc,
                     bool accumulate) {
    for (int i = 0; i < m; i++) {
        for (int j = 0; j < n; j++) {
            float sum = accumulate ? C[(size_t)i * (size_t)ldc + (size_t)j] : 0.0F;
            for (int l = 0; l < k; l++) {
                const size_t pair = (size_t)(l / 2) * (size_t)ldb + (size_t)j;
                sum += bf16_to_float(A[(size_t)i * (size_t)lda + (size_t)l]) *
                       bf16_to_float(B[2 * pair + (size_t)(l % 2)]);
            }
            C[(size_t)i * (size_t)ldc + (size_t)j] = sum;
        }
    }
}

static _Atomic bool native; // all engines of a process share it

KinditStatus gemm_bf16_choose(KinditContext *ctx) {
    const char *wanted = getenv("KINDIT_BF16");
    const bool any = !wanted || !*wanted, amx = !any && strcmp(wanted, "amx") == 0;
    if (!any && !amx && strcmp(wanted, "fp32") != 0) {
        return context_fail(ctx, KINDIT_ERROR_ARGUMENT, "KINDIT_BF16: expected amx or fp32, found '%s'", wanted);
    }
    const bool ready = (any || amx) && amx_prepare();
    if (amx && !ready) {
        return context_fail(
            ctx, KINDIT_ERROR_ARGUMENT,
            "KINDIT_BF16=amx: this processor or system has no AMX; leave it unset to have what there is");
    }
    atomic_store(&native, ready);
    return KINDIT_OK;
}

bool gemm_bf16_is_native(void) {
    return atomic_load_explicit(&native, memory_order_relaxed);
}

void gemm_bf16(int m, int n, int k, const uint16_t *A, int lda, const uint16_t *B, int ldb, float *C, int ldc,
               bool accumulate) {
    gemm_bf16_joined(m, n, k, A, lda, B, ldb, k, NULL, C, ldc, accumulate);
}

void gemm_bf16_joined(int m, int n, int k, const uint16_t *A, int lda, const uint16_t *B, int ldb, int k1,
                      const uint16_t *rest, float *C, int ldc, bool accumulate) {
    if (m <= 0 || n <= 0) return;
    amx_multiply_bf16(m, n, k / BF16_STEP, A, 2 * lda, B, ldb, k1 / BF16_STEP, rest, C, ldc, accumulate);
}

void gemm_bf16_panels(int m, int n, int k, const uint16_t *A, int lda, const uint16_t *panels, int depth, int first,
                      float *C, int ldc, bool accumulate) {
    enum { STRIP = 32 }; // rows that meet all panels before the next: A's stay in the nearest cache meanwhile
    for (int i = 0; i < m; i += STRIP) {
        for (int j = 0; j < n; j += BF16_PANEL) {
            const int columns = tile_min(BF16_PANEL, n - j);
            const uint16_t *B = panels + (size_t)j * (size_t)depth + (size_t)first * (size_t)columns;
            gemm_bf16(tile_min(STRIP, m - i), columns, k, A + (size_t)i * (size_t)lda, lda, B, columns,
                      C + (size_t)i * (size_t)ldc + j, ldc, accumulate);
        }
    }
}
