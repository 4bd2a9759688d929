// OpenBLAS by one thread, for what is computed once in double: the sums of products that more threads share out depend
// on how many they are. For files under KINDIT_HAVE_LAPACK.
#ifndef ENGINE_BLAS_ALONE_H
#define ENGINE_BLAS_ALONE_H

#include <cblas.h>
#include <omp.h>

typedef struct BlasAlone {
    int blas_threads, omp_threads;
} BlasAlone;

// Until blas_alone_end the library is held to the calling thread.
static inline BlasAlone blas_alone_begin(void) {
    BlasAlone was = {openblas_get_num_threads(), omp_get_max_threads()};
    openblas_set_num_threads(1);
    return was;
}

static inline void blas_alone_end(BlasAlone was) {
    openblas_set_num_threads(was.blas_threads);
    omp_set_num_threads(was.omp_threads);
}

#endif
