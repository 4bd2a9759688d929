// A decomposed folder of as many classes as asked for, with weights drawn at random: make_tailors FOLDER N
// The classes are c0, c1, ...; the structure is always the same, so that folders differ in the number of tailors alone.
#include <stdio.h>
#include <stdlib.h>

#include "kind/decompose.h"

static void fill(Model *model, int c) {
    const size_t n = c < 0 ? model->dit->layout.n_shared : model->dit->layout.n_tailor;
    float *vector = c < 0 ? model->params.shared : model->params.tailor[c];
    rng_fill_normal((RngKey){.seed = 1, .sample = (uint64_t)(c + 1), .purpose = RNG_TEST}, vector, n);
    for (size_t i = 0; i < n; i++) vector[i] *= 0.2F; // the gated product stays near one
}

static KinditStatus make(KinditContext *ctx, Engine *engine, const char *folder, int n) {
    DitConfig config = dit_config_default();
    config.image_size = 16, config.channels = 1, config.patch = 4;
    config.width = 192, config.depth = 4, config.heads = 3;
    config.n_learngene = 63, config.n_tailor = 1, config.n_classes = n;
    ModelClass *classes;
    Model *model;
    TRY(memory_alloc(ctx, (size_t)n, sizeof *classes, &classes));
    for (int c = 0; c < n; c++) {
        snprintf(classes[c].id, sizeof classes[c].id, "c%d", c);
        snprintf(classes[c].name, sizeof classes[c].name, "class %d", c);
    }
    KinditStatus status = model_create(&model, ctx, engine, &config, classes, 1);
    for (int c = -1; c < n && !status; c++) fill(model, c);
    if (!status) status = decompose_write(model, ctx, folder, STORAGE_F32, false);
    model_close(&model);
    memory_free(&classes);
    return status;
}

int main(int argc, char **argv) {
    KinditContext *ctx = NULL;
    Engine *engine = NULL;
    if (argc != 3 || atoi(argv[2]) < 1) return fprintf(stderr, "usage: %s FOLDER N\n", argv[0]), 2;
    KinditContextSettings settings = {.threads = 1};
    KinditStatus status = kindit_context_create(&ctx, &settings);
    if (!status) status = engine_create(&engine, ctx);
    if (!status) status = make(ctx, engine, argv[1], atoi(argv[2]));
    if (status) fprintf(stderr, "%s\n", kindit_context_message(ctx));
    engine_close(&engine);
    kindit_context_close(&ctx);
    return status ? 1 : 0;
}
