#include "train/train_batch.h"

static size_t sample_size(const Dataset *dataset) {
    return (size_t)dataset->channels * (size_t)dataset->size * (size_t)dataset->size;
}

static KinditStatus open_buffers(TrainBatch *batch, KinditContext *ctx, const Dataset *dataset, bool noised) {
    const TrainSettings *s = batch->settings;
    const size_t n = (size_t)s->batch, floats = n * sample_size(dataset);
    TRY(loader_create(&batch->loader, ctx, dataset, dataset->train, s->seed, s->batch));
    batch->loader.shift = s->shift;
    TRY(engine_alloc(batch->engine, floats, &batch->x0));
    TRY(memory_alloc(ctx, n, sizeof *batch->labels, &batch->labels));
    if (!noised) return KINDIT_OK;
    TRY(engine_alloc(batch->engine, floats, &batch->noise));
    TRY(memory_alloc(ctx, n, sizeof *batch->keys, &batch->keys));
    return memory_alloc(ctx, n, sizeof *batch->t, &batch->t);
}

KinditStatus train_batch_create(TrainBatch *out, KinditContext *ctx, Engine *engine, const Dataset *dataset,
                                const TrainSettings *settings, bool noised) {
    *out = (TrainBatch){.engine = engine, .settings = settings};
    KinditStatus status = open_buffers(out, ctx, dataset, noised);
    if (status) train_batch_close(out);
    return status;
}

void train_batch_close(TrainBatch *batch) {
    if (!batch->engine) return;
    memory_free(&batch->labels);
    memory_free(&batch->t);
    memory_free(&batch->keys);
    engine_free(batch->engine, &batch->noise);
    engine_free(batch->engine, &batch->x0);
    loader_close(&batch->loader);
    *batch = (TrainBatch){0};
}

void train_batch_read(TrainBatch *batch, int64_t first) {
    const TrainSettings *s = batch->settings;
    const Dataset *dataset = batch->loader.dataset;
    loader_read(&batch->loader, batch->engine, first, s->batch, batch->x0, batch->labels);
    if (!batch->noise) return;
    for (int i = 0; i < s->batch; i++) {
        RngKey key = {.seed = s->seed, .sample = (uint64_t)(first + i), .purpose = RNG_LABEL_DROPOUT};
        if (rng_uniform(key, 0) < s->label_dropout) batch->labels[i] = dataset->n_classes;
        key.purpose = RNG_TIMESTEP;
        batch->t[i] = (int)rng_below(key, 0, (uint32_t)s->diffusion_steps);
        key.purpose = RNG_NOISE;
        batch->keys[i] = key;
    }
    engine_fill_normal(batch->engine, s->batch, sample_size(dataset), batch->keys, batch->noise);
}
