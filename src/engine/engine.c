// The handle, its memory, and the passes over plain vectors.
#include "engine/engine.h"

#include <omp.h>
#include <string.h>

#include "base/memory.h"
#include "engine/gemm_bf16.h"
#include "engine/gemm_int8.h"
#include "engine/internal.h"
#include "engine/tile.h"

// Vectors are cut into parts of this many floats; sums over them do not depend on the number of threads.
enum { PART = 16384 };

static size_t part_count(size_t n) {
    return (n + PART - 1) / PART;
}
static size_t part_extent(size_t n, size_t part) {
    return n - part * PART < PART ? n - part * PART : PART;
}

// ---- handle --------------------------------------------------------------------------------------------------------

KinditStatus engine_create(Engine **out, KinditContext *ctx) {
    enum { MOST_THREADS = 1024 };
    *out = NULL;
    int threads = ctx->settings.threads;
    if (threads < 0 || threads > MOST_THREADS) {
        return context_fail(ctx, KINDIT_ERROR_ARGUMENT, "threads: expected 0 (the default) to %d, found %d",
                            MOST_THREADS, threads);
    }
    TRY(gemm_choose(ctx));
    TRY(gemm_bf16_choose(ctx));
    TRY(gemm_int8_choose(ctx));
    Engine *engine = NULL;
    TRY(memory_alloc(ctx, 1, sizeof *engine, &engine));
    engine->ctx = ctx;
    engine->threads = threads > 0 ? threads : tile_min(omp_get_max_threads(), MOST_THREADS);
    gemm_describe(engine->description, sizeof engine->description);
    engine_profile_reset(engine);
    *out = engine;
    return KINDIT_OK;
}

void engine_close(Engine **engine) {
    if (!engine || !*engine) return;
    engine_free(*engine, &(*engine)->scratch);
    memory_free(engine);
}

int engine_threads(const Engine *engine) {
    return engine->threads;
}

const char *engine_describe(const Engine *engine) {
    return engine->description;
}

const char *engine_describe_bf16(void) {
    return gemm_bf16_is_native() ? "AMX" : "fp32";
}

const char *engine_describe_int8(void) {
    return gemm_int8_description();
}

// ---- activations ---------------------------------------------------------------------------------------------------

size_t engine_type_size(EngineType type) {
    return type == ENGINE_BF16 ? sizeof(uint16_t) : sizeof(float);
}

size_t engine_type_floats(EngineType type, size_t n) {
    return (n * engine_type_size(type) + sizeof(float) - 1) / sizeof(float);
}

Activation activation_f32(const float *data) {
    return (Activation){.data = (void *)data};
}

Activation activation_at(Activation from, size_t offset) {
    if (from.data) from.data = (char *)from.data + offset * engine_type_size(from.type);
    return from;
}

// ---- memory --------------------------------------------------------------------------------------------------------

// A buffer is preceded by a cache line that keeps its size in bytes; that line is not counted as allocated.
enum { HEADER = 16 };

KinditStatus engine_alloc(Engine *engine, size_t n, float **out) {
    float *block = NULL;
    *out = NULL;
    if (n > SIZE_MAX / sizeof(float) - HEADER) {
        return context_fail(engine->ctx, KINDIT_ERROR_MEMORY, "a buffer of %zu floats is beyond this machine", n);
    }
    TRY(memory_alloc(engine->ctx, n + HEADER, sizeof(float), &block));
    size_t bytes = n * sizeof(float);
    memcpy(block, &bytes, sizeof bytes);
    engine->allocated += bytes;
    *out = block + HEADER;
    return KINDIT_OK;
}

void engine_free(Engine *engine, float **buffer) {
    if (!buffer || !*buffer) return;
    float *block = *buffer - HEADER;
    size_t bytes;
    memcpy(&bytes, block, sizeof bytes);
    engine->allocated -= bytes;
    memory_free(&block);
    *buffer = NULL;
}

size_t engine_allocated(const Engine *engine) {
    return engine->allocated;
}

KinditStatus engine_reserve(Engine *engine, size_t scratch_floats) {
    if (scratch_floats <= engine->scratch_size) return KINDIT_OK;
    engine_free(engine, &engine->scratch);
    engine->scratch_size = 0;
    TRY(engine_alloc(engine, scratch_floats, &engine->scratch));
    engine->scratch_size = scratch_floats;
    return KINDIT_OK;
}

void engine_copy(Engine *engine, float *to, const float *from, size_t n) {
    engine_profile_begin(engine);
#pragma omp parallel for num_threads(engine->threads) schedule(static)
    for (size_t part = 0; part < part_count(n); part++) {
        memcpy(to + part * PART, from + part * PART, part_extent(n, part) * sizeof(float));
    }
    engine_profile_end(engine, KERNEL_MEMORY, 0, 8.0 * (double)n);
}

void engine_upload(Engine *engine, float *to, const float *from, size_t n) {
    engine_copy(engine, to, from, n);
}

void engine_download(Engine *engine, float *to, const float *from, size_t n) {
    engine_copy(engine, to, from, n);
}

void engine_zero(Engine *engine, float *buffer, size_t n) {
    engine_profile_begin(engine);
#pragma omp parallel for num_threads(engine->threads) schedule(static)
    for (size_t part = 0; part < part_count(n); part++) {
        memset(buffer + part * PART, 0, part_extent(n, part) * sizeof(float));
    }
    engine_profile_end(engine, KERNEL_MEMORY, 0, 4.0 * (double)n);
}

// ---- passes --------------------------------------------------------------------------------------------------------

bool engine_all_finite(Engine *engine, const float *buffer, size_t n) {
    engine_profile_begin(engine);
    int bad = 0;
#pragma omp parallel for num_threads(engine->threads) schedule(static) reduction(| : bad)
    for (size_t part = 0; part < part_count(n); part++) {
        const float *x = buffer + part * PART;
        for (size_t i = 0; i < part_extent(n, part); i++) bad |= !(x[i] - x[i] == 0.0F); // NaN for NaN and infinity
    }
    engine_profile_end(engine, KERNEL_MEMORY, (double)n, 4.0 * (double)n);
    return !bad;
}

// Eight running sums, so that the additions do not wait for each other.
static double sum_squares(const float *x, size_t n) {
    double sum[8] = {0};
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        for (int j = 0; j < 8; j++) sum[j] += (double)x[i + (size_t)j] * (double)x[i + (size_t)j];
    }
    for (; i < n; i++) sum[0] += (double)x[i] * (double)x[i];
    return ((sum[0] + sum[1]) + (sum[2] + sum[3])) + ((sum[4] + sum[5]) + (sum[6] + sum[7]));
}

double engine_sum_squares(Engine *engine, size_t n, const float *x) {
    enum { LOT = 512 }; // parts summed between two additions to the total
    engine_profile_begin(engine);
    double total = 0;
    for (size_t first = 0; first < part_count(n); first += LOT) {
        double sums[LOT];
        size_t parts = part_count(n) - first < LOT ? part_count(n) - first : LOT;
#pragma omp parallel for num_threads(engine->threads) schedule(static)
        for (size_t part = 0; part < parts; part++) {
            sums[part] = sum_squares(x + (first + part) * PART, part_extent(n, first + part));
        }
        for (size_t part = 0; part < parts; part++) total += sums[part];
    }
    engine_profile_end(engine, KERNEL_MEMORY, 2.0 * (double)n, 4.0 * (double)n);
    return total;
}
