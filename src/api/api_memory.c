// What drawing takes of memory beyond what is resident, and how many images at once a limit allows.
#include "api/internal.h"
#include "diffusion/sampler_memory.h"

// Pages that only drawing touches: of the program's code, and of the stacks of each thread.
enum { CODE_BYTES = 256 << 10, THREAD_BYTES = 64 << 10 };

// Classes that a batch holds at most, where images come class after class.
static int classes_of_batch(int batch, int n_per_class, int n_classes) {
    int most = n_per_class % batch == 0   ? 1
               : batch % n_per_class == 0 ? batch / n_per_class
                                          : (batch - 2) / n_per_class + 2;
    return most < n_classes ? most : n_classes;
}

// The plan for `batch` images at once, which settings->batch says.
static void fill(KinditMemoryPlan *out, const KinditModel *model, const SamplerSettings *settings, int n_classes,
                 int n_per_class) {
    const Dit *dit = model->model->dit;
    const DitConfig *config = &dit->config;
    const int batch = settings->batch, rows = sampler_rows(settings, batch), threads = engine_threads(model->engine);
    const size_t image = (size_t)config->channels * (size_t)config->image_size * (size_t)config->image_size;
    const size_t values_pixels_label = image * (sizeof(float) + 1) + sizeof(int);
    const size_t per_row = sizeof(RngKey) + 4 * sizeof(int), per_class = 2 * sizeof(float *) + 2 * sizeof(int);
    SamplerMemory memory;
    out->batch = batch;
    out->packed = !settings->frugal;
    out->tailors = config->factored && !settings->no_tailors ? classes_of_batch(batch, n_per_class, n_classes) : 0;
    sampler_predict_memory(&memory, dit, settings, batch, out->tailors, threads);
    out->tailor_bytes = 0;
    if (out->tailors)
        out->tailor_bytes = (int64_t)((size_t)out->tailors * tailor_store_bytes(model->model->store) +
                                      tailor_store_loading_bytes(model->model->store));
    out->drawing_bytes = (int64_t)(memory.activations + memory.scratch + memory.batch +
                                   (size_t)batch * values_pixels_label + (size_t)rows * per_row +
                                   (size_t)config->n_classes * per_class + CODE_BYTES + (size_t)threads * THREAD_BYTES);
    out->total_bytes = out->resident_bytes + out->tailor_bytes + out->drawing_bytes;
}

// The largest batch up to `most` that fits the limit, planned; 1 where none does.
static void fit(KinditMemoryPlan *out, const KinditModel *model, SamplerSettings *settings, int most, int n_classes,
                int n_per_class) {
    int low = 1, high = most;
    while (out->limit_bytes > 0 && low < high) {
        settings->batch = low + (high - low + 1) / 2;
        fill(out, model, settings, n_classes, n_per_class);
        if (out->total_bytes <= out->limit_bytes)
            low = settings->batch;
        else
            high = settings->batch - 1;
    }
    settings->batch = high;
    fill(out, model, settings, n_classes, n_per_class);
}

KinditStatus api_plan_memory(KinditMemoryPlan *out, const KinditModel *model, SamplerSettings *settings, int n_classes,
                             int n_per_class) {
    const int64_t limit = model->ctx->settings.memory, images = (int64_t)n_classes * n_per_class;
    const int most = settings->batch < images ? settings->batch : (int)images;
    *out = (KinditMemoryPlan){.limit_bytes = limit, .resident_bytes = (int64_t)memory_resident()};
    fit(out, model, settings, most, n_classes, n_per_class);
    if (limit == 0 || out->total_bytes <= limit) return KINDIT_OK;
    settings->frugal = true; // not before: packing once is faster than any batch
    fit(out, model, settings, most, n_classes, n_per_class);
    if (out->total_bytes <= limit) return KINDIT_OK;
    return context_fail(
        model->ctx, KINDIT_ERROR_MEMORY,
        "a limit of %.1f MB of memory cannot be kept: drawing one image at a time takes %.1f MB (%.1f MB "
        "in use with the learngene, %.1f MB for its tailor, %.1f MB to draw); allow %.1f MB, or take a "
        "smaller model",
        (double)limit / 1e6, (double)out->total_bytes / 1e6, (double)out->resident_bytes / 1e6,
        (double)out->tailor_bytes / 1e6, (double)out->drawing_bytes / 1e6, ((double)out->total_bytes + 2e5) / 1e6);
}
