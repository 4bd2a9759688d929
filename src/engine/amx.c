#include "engine/amx.h"

#if defined(__x86_64__) && defined(__linux__)
#include <cpuid.h>
#include <immintrin.h>
#include <stdatomic.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "engine/simd.h"
#include "engine/tile.h"

static _Atomic bool ready; // all engines of a process share it

#define TARGET_AMX __attribute__((target("amx-tile,amx-bf16,amx-int8")))
enum { TILE = 16, STEP_BYTES = 64 }; // rows, and columns of 4 bytes, of a tile

// Linux gives a process its tiles on demand (arch_prctl(2)).
bool amx_prepare(void) {
    enum { REQUEST_PERMISSION = 0x1023, TILE_DATA = 18 };
    const unsigned needed = 1U << 22 | 1U << 24 | 1U << 25; // AMX-BF16, AMX-TILE, AMX-INT8
    unsigned a, b, c, features;
    bool have = __get_cpuid_count(7, 0, &a, &b, &c, &features) && (features & needed) == needed &&
                syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) == 0;
    atomic_store(&ready, have);
    return have;
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
        config.row_bytes[4 + i] = STEP_BYTES;
        config.rows[6 + i] = TILE;
        config.row_bytes[6 + i] = (uint16_t)(4 * wide[i]);
    }
    return config;
}

TARGET_AMX static void use_tiles(int rows, int columns) {
    const TileConfig config = configure(rows, columns);
    __asm__ volatile("" : : "r"(&config) : "memory"); // gcc 12 believes that 8 bytes of it are read
    _tile_loadconfig(&config);
}

void amx_begin(void) {
    if (atomic_load_explicit(&ready, memory_order_relaxed)) use_tiles(2 * TILE, 2 * TILE);
}

TARGET_AMX static void release_tiles(void) {
    _tile_release();
}

void amx_end(void) {
    if (atomic_load_explicit(&ready, memory_order_relaxed)) release_tiles();
}

TARGET_AMX float amx_peak_bf16(double *flops) {
    enum { STEPS = 100000 };
    static const float rows[TILE * TILE];
    float sums[TILE * TILE];
    use_tiles(2 * TILE, 2 * TILE);
    _tile_loadd(4, rows, STEP_BYTES); // what was never loaded multiplies faster than anything that was
    _tile_loadd(5, rows, STEP_BYTES);
    _tile_loadd(6, rows, STEP_BYTES);
    _tile_loadd(7, rows, STEP_BYTES);
    for (int step = 0; step < STEPS; step++) {
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
    }
    _tile_stored(0, sums, sizeof(float) * TILE);
    release_tiles();
    *flops = 4.0 * TILE * TILE * STEP_BYTES * STEPS; // 2 for each of a step's terms, which take 2 bytes
    return sums[0];
}

// A tile's number is part of the instruction.
#define MULTIPLY_TILES(c, a, b)                                                                                        \
    do {                                                                                                               \
        if (integers)                                                                                                  \
            _tile_dpbssd(c, a, b);                                                                                     \
        else                                                                                                           \
            _tile_dpbf16ps(c, a, b);                                                                                   \
    } while (0)

// A and B of so many steps, and how far their rows lie apart in bytes. B's steps from `joint` on lie at `rest`.
typedef struct Operands {
    const char *A, *B, *rest;
    size_t a, b;
    int steps, joint;
} Operands;

// Up to 2 TILE rows and columns of C, its rows c bytes apart; `down`, `across`: more than TILE. These and `integers`
// are constants where this is inlined.
TARGET_AMX ENGINE_INLINE void block(bool integers, bool down, bool across, const Operands *of, int row, int column,
                                    char *C, size_t c, bool accumulate) {
    const size_t a = of->a, b = of->b, offset = 4 * (size_t)column;
    const char *A = of->A + (size_t)row * a, *B = of->B + offset;
    C += (size_t)row * c + offset;
    if (accumulate) {
        _tile_loadd(0, C, c);
        if (across) _tile_loadd(1, C + 4 * TILE, c);
        if (down) _tile_loadd(2, C + TILE * c, c);
        if (down && across) _tile_loadd(3, C + TILE * c + 4 * TILE, c);
    } else {
        _tile_zero(0);
        if (across) _tile_zero(1);
        if (down) _tile_zero(2);
        if (down && across) _tile_zero(3);
    }
    for (int i = 0; i < of->steps; i++, A += STEP_BYTES, B += TILE * b) {
        if (i == of->joint) B = of->rest + offset;
        _tile_loadd(6, B, b);
        _tile_loadd(4, A, a);
        MULTIPLY_TILES(0, 4, 6);
        if (down) _tile_loadd(5, A + TILE * a, a);
        if (down) MULTIPLY_TILES(2, 5, 6);
        if (across) _tile_loadd(7, B + 4 * TILE, b);
        if (across) MULTIPLY_TILES(1, 4, 7);
        if (down && across) MULTIPLY_TILES(3, 5, 7);
    }
    _tile_stored(0, C, c);
    if (across) _tile_stored(1, C + 4 * TILE, c);
    if (down) _tile_stored(2, C + TILE * c, c);
    if (down && across) _tile_stored(3, C + TILE * c + 4 * TILE, c);
}

// Rows [row, end) and columns [column, last) of C: all blocks by one layout of the tiles.
TARGET_AMX ENGINE_INLINE void blocks(bool integers, int row, int end, int column, int last, const Operands *of, char *C,
                                     size_t c, bool accumulate) {
    for (int j = column; j < last; j += 2 * TILE) {
        for (int i = row; i < end; i += 2 * TILE) {
            const bool down = end - i > TILE, across = last - j > TILE;
            if (down && across) {
                block(integers, true, true, of, i, j, C, c, accumulate);
            } else if (down) {
                block(integers, true, false, of, i, j, C, c, accumulate);
            } else if (across) {
                block(integers, false, true, of, i, j, C, c, accumulate);
            } else {
                block(integers, false, false, of, i, j, C, c, accumulate);
            }
        }
    }
}

// Of n rows or columns those that whole tiles hold, as amx_begin has laid them out; the rest begins a block.
static int whole_tiles(int n) {
    return n % TILE == 0 ? n : n / (2 * TILE) * (2 * TILE);
}

// The same at an edge. Laying out takes as long as a block: once for all of them.
TARGET_AMX ENGINE_INLINE void edge(bool integers, int row, int end, int column, int last, const Operands *of, char *C,
                                   size_t c, bool accumulate) {
    if (row == end || column == last) return;
    use_tiles(tile_min(2 * TILE, end - row), tile_min(2 * TILE, last - column));
    blocks(integers, row, end, column, last, of, C, c, accumulate);
}

TARGET_AMX ENGINE_INLINE void multiply(bool integers, int m, int n, const Operands *of, char *C, size_t c,
                                       bool accumulate) {
    const int rows = whole_tiles(m), columns = whole_tiles(n);
    blocks(integers, 0, rows, 0, columns, of, C, c, accumulate);
    if (rows == m && columns == n) return;
    edge(integers, rows, m, 0, columns, of, C, c, accumulate);
    edge(integers, 0, rows, columns, n, of, C, c, accumulate);
    edge(integers, rows, m, columns, n, of, C, c, accumulate);
    use_tiles(2 * TILE, 2 * TILE);
}

TARGET_AMX void amx_multiply_bf16(int m, int n, int steps, const void *A, int a, const void *B, int ldb, int joint,
                                  const void *rest, float *C, int ldc, bool accumulate) {
    const Operands of = {A, B, rest, (size_t)a, 4 * (size_t)ldb, steps, joint};
    multiply(false, m, n, &of, (char *)C, 4 * (size_t)ldc, accumulate);
}

TARGET_AMX void amx_multiply_int8(int m, int n, int steps, const void *A, int a, const void *B, int ldb, int32_t *C,
                                  int ldc) {
    const Operands of = {A, B, NULL, (size_t)a, 4 * (size_t)ldb, steps, steps};
    multiply(true, m, n, &of, (char *)C, 4 * (size_t)ldc, false);
}
#else
bool amx_prepare(void) {
    return false;
}
void amx_begin(void) {}
void amx_end(void) {}

// Never called.
void amx_multiply_bf16(int m, int n, int steps, const void *A, int a, const void *B, int ldb, int joint,
                       const void *rest, float *C, int ldc, bool accumulate) {
    (void)m, (void)n, (void)steps, (void)A, (void)a, (void)B, (void)ldb, (void)joint, (void)rest;
    (void)C, (void)ldc, (void)accumulate;
}
void amx_multiply_int8(int m, int n, int steps, const void *A, int a, const void *B, int ldb, int32_t *C, int ldc) {
    (void)m, (void)n, (void)steps, (void)A, (void)a, (void)B, (void)ldb, (void)C, (void)ldc;
}
float amx_peak_bf16(double *flops) {
    return (float)(*flops = 0);
}
#endif
