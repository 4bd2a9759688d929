// Trains a small model, takes it apart and assembles one class of it: examples/train DATA FOLDER STEPS CLASS
#include <kindit/kindit.h>
#include <stdio.h>
#include <stdlib.h>

static void show(void *user, const KinditProgress *progress) {
    (void)user;
    if (progress->done % 10 == 0)
        printf("%s %lld/%lld %s\n", progress->task, (long long)progress->done, (long long)progress->total,
               progress->text);
}

static KinditStatus run(KinditContext *ctx, KinditModel **model, char **argv) {
    char path[3][1024];
    snprintf(path[0], sizeof path[0], "%s/run", argv[2]);
    snprintf(path[1], sizeof path[1], "%s/parts", argv[2]);
    snprintf(path[2], sizeof path[2], "%s/one.safetensors", argv[2]);

    KinditTrainSettings training = kindit_train_settings_default();
    training.width = 64, training.depth = 2, training.heads = 2, training.patch = 4;
    training.n_learngene = 24, training.n_tailor = 2;
    training.batch = 16, training.lr = 1e-3, training.ema_decay = 0.99;
    training.steps = strtoll(argv[3], NULL, 10);
    KinditTrainResult result;
    KinditStatus status = kindit_train(ctx, &training, argv[1], path[0], &result);
    if (status) return status;
    printf("step %lld: loss %.4f, %s\n", (long long)result.step, result.loss, result.model);

    status = kindit_model_open(model, ctx, result.model, NULL);
    if (!status) status = kindit_decompose(*model, path[1], KINDIT_F32);
    KinditAssembleSettings assembling = kindit_assemble_settings_default();
    assembling.classes = argv[4];
    if (!status) status = kindit_assemble(ctx, &assembling, path[1], path[2], NULL);
    return status;
}

int main(int argc, char **argv) {
    if (argc != 5) return fprintf(stderr, "usage: %s DATA FOLDER STEPS CLASS\n", argv[0]), 2;
    KinditContextSettings settings = kindit_context_settings_default();
    settings.progress = show;
    KinditContext *ctx = NULL;
    KinditModel *model = NULL;
    KinditStatus status = kindit_context_create(&ctx, &settings);
    if (!status) status = run(ctx, &model, argv);
    if (status) fprintf(stderr, "%s\n", kindit_context_message(ctx));
    kindit_model_close(&model);
    kindit_context_close(&ctx);
    return status ? 1 : 0;
}
