// Where the time goes: seconds, FLOPs and bytes of each kind of kernel.
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "engine/internal.h"

static const char *const names[N_KERNELS] = {
    [KERNEL_LINEAR_FORWARD] = "linear forward",
    [KERNEL_LINEAR_BACKWARD] = "linear backward",
    [KERNEL_GATED_FORWARD] = "gated forward",
    [KERNEL_GATED_BACKWARD] = "gated backward",
    [KERNEL_ADAPTER] = "adapter",
    [KERNEL_ATTENTION_FORWARD] = "attention forward",
    [KERNEL_ATTENTION_BACKWARD] = "attention backward",
    [KERNEL_NORM] = "norm",
    [KERNEL_RESIDUAL] = "residual",
    [KERNEL_ACTIVATION] = "activation",
    [KERNEL_EDGE] = "edge",
    [KERNEL_DIFFUSION] = "diffusion",
    [KERNEL_ADAMW] = "adamw",
    [KERNEL_MEMORY] = "memory",
};

void engine_profile_begin(Engine *engine) {
    if (engine->profiling) engine->profile_start = clock_seconds();
}

void engine_profile_end(Engine *engine, EngineKernel kernel, double flops, double bytes) {
    if (!engine->profiling) return;
    EngineProfile *profile = &engine->profile[kernel];
    profile->calls++;
    profile->seconds += clock_seconds() - engine->profile_start;
    profile->flops += flops;
    profile->bytes += bytes;
}

void engine_profile_enable(Engine *engine, bool on) {
    engine->profiling = on;
}

void engine_profile_reset(Engine *engine) {
    memset(engine->profile, 0, sizeof engine->profile);
    for (int i = 0; i < N_KERNELS; i++) engine->profile[i].name = names[i];
}

static int compare_seconds(const void *a, const void *b) {
    double x = ((const EngineProfile *)a)->seconds, y = ((const EngineProfile *)b)->seconds;
    return (x < y) - (x > y);
}

int engine_profile_read(const Engine *engine, EngineProfile *out, int capacity) {
    EngineProfile sorted[N_KERNELS];
    int count = 0;
    for (int i = 0; i < N_KERNELS; i++) {
        if (engine->profile[i].calls > 0) sorted[count++] = engine->profile[i];
    }
    qsort(sorted, (size_t)count, sizeof *sorted, compare_seconds);
    for (int i = 0; i < count && i < capacity; i++) out[i] = sorted[i];
    return count;
}
