// What the engine's own files share: the handle, the scratch and the profiler. Nothing outside engine/ includes this.
#ifndef ENGINE_INTERNAL_H
#define ENGINE_INTERNAL_H

#include "engine/engine.h"

typedef enum EngineKernel {
    KERNEL_LINEAR_FORWARD,
    KERNEL_LINEAR_BACKWARD,
    KERNEL_GATED_FORWARD,
    KERNEL_GATED_BACKWARD,
    KERNEL_ADAPTER,
    KERNEL_ATTENTION_FORWARD,
    KERNEL_ATTENTION_BACKWARD,
    KERNEL_NORM,
    KERNEL_RESIDUAL,
    KERNEL_ACTIVATION,
    KERNEL_EDGE,
    KERNEL_DIFFUSION,
    KERNEL_ADAMW,
    KERNEL_MEMORY,
    N_KERNELS
} EngineKernel;

struct Engine {
    KinditContext *ctx;
    int threads;
    float *scratch; // valid within one call only
    size_t scratch_size, allocated;
    bool profiling;
    EngineProfile profile[N_KERNELS];
    double profile_start;
    char description[128];
};

// Brackets a kernel: one branch when profiling is off.
void engine_profile_begin(Engine *engine);
void engine_profile_end(Engine *engine, EngineKernel kernel, double flops, double bytes);

// Products on row-major matrices with explicit leading dimensions, serial (called inside a thread's own tile), by what
// gemm_choose chose. C (m, n) = [C +] op(A) op(B); see gemm.c.
typedef enum GemmOp { GEMM_NN, GEMM_TN } GemmOp;
void gemm_tile(GemmOp op, int m, int n, int k, const float *A, int lda, const float *B, int ldb, float *C, int ldc,
               bool accumulate);
// The same for wide B, by as many columns at once as kernels like.
void gemm_wide(GemmOp op, int m, int n, int k, const float *A, int lda, const float *B, int ldb, float *C, int ldc,
               bool accumulate);

// to (columns, rows) = transpose of from (rows, columns); serial.
void gemm_transpose(int rows, int columns, const float *from, int from_stride, float *to, int to_stride);

// Chooses what computes the products, for the whole process: the best that works here, or what the environment's
// KINDIT_GEMM names (libxsmm, cblas or c; unknown or unusable: KINDIT_ERROR_ARGUMENT). Plain C until it is called.
KinditStatus gemm_choose(KinditContext *ctx);
// Whether a row's product by it does not depend, to the bit, on how many rows there are: always so, unless KINDIT_GEMM
// asks for one of which it is not.
bool gemm_keeps_rows(void);
// How many that is: 64 where vectors have 512 bits, else 32.
int gemm_columns(void);
// Names what was chosen: "libxsmm 1.17 (hsw)", "OpenBLAS 0.3.21 (Zen)", "plain C (AVX2)".
void gemm_describe(char *out, size_t size);

#endif
