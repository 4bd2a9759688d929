// The engine memory that drawing takes, known before anything is allocated: what sampler.c does, counted.
#ifndef DIFFUSION_SAMPLER_MEMORY_H
#define DIFFUSION_SAMPLER_MEMORY_H

#include "diffusion/sampler.h"

typedef struct SamplerMemory {
    size_t weights;     // the learngene and every open tailor, as fp32
    size_t activations; // of a forward pass, with the weights packed for the kernels
    size_t scratch, batch, total;
} SamplerMemory; // bytes; buffers' own book-keeping (64 bytes each) excluded

// At the peak of sampler_run for `n` images (or more than a batch) of which a batch holds up to `tailors` tailors, on
// `threads` threads, with a model of this structure and nothing else in the engine.
void sampler_predict_memory(SamplerMemory *out, const Dit *dit, const SamplerSettings *settings, int n, int tailors,
                            int threads);
// How its passes of so many rows compute.
DitMode sampler_mode(const SamplerSettings *settings, int rows, int tailors);

// `total` for one image with the default settings, on *(const int *)threads threads: what an AssemblyMemory asks.
size_t sampler_memory_of_one(const void *threads, const Dit *dit);

// Rows of a forward pass for `batch` images: guidance adds an unconditional half to the conditional one.
int sampler_rows(const SamplerSettings *settings, int batch);

// Tailors that sampler_run for these labels holds at once, at most: a batch's runs of equal labels.
int sampler_tailors(const Model *model, const SamplerSettings *settings, int n, const int *labels);

#endif
