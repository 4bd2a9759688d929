// Teaches a decomposed model the classes of another data set, then draws one of them with the model as it was, to which
// its new tailor is added:
//     adapt PARTS DATA RUN STEPS
#include <kindit/kindit.h>
#include <stdio.h>
#include <stdlib.h>

static void show(void *user, KinditLogLevel level, const char *message) {
    (void)user, (void)level;
    printf("%s\n", message);
}

static KinditStatus teach(KinditContext *ctx, char *argv[], KinditTrainResult *result) {
    KinditAdaptSettings settings = kindit_adapt_settings_default(); // the learngene stays as it is
    settings.train.batch = 16;
    settings.train.steps = atoi(argv[4]);
    settings.train.ema_decay = 0.9;
    settings.train.checkpoint_every = settings.train.sample_every = 0;
    return kindit_adapt(ctx, &settings, argv[1], argv[2], argv[3], result);
}

// tailor[] = where the tailor of the first new class now lies.
static KinditStatus take_apart(KinditContext *ctx, const char *path, const char *run, char tailor[1024]) {
    KinditModel *adapted = NULL;
    char parts[512];
    snprintf(parts, sizeof parts, "%s/parts", run);
    KinditStatus status = kindit_model_open(&adapted, ctx, path, NULL);
    if (!status) status = kindit_decompose(adapted, parts, KINDIT_F32);
    if (!status) snprintf(tailor, 1024, "%s/tailors/%s.safetensors", parts, kindit_model_class_id(adapted, 0));
    kindit_model_close(&adapted);
    return status;
}

int main(int argc, char *argv[]) {
    KinditContextSettings callbacks = {.log = show};
    KinditSampleSettings drawing = kindit_sample_settings_default();
    KinditContext *ctx = NULL;
    KinditModel *model = NULL;
    KinditTrainResult result;
    char tailor[1024], grid[1024];
    if (argc != 5) return fprintf(stderr, "usage: adapt PARTS DATA RUN STEPS\n"), 2;
    snprintf(grid, sizeof grid, "%s/grid.png", argv[3]);
    drawing.steps = 20;
    KinditStatus status = kindit_context_create(&ctx, &callbacks);
    if (!status) status = teach(ctx, argv, &result);
    if (!status) status = take_apart(ctx, result.model, argv[3], tailor);
    if (!status) status = kindit_model_open(&model, ctx, argv[1], NULL);
    if (!status) status = kindit_model_add_tailor(model, tailor);
    if (!status) status = kindit_sample_to_png(model, &drawing, grid);
    if (status) fprintf(stderr, "%s\n", kindit_context_message(ctx));
    kindit_model_close(&model);
    kindit_context_close(&ctx);
    return status ? 1 : 0;
}
