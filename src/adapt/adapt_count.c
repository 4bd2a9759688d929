#include "adapt/adapt_count.h"

KinditStatus adapt_count(AdaptCount *out, KinditContext *ctx, const AdaptMethod *method, const DitConfig *base,
                         int n_classes) {
    DitConfig config = *base;
    DitCounts counts;
    Dit *dit;
    config.n_classes = n_classes;
    TRY(dit_create(&dit, ctx, &config));
    params_freeze(&dit->layout, method->frozen);
    dit_count(dit, config.n_classes, &counts);
    *out = (AdaptCount){.trainable_params = counts.trained, .flops_per_image = counts.flops_linear};
    dit_close(&dit);
    return KINDIT_OK;
}
