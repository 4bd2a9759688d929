// Draws classes of a model: examples/sample MODEL A,B grid.png
#include <kindit/kindit.h>
#include <stdio.h>

// What the callback keeps: how dark the images of each class are on average.
typedef struct Darkness {
    double sum;
    int64_t n;
} Darkness;

static KinditStatus measure(void *user, const KinditImage *image) {
    Darkness *darkness = user;
    size_t n = (size_t)image->channels * (size_t)image->size * (size_t)image->size;
    for (size_t i = 0; i < n; i++) darkness->sum -= image->values[i] / (double)n;
    darkness->n++;
    return KINDIT_OK;
}

static KinditStatus run(KinditContext *ctx, KinditModel **model, const char *path, const char *classes,
                        const char *png) {
    KinditStatus status = kindit_model_open(model, ctx, path, classes); // the learngene and these tailors, nothing else
    if (status) return status;
    KinditSampleSettings settings = kindit_sample_settings_default();
    settings.sampler = KINDIT_DDIM;
    settings.steps = 50;
    status = kindit_sample_to_png(*model, &settings, png);
    if (status) return status;

    Darkness darkness = {0};
    settings.n_per_class = 2;
    status = kindit_sample(*model, &settings, measure, &darkness);
    if (status) return status;
    KinditModelInfo info;
    kindit_model_info(*model, &info);
    printf("%s: %d classes, %lld parameters; mean darkness %.3f\n", png, info.n_classes, (long long)info.parameters,
           darkness.sum / (double)darkness.n);
    return KINDIT_OK;
}

int main(int argc, char **argv) {
    if (argc != 4) {
        fprintf(stderr, "usage: %s MODEL CLASSES FILE.png\n", argv[0]);
        return 2;
    }
    KinditContext *ctx = NULL;
    KinditModel *model = NULL;
    KinditStatus status = kindit_context_create(&ctx, NULL);
    if (!status) status = run(ctx, &model, argv[1], argv[2], argv[3]);
    if (status) fprintf(stderr, "%s\n", kindit_context_message(ctx));
    kindit_model_close(&model);
    kindit_context_close(&ctx);
    return status ? 1 : 0;
}
