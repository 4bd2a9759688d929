#include "engine/symmetric.h"

#include "base/memory.h"

void symmetric_mirror(int d, double *a) {
    for (size_t i = 0; i < (size_t)d; i++)
        for (size_t j = 0; j < i; j++) a[i * (size_t)d + j] = a[j * (size_t)d + i];
}

#ifdef KINDIT_HAVE_LAPACK
#include "engine/blas_alone.h"

// Fortran's, of which no header tells: everything by reference, the lengths of JOBZ and UPLO at the end.
void dsyevd_(const char *jobz, const char *uplo, const int *n, double *a, const int *lda, double *w, double *work,
             const int *lwork, int *iwork, const int *liwork, int *info, size_t jobz_length, size_t uplo_length);

KinditStatus symmetric_add_rows(KinditContext *ctx, int n, int d, const double *rows, double *a) {
    (void)ctx;
    const BlasAlone was = blas_alone_begin();
    cblas_dsyrk(CblasRowMajor, CblasUpper, CblasTrans, d, n, 1.0, rows, d, 1.0, a, d);
    blas_alone_end(was);
    return KINDIT_OK;
}

// Room is asked for first, with `work` and `iwork` of one number. A symmetric matrix is its own transpose, so that its
// column-major vectors, one a column, are one a row here.
static KinditStatus call_dsyevd(KinditContext *ctx, const char *jobz, int d, double *a, double *values) {
    double size = 0, *work = NULL;
    int integers = 0, *iwork = NULL, info = 0, ask = -1;
    dsyevd_(jobz, "L", &d, a, &d, values, &size, &ask, &integers, &ask, &info, 1, 1);
    const int n_work = (int)size, n_iwork = integers;
    KinditStatus status = memory_alloc(ctx, (size_t)n_work, sizeof *work, &work);
    if (!status) status = memory_alloc(ctx, (size_t)n_iwork, sizeof *iwork, &iwork);
    if (!status) dsyevd_(jobz, "L", &d, a, &d, values, work, &n_work, iwork, &n_iwork, &info, 1, 1);
    memory_free(&work);
    memory_free(&iwork);
    if (status || !info) return status;
    return context_fail(ctx, KINDIT_ERROR_NUMERIC, "LAPACK's dsyevd fails: info %d", info);
}

static KinditStatus eigen(KinditContext *ctx, const char *jobz, int d, double *a, double *values) {
    if (d < 1 || d > SYMMETRIC_LARGEST)
        return context_fail(ctx, KINDIT_ERROR_UNSUPPORTED, "eigenvalues of a matrix of %d x %d: expected 1 to %d", d, d,
                            SYMMETRIC_LARGEST);
    const BlasAlone was = blas_alone_begin();
    KinditStatus status = call_dsyevd(ctx, jobz, d, a, values);
    blas_alone_end(was);
    return status;
}

KinditStatus symmetric_eigen(KinditContext *ctx, int d, double *a, double *values) {
    return eigen(ctx, "V", d, a, values);
}

KinditStatus symmetric_eigenvalues(KinditContext *ctx, int d, double *a, double *values) {
    return eigen(ctx, "N", d, a, values);
}

KinditStatus symmetric_sandwich(KinditContext *ctx, int d, const double *b, const double *a, double *out) {
    double *product;
    TRY(memory_alloc(ctx, (size_t)d * (size_t)d, sizeof *product, &product));
    const BlasAlone was = blas_alone_begin();
    cblas_dsymm(CblasRowMajor, CblasRight, CblasUpper, d, d, 1.0, a, d, b, d, 0.0, product, d);
    cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasTrans, d, d, d, 1.0, product, d, b, d, 0.0, out, d);
    blas_alone_end(was);
    memory_free(&product);
    return KINDIT_OK;
}

#else

static KinditStatus refuse(KinditContext *ctx) {
    return context_fail(ctx, KINDIT_ERROR_UNSUPPORTED,
                        "this build has no OpenBLAS, whose LAPACK would find eigenvalues: install "
                        "libopenblas-openmp-dev and build again");
}

KinditStatus symmetric_add_rows(KinditContext *ctx, int n, int d, const double *rows, double *a) {
    (void)n, (void)d, (void)rows, (void)a;
    return refuse(ctx);
}

KinditStatus symmetric_eigen(KinditContext *ctx, int d, double *a, double *values) {
    (void)d, (void)a, (void)values;
    return refuse(ctx);
}

KinditStatus symmetric_eigenvalues(KinditContext *ctx, int d, double *a, double *values) {
    (void)d, (void)a, (void)values;
    return refuse(ctx);
}

KinditStatus symmetric_sandwich(KinditContext *ctx, int d, const double *b, const double *a, double *out) {
    (void)d, (void)b, (void)a, (void)out;
    return refuse(ctx);
}

#endif
