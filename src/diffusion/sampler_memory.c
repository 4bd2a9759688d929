#include "diffusion/sampler_memory.h"

// Without classes both halves would be the same, and guidance between equals does nothing.
int sampler_rows(const SamplerSettings *settings, int batch) {
    const bool conditional = !settings->no_tailors || settings->keep_label_rows;
    return settings->guidance != 1 && conditional ? 2 * batch : batch;
}

// Steps whose conditioning is computed at once: what that takes is to read, or to pack, the weights of each adaLN.
static int steps_together(const SamplerSettings *settings, int rows) {
    const int together = settings->frugal ? 16 : 256; // rows: of wider models fewer numbers than the weights
    const int most = rows < together ? together / rows : 1;
    return most < settings->steps ? most : settings->steps;
}

DitMode sampler_mode(const SamplerSettings *settings, int rows, int tailors) {
    return (DitMode){.pack = !settings->frugal,
                     .int8 = settings->int8,
                     .slots = tailors,
                     .passes = steps_together(settings, rows),
                     .type = settings->bf16 ? ENGINE_BF16 : ENGINE_F32};
}

void sampler_predict_memory(SamplerMemory *out, const Dit *dit, const SamplerSettings *settings, int n, int tailors,
                            int threads) {
    const DitConfig *config = &dit->config;
    const int batch = settings->batch < n ? settings->batch : n, rows = sampler_rows(settings, batch);
    const DitMode mode = sampler_mode(settings, rows, tailors);
    const size_t plane = (size_t)config->image_size * (size_t)config->image_size,
                 size = (size_t)config->channels * plane, size_out = (size_t)dit_config_out_channels(config) * plane,
                 weights = dit->layout.n_shared + (size_t)config->n_classes * dit->layout.n_tailor;
    const size_t x_output_t = (size_t)rows * (size + size_out + (size_t)mode.passes), noise = (size_t)batch * size;
    *out = (SamplerMemory){
        .weights = weights * sizeof(float),
        .activations = dit_workspace_floats(dit, rows, mode) * sizeof(float),
        .scratch = dit_scratch_floats(dit, rows, threads, mode) * sizeof(float),
        .batch = (x_output_t + noise + (settings->keep_label_rows ? weights : 0)) * sizeof(float),
    };
    out->total = out->weights + out->activations + out->scratch + out->batch;
}

size_t sampler_memory_of_one(const void *threads, const Dit *dit) {
    const SamplerSettings settings = sampler_settings_default();
    SamplerMemory memory;
    sampler_predict_memory(&memory, dit, &settings, 1, 1, *(const int *)threads);
    return memory.total;
}

int sampler_tailors(const Model *model, const SamplerSettings *settings, int n, const int *labels) {
    int most = 0;
    if (settings->no_tailors && !settings->keep_label_rows) return 0;
    for (int at = 0; at < n; at += settings->batch) {
        int end = n - at < settings->batch ? n : at + settings->batch, runs = 1;
        for (int i = at + 1; i < end; i++) runs += labels[i] != labels[i - 1];
        if (runs > most) most = runs;
    }
    return most < model->params.n_classes ? most : model->params.n_classes;
}
