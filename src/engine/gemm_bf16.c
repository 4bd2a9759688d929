#include "engine/gemm_bf16.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/bf16.h"
#include "engine/simd.h"
#include "engine/tile.h"

#if defined(__x86_64__) && defined(__linux__)
#include <cpuid.h>
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>
#define HAVE_AMX
#endif

// ---- plain C -------------------------------------------------------------------------------------------------------

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

// ---- AMX -----------------------------------------------------------------------------------------------------------

#ifdef HAVE_AMX
#define TARGET_AMX __attribute__((target("amx-tile,amx-bf16")))
enum { TILE = 16 }; // rows, and columns of 4 bytes, of a tile

// Linux gives a process its tiles on demand (arch_prctl(2)).
static bool prepare_amx(void) {
    enum { REQUEST_PERMISSION = 0x1023, TILE_DATA = 18, AMX_BF16 = 1 << 22, AMX_TILE = 1 << 24 };
    unsigned a, b, c, features;
    return __get_cpuid_count(7, 0, &a, &b, &c, &features) && (features & AMX_BF16) && (features & AMX_TILE) &&
           syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) == 0;
}

// Tiles 0 to 3 hold C, two by two; 4 and 5 rows of A; 6 and 7 columns of B.
typedef struct TileConfig {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
} TileConfig;

static TileConfig configure(int rows, int columns) {
    const int high[2] = {tile_min(rows, TILE), rows > TILE ? rows - TILE : 1};
    const int wide[2] = {tile_min(columns, TILE), columns > TILE ? columns - TILE : 1};
    TileConfig config = {.palette = 1};
    for (int i = 0; i < 2; i++) {
        for (int j = 0; j < 2; j++) {
            config.rows[2 * i + j] = (uint8_t)high[i];
            config.row_bytes[2 * i + j] = (uint16_t)(4 * wide[j]);
        }
        config.rows[4 + i] = (uint8_t)high[i];
        config.row_bytes[4 + i] = 4 * TILE;
        config.rows[6 + i] = TILE;
        config.row_bytes[6 + i] = (uint16_t)(4 * wide[i]);
    }
    return config;
}

TARGET_AMX static void use_amx(int rows, int columns) {
    const TileConfig config = configure(rows, columns);
    __asm__ volatile("" : : "r"(&config) : "memory"); // gcc 12 believes that 8 bytes of it are read
    _tile_loadconfig(&config);
}

TARGET_AMX static void release_amx(void) {
    _tile_release();
}

TARGET_AMX static float peak_amx(double *flops) {
    enum { STEPS = 100000 };
    float sums[TILE * TILE];
    use_amx(2 * TILE, 2 * TILE);
    for (int step = 0; step < STEPS; step++) { // on the zeros of fresh tiles
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
    }
    _tile_stored(0, sums, sizeof(float) * TILE);
    release_amx();
    *flops = 4.0 * 2 * TILE * TILE * BF16_STEP * STEPS;
    return sums[0];
}

// Up to 2 TILE rows and columns of C; `down`, `across`: more than TILE. These are constants where this is inlined.
TARGET_AMX ENGINE_INLINE void block_amx(bool down, bool across, int k, const uint16_t *A, size_t lda, const uint16_t *B,
                                        size_t ldb, float *C, size_t ldc, bool accumulate) {
    const size_t a = 2 * lda, b = 4 * ldb, c = 4 * ldc; // bytes
    if (accumulate) {
        _tile_loadd(0, C, c);
        if (across) _tile_loadd(1, C + TILE, c);
        if (down) _tile_loadd(2, C + TILE * ldc, c);
        if (down && across) _tile_loadd(3, C + TILE * ldc + TILE, c);
    } else {
        _tile_zero(0);
        if (across) _tile_zero(1);
        if (down) _tile_zero(2);
        if (down && across) _tile_zero(3);
    }
    for (int l = 0; l < k; l += BF16_STEP, A += BF16_STEP, B += BF16_STEP * ldb) {
        _tile_loadd(6, B, b);
        _tile_loadd(4, A, a);
        _tile_dpbf16ps(0, 4, 6);
        if (down) _tile_loadd(5, A + TILE * lda, a);
        if (down) _tile_dpbf16ps(2, 5, 6);
        if (across) _tile_loadd(7, B + 2 * TILE, b);
        if (across) _tile_dpbf16ps(1, 4, 7);
        if (down && across) _tile_dpbf16ps(3, 5, 7);
    }
    _tile_stored(0, C, c);
    if (across) _tile_stored(1, C + TILE, c);
    if (down) _tile_stored(2, C + TILE * ldc, c);
    if (down && across) _tile_stored(3, C + TILE * ldc + TILE, c);
}

TARGET_AMX static void multiply_amx(int m, int n, int k, const uint16_t *A, int lda, const uint16_t *B, int ldb,
                                    float *C, int ldc, bool accumulate) {
    const size_t a = (size_t)lda, b = (size_t)ldb, c = (size_t)ldc;
    int rows = 2 * TILE, columns = 2 * TILE; // as configured
    for (int j = 0; j < n; j += 2 * TILE) {
        for (int i = 0; i < m; i += 2 * TILE) {
            const int high = tile_min(2 * TILE, m - i), wide = tile_min(2 * TILE, n - j);
            if (high != rows || wide != columns) use_amx(rows = high, columns = wide);
            const uint16_t *x = A + (size_t)i * a, *panel = B + 2 * (size_t)j;
            float *y = C + (size_t)i * c + j;
            if (high > TILE && wide > TILE) {
                block_amx(true, true, k, x, a, panel, b, y, c, accumulate);
            } else if (high > TILE) {
                block_amx(true, false, k, x, a, panel, b, y, c, accumulate);
            } else if (wide > TILE) {
                block_amx(false, true, k, x, a, panel, b, y, c, accumulate);
            } else {
                block_amx(false, false, k, x, a, panel, b, y, c, accumulate);
            }
        }
    }
    if (rows != 2 * TILE || columns != 2 * TILE) use_amx(2 * TILE, 2 * TILE);
}
#else
static bool prepare_amx(void) {
    return false;
}

// Never called.
enum { TILE = 0 };
static void use_amx(int rows, int columns) {
    (void)rows, (void)columns;
}
static void release_amx(void) {}
static float peak_amx(double *flops) {
    return (float)(*flops = 0);
}
#define multiply_amx gemm_bf16_plain
#endif

// ---- the choice ----------------------------------------------------------------------------------------------------

static _Atomic bool native; // all engines of a process share it

KinditStatus gemm_bf16_choose(KinditContext *ctx) {
    const char *wanted = getenv("KINDIT_BF16");
    const bool any = !wanted || !*wanted, amx = !any && strcmp(wanted, "amx") == 0;
    if (!any && !amx && strcmp(wanted, "fp32") != 0) {
        return context_fail(ctx, KINDIT_ERROR_ARGUMENT, "KINDIT_BF16: expected amx or fp32, found '%s'", wanted);
    }
    const bool ready = (any || amx) && prepare_amx();
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

void gemm_bf16_begin(void) {
    if (gemm_bf16_is_native()) use_amx(2 * TILE, 2 * TILE);
}

void gemm_bf16_end(void) {
    if (gemm_bf16_is_native()) release_amx();
}

float gemm_bf16_peak(double *flops) {
    return peak_amx(flops);
}

void gemm_bf16(int m, int n, int k, const uint16_t *A, int lda, const uint16_t *B, int ldb, float *C, int ldc,
               bool accumulate) {
    if (m > 0 && n > 0) multiply_amx(m, n, k, A, lda, B, ldb, C, ldc, accumulate);
}
