#include "train/train_settings.h"
#include "train/train_step.h"

static void predict(TrainMemory *out, const Dit *dit, const TrainSettings *settings, int threads) {
    const DitConfig *config = &dit->config;
    const size_t tailors = (size_t)config->n_classes * dit->layout.n_tailor;
    const size_t n_weights = dit->layout.n_shared + tailors, n_trained = params_trained(&dit->layout) + tailors;
    const size_t sample = (size_t)config->channels * (size_t)config->image_size * (size_t)config->image_size;
    const DitMode mode = train_mode(settings);
    size_t step_buffers;
    *out = (TrainMemory){.weights = n_weights * sizeof(float), .optimizer = 3 * n_trained * sizeof(float)};
    train_step_count(dit, settings->batch, settings->accumulate, &out->gradients, &step_buffers);
    out->activations = dit_workspace_floats(dit, settings->batch, mode) * sizeof(float);
    out->scratch = dit_scratch_floats(dit, settings->batch, threads, mode) * sizeof(float);
    const size_t read = config->classifier ? 1 : 2; // images; and noise
    out->batch = step_buffers + read * (size_t)settings->batch * sample * sizeof(float);
    out->total = out->weights + out->optimizer + out->gradients + out->activations + out->scratch + out->batch;
}

KinditStatus train_predict_memory(TrainMemory *out, KinditContext *ctx, const DitConfig *config,
                                  const TrainSettings *settings, int threads) {
    TRY(train_settings_check(settings, ctx));
    Dit *dit = NULL;
    TRY(dit_create(&dit, ctx, config));
    KinditStatus status = dit_check_batch(dit, settings->batch);
    if (!status) predict(out, dit, settings, threads);
    dit_close(&dit);
    return status;
}
