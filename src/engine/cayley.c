#include "engine/cayley.h"

#include <string.h>

#include "engine/gemm_large.h"
#include "engine/tile.h"

static size_t square(int b) {
    return (size_t)b * (size_t)b;
}

// Highest power in the series, and the coefficient of power k.
static int highest(int terms) {
    if (terms <= 2) return terms - 1;
    return terms - 1 > 3 ? terms - 1 : 3;
}

static float coefficient(int terms, int k) {
    if (k == 0) return 1;
    return terms > 2 && k == highest(terms) ? 1 : 2;
}

enum { WORK_MARGIN = 4096 }; // pieces of an inversion begin at cache lines, at each of its few levels

size_t cayley_work(int b, int terms) {
    const int matrices = terms == 0 ? 3 : highest(terms) + 4;
    return (size_t)matrices * scratch_size(square(b)) + gemm_large_work(b, b) + WORK_MARGIN;
}

// Both triangles are visited in tiles, since one of them is passed over column by column.
enum { TILE = 64 };

// Where row i of q begins, less i + 1: the number at (i, j) is so far on as j.
static size_t row_of(int b, int i) {
    return (size_t)i * (size_t)(2 * b - i - 1) / 2 - (size_t)i - 1;
}

static void fill_tile(int b, const float *q, int top, int left, float *Q) {
    for (int i = top; i < tile_min(top + TILE, b); i++) {
        for (int j = left > i + 1 ? left : i + 1; j < tile_min(left + TILE, b); j++) {
            const float value = q[row_of(b, i) + (size_t)j];
            Q[i * b + j] = value;
            Q[j * b + i] = -value;
        }
    }
}

// Q with `diagonal` in each place of its diagonal.
static void fill_skew(int threads, int b, const float *q, float diagonal, float *Q) {
#pragma omp parallel for num_threads(threads) schedule(static, 1)
    for (int top = 0; top < b; top += TILE) {
        for (int left = top; left < b; left += TILE) fill_tile(b, q, top, left, Q);
        for (int i = top; i < tile_min(top + TILE, b); i++) Q[i * b + i] = diagonal;
    }
}

static void add_tile(int b, const float *dQt, int top, int left, float *dq) {
    for (int i = top; i < tile_min(top + TILE, b); i++) {
        for (int j = left > i + 1 ? left : i + 1; j < tile_min(left + TILE, b); j++) {
            dq[row_of(b, i) + (size_t)j] += dQt[j * b + i] - dQt[i * b + j];
        }
    }
}

static void add_skew(int threads, int b, const float *dQt, float *dq) {
#pragma omp parallel for num_threads(threads) schedule(static, 1)
    for (int top = 0; top < b; top += TILE) {
        for (int left = top; left < b; left += TILE) add_tile(b, dQt, top, left, dq);
    }
}

// B = factor A, and `diagonal` more in each place of its diagonal.
static void scale(int threads, int b, float factor, const float *A, float diagonal, float *B) {
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int i = 0; i < b; i++) {
        for (int j = 0; j < b; j++) B[i * b + j] = factor * A[i * b + j];
        B[i * b + i] += diagonal;
    }
}

static void add_diagonal(int b, float value, float *A) {
    for (int i = 0; i < b; i++) A[i * b + i] += value;
}

static void product(int threads, EngineType type, int b, const float *A, const float *B, float *C, bool accumulate,
                    float *work) {
    gemm_large(threads, type, b, b, b, A, b, B, b, C, b, accumulate, work);
}

// ---- exact ---------------------------------------------------------------------------------------------------------

enum { SMALL = 32 }; // is inverted number by number

// X = A^-1 by Gauss and Jordan, without exchanging rows: see `invert`.
static void invert_small(int n, const float *A, int lda, float *X, int ldx) {
    double rows[SMALL * SMALL] = {0};
    for (int i = 0; i < n * n; i++) rows[i] = A[i / n * lda + i % n];
    for (int k = 0; k < n; k++) {
        double *pivot = rows + (size_t)k * (size_t)n;
        const double factor = 1 / pivot[k];
        pivot[k] = 1;
        for (int j = 0; j < n; j++) pivot[j] *= factor;
        for (int i = 0; i < n; i++) {
            double *row = rows + (size_t)i * (size_t)n;
            const double times = i == k ? 0 : row[k];
            if (i != k) row[k] = 0;
            for (int j = 0; j < n; j++) row[j] -= times * pivot[j];
        }
    }
    for (int i = 0; i < n * n; i++) X[i / n * ldx + i % n] = (float)rows[i];
}

static void negate(size_t n, float *values) {
    for (size_t i = 0; i < n; i++) values[i] = -values[i];
}

// X = A^-1 of A = I + Q, or of a Schur complement of it: quarter by quarter, as products. No pivots are needed: the
// symmetric part of I + Q is I, and those of all Schur complements are at least I.
static void invert(int threads, int n, const float *A, int lda, float *X, int ldx, float *work) {
    if (n <= SMALL) {
        invert_small(n, A, lda, X, ldx);
        return;
    }
    const int h = tile_round(n / 2, 16), l = n - h; // the first rows and the last
    const float *A12 = A + h, *A21 = A + (size_t)h * (size_t)lda, *A22 = A21 + h;
    float *X12 = X + h, *X21 = X + (size_t)h * (size_t)ldx, *X22 = X21 + h;
    float *left = scratch_take(&work, (size_t)l * (size_t)h), *right = scratch_take(&work, (size_t)h * (size_t)l);
    float *S = scratch_take(&work, (size_t)l * (size_t)l);
    invert(threads, h, A, lda, X, ldx, work);
    gemm_large(threads, ENGINE_F32, l, h, h, A21, lda, X, ldx, left, h, false, work); // -A21 A11^-1
    negate((size_t)l * (size_t)h, left);
    for (int i = 0; i < l; i++) memcpy(S + i * l, A22 + (size_t)i * (size_t)lda, (size_t)l * sizeof *S);
    gemm_large(threads, ENGINE_F32, l, l, h, left, h, A12, lda, S, l, true, work);
    invert(threads, l, S, l, X22, ldx, work);
    gemm_large(threads, ENGINE_F32, h, l, h, X, ldx, A12, lda, right, l, false, work); // -A11^-1 A12
    negate((size_t)h * (size_t)l, right);
    gemm_large(threads, ENGINE_F32, h, l, l, right, l, X22, ldx, X12, ldx, false, work);
    gemm_large(threads, ENGINE_F32, l, h, l, X22, ldx, left, h, X21, ldx, false, work);
    gemm_large(threads, ENGINE_F32, h, h, l, X12, ldx, left, h, X, ldx, true, work);
}

// (I - Q) M = (2 I - (I + Q)) M = 2 M - I with M = (I + Q)^-1
static void exact_forward(int threads, int b, const float *q, float *work, float *R) {
    float *A = scratch_take(&work, square(b));
    fill_skew(threads, b, q, 1, A);
    invert(threads, b, A, b, R, b, work);
    scale(threads, b, 2, R, -1, R);
}

// dM = -M dQ M, so dL/dQ = -2 M^T dR M^T; here its transpose, -2 M dR^T M.
static const float *exact_backward(int threads, EngineType type, int b, const float *R, const float *dRt, float *work) {
    float *M = scratch_take(&work, square(b)), *half = scratch_take(&work, square(b));
    float *dQt = scratch_take(&work, square(b));
    scale(threads, b, 0.5F, R, 0.5F, M);
    product(threads, type, b, M, dRt, half, false, work);
    product(threads, type, b, half, M, dQt, false, work);
    scale(threads, b, -2, dQt, 0, dQt);
    return dQt;
}

// ---- the series ----------------------------------------------------------------------------------------------------
// By Horner's rule: H_p = c_p I, H_k = c_k I + Q H_(k+1), R = H_0.

// H[k] is H_(k+1), for k from 0 to p - 1.
static void horner(int threads, EngineType type, int b, int terms, const float *Q, float *const *H, float *R,
                   float *work) {
    const int p = highest(terms);
    memset(H[p - 1], 0, square(b) * sizeof(float));
    add_diagonal(b, coefficient(terms, p), H[p - 1]);
    for (int k = p - 1; k >= 0; k--) {
        float *to = k > 0 ? H[k - 1] : R;
        product(threads, type, b, Q, H[k], to, false, work);
        add_diagonal(b, coefficient(terms, k), to);
    }
}

static void take_series(int b, int terms, float **work, float **Q, float *H[CAYLEY_MOST_TERMS]) {
    *Q = scratch_take(work, square(b));
    for (int k = 0; k < highest(terms); k++) H[k] = scratch_take(work, square(b));
}

static void series_forward(int threads, int b, int terms, const float *q, float *work, float *R) {
    float *Q, *H[CAYLEY_MOST_TERMS] = {NULL};
    take_series(b, terms, &work, &Q, H);
    fill_skew(threads, b, q, 0, Q);
    horner(threads, ENGINE_F32, b, terms, Q, H, R, work);
}

// With S_k = (dL/dH_k)^T: S_0 = dR^T, S_(k+1) = S_k Q, and (dL/dQ)^T = sum of H_(k+1) S_k.
static const float *series_backward(int threads, EngineType type, int b, int terms, const float *q, const float *dRt,
                                    float *work) {
    float *Q, *H[CAYLEY_MOST_TERMS] = {NULL};
    take_series(b, terms, &work, &Q, H);
    float *dQt = scratch_take(&work, square(b)), *S = scratch_take(&work, square(b));
    float *next = scratch_take(&work, square(b));
    fill_skew(threads, b, q, 0, Q);
    horner(threads, type, b, terms, Q, H, S, work); // R itself is not needed
    for (int k = 0; k < highest(terms); k++) {
        const float *at = k == 0 ? dRt : S;
        product(threads, type, b, H[k], at, dQt, k > 0, work);
        if (k + 1 == highest(terms)) break;
        product(threads, type, b, at, Q, next, false, work);
        float *swap = S;
        S = next;
        next = swap;
    }
    return dQt;
}

// ---- calls ---------------------------------------------------------------------------------------------------------

void cayley_forward(int threads, int b, int terms, const float *q, float *work, float *R) {
    if (terms == 0) {
        exact_forward(threads, b, q, work, R);
    } else {
        series_forward(threads, b, terms, q, work, R);
    }
}

void cayley_backward(int threads, EngineType type, int b, int terms, const float *q, const float *R, const float *dRt,
                     float *work, float *dq) {
    const float *dQt = terms == 0 ? exact_backward(threads, type, b, R, dRt, work)
                                  : series_backward(threads, type, b, terms, q, dRt, work);
    add_skew(threads, b, dQt, dq);
}
