// Measures a model, or samples, against a data set: evaluate SAMPLES|MODEL DATA NETWORK N
#include <kindit/kindit.h>
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv) {
    if (argc != 5) {
        fprintf(stderr, "usage: %s SAMPLES|MODEL DATA NETWORK N\n", argv[0]);
        return 2;
    }
    KinditContext *ctx = NULL;
    KinditEvaluation found;
    KinditEvaluateSettings settings = kindit_evaluate_settings_default();
    settings.samples = argv[1];
    settings.reference = argv[2];
    settings.network = argv[3];
    settings.n = atoll(argv[4]); // 0: all there are
    settings.drawing.sampler = KINDIT_DDIM;
    settings.drawing.steps = 25;
    KinditStatus status = kindit_context_create(&ctx, NULL);
    if (!status) status = kindit_evaluate(ctx, &settings, &found);
    if (status) fprintf(stderr, "%s\n", kindit_context_message(ctx));
    if (!status)
        printf("%lld samples, %lld references: Frechet distance %.6g%s, precision %.4f, recall %.4f\n",
               (long long)found.n_samples, (long long)found.n_reference, found.frechet,
               found.biased ? " (biased: few images)" : "", found.precision, found.recall);
    kindit_context_close(&ctx);
    return status ? 1 : 0;
}
