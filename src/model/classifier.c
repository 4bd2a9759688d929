#include "model/classifier.h"

static size_t image_floats(const DitConfig *config) {
    return (size_t)config->channels * (size_t)config->image_size * (size_t)config->image_size;
}

static KinditStatus open_buffers(Classifier *c, KinditContext *ctx, Engine *engine) {
    const Dit *dit = c->model->dit;
    const size_t batch = (size_t)c->batch;
    TRY(dit_workspace_create(&c->workspace, dit, engine, c->batch, (DitMode){.pack = true}));
    TRY(engine_alloc(engine, batch * image_floats(&dit->config), &c->x));
    TRY(engine_alloc(engine, batch * dit_config_output(&dit->config), &c->out));
    TRY(memory_alloc(ctx, batch, sizeof *c->slot, &c->slot));
    for (size_t i = 0; i < batch; i++) c->slot[i] = -1;
    return KINDIT_OK;
}

KinditStatus classifier_open(Classifier *out, KinditContext *ctx, Engine *engine, const char *path, int batch) {
    *out = (Classifier){.batch = batch};
    KinditStatus status = model_open_classifier(&out->model, ctx, engine, path);
    if (!status) status = open_buffers(out, ctx, engine);
    if (status) classifier_close(out);
    return status;
}

void classifier_close(Classifier *c) {
    if (c->model) {
        Engine *engine = c->model->engine;
        memory_free(&c->slot);
        engine_free(engine, &c->out);
        engine_free(engine, &c->x);
        dit_workspace_close(&c->workspace);
    }
    model_close(&c->model);
    *c = (Classifier){0};
}

// At most `batch` images.
static void run_batch(Classifier *c, const float *images, int n, float *features, float *logits) {
    const Dit *dit = c->model->dit;
    Engine *engine = c->model->engine;
    const Gate gate = {.n_samples = n, .slot = c->slot};
    const DitBatch batch = {.n = n, .x = c->x, .gate = &gate};
    const size_t count = (size_t)n;
    engine_upload(engine, c->x, images, count * image_floats(&dit->config));
    dit_forward(dit, c->workspace, c->model->params.shared, &batch, c->out);
    if (features) engine_download(engine, features, dit_features(c->workspace), count * (size_t)dit->config.width);
    if (logits) engine_download(engine, logits, c->out, count * dit_config_output(&dit->config));
}

void classifier_run(Classifier *c, const float *images, int n, float *features, float *logits) {
    const DitConfig *config = &c->model->dit->config;
    for (int done = 0, count; done < n; done += count) {
        const size_t at = (size_t)done;
        count = n - done < c->batch ? n - done : c->batch;
        run_batch(c, images + at * image_floats(config), count, features ? features + at * (size_t)config->width : NULL,
                  logits ? logits + at * dit_config_output(config) : NULL);
    }
}
