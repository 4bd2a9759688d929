#include "engine/svd.h"

#ifdef KINDIT_HAVE_LAPACK
#include <math.h>

#include "base/memory.h"
#include "engine/blas_alone.h"

// Fortran's, of which no header tells: column-major, everything by reference, the length of JOBZ at the end.
void dgesdd_(const char *jobz, const int *m, const int *n, double *a, const int *lda, double *s, double *u,
             const int *ldu, double *vt, const int *ldvt, double *work, const int *lwork, int *iwork, int *info,
             size_t jobz_length);

// Room is asked for first: `work` of one number, `lwork` -1.
static int call_dgesdd(int m, int n, double *a, double *u, double *s, double *vt, double *work, int lwork, int *iwork) {
    const int r = m < n ? m : n;
    int info = 0;
    dgesdd_("S", &m, &n, a, &m, s, u, &m, vt, &r, work, &lwork, iwork, &info, 1);
    return info;
}

static KinditStatus decompose(KinditContext *ctx, int m, int n, double *a, double *u, double *s, double *vt) {
    const int r = m < n ? m : n;
    double size, *work = NULL;
    int *iwork, info = 0;
    TRY(memory_alloc(ctx, (size_t)r, 8 * sizeof *iwork, &iwork));
    const BlasAlone was = blas_alone_begin();
    info = call_dgesdd(m, n, a, u, s, vt, &size, -1, iwork);
    KinditStatus status = info ? KINDIT_OK : memory_alloc(ctx, (size_t)size, sizeof *work, &work);
    if (!status && !info) info = call_dgesdd(m, n, a, u, s, vt, work, (int)size, iwork);
    blas_alone_end(was);
    memory_free(&work);
    memory_free(&iwork);
    if (status || !info) return status;
    return context_fail(ctx, KINDIT_ERROR_NUMERIC, "LAPACK's dgesdd fails: info %d", info);
}

static void fix_sign(int m, int n, double *left, double *right) {
    int largest = 0;
    for (int i = 1; i < n; i++)
        if (fabs(right[i]) > fabs(right[largest])) largest = i;
    if (right[largest] >= 0) return;
    for (int i = 0; i < n; i++) right[i] = -right[i];
    for (int i = 0; i < m; i++) left[i] = -left[i];
}

// Row-major (m, n) is column-major (n, m): LAPACK sees the transpose, whose left vectors are our right ones.
KinditStatus svd_compute(KinditContext *ctx, int m, int n, double *a, double *left, double *s, double *right) {
    const int r = m < n ? m : n;
    double *columns; // (r, m) column-major
    for (size_t i = 0; i < (size_t)m * (size_t)n; i++)
        if (!isfinite(a[i])) return context_fail(ctx, KINDIT_ERROR_NUMERIC, "a matrix to decompose is not finite");
    TRY(memory_alloc(ctx, (size_t)r * (size_t)m, sizeof *columns, &columns));
    KinditStatus status = decompose(ctx, n, m, a, right, s, columns);
    for (int k = 0; k < r && !status; k++) {
        for (int i = 0; i < m; i++)
            left[(size_t)k * (size_t)m + (size_t)i] = columns[(size_t)i * (size_t)r + (size_t)k];
        fix_sign(m, n, left + (size_t)k * (size_t)m, right + (size_t)k * (size_t)n);
    }
    memory_free(&columns);
    return status;
}

#else

KinditStatus svd_compute(KinditContext *ctx, int m, int n, double *a, double *left, double *s, double *right) {
    (void)m, (void)n, (void)a, (void)left, (void)s, (void)right;
    return context_fail(ctx, KINDIT_ERROR_UNSUPPORTED,
                        "this build has no OpenBLAS, whose LAPACK would decompose matrices");
}

#endif
