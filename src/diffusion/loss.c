#include "diffusion/loss.h"

#include <math.h>

#include "base/memory.h"

enum { N_ARRAYS = 8 };

KinditStatus loss_batch_create(DiffusionBatch *out, KinditContext *ctx, int capacity) {
    *out = (DiffusionBatch){.capacity = capacity};
    TRY(memory_alloc(ctx, (size_t)capacity, N_ARRAYS * sizeof(float), &out->block));
    KinditStatus status = memory_alloc(ctx, (size_t)capacity, sizeof(int), &out->is_first);
    if (status != KINDIT_OK) {
        loss_batch_close(out);
        return status;
    }
    const size_t n = (size_t)capacity;
    float *block = out->block;
    out->sqrt_alpha_bar = block;
    out->sqrt_one_minus = block + n;
    out->terms = (LossTerms){.sqrt_recip = block + 2 * n,
                             .sqrt_recipm1 = block + 3 * n,
                             .mean_x0 = block + 4 * n,
                             .mean_xt = block + 5 * n,
                             .log_variance_low = block + 6 * n,
                             .log_variance_range = block + 7 * n,
                             .is_first = out->is_first};
    return KINDIT_OK;
}

void loss_batch_close(DiffusionBatch *batch) {
    memory_free(&batch->block);
    memory_free(&batch->is_first);
    *batch = (DiffusionBatch){0};
}

void loss_batch_fill(DiffusionBatch *batch, const Schedule *schedule, const int *t, int n) {
    const size_t stride = (size_t)batch->capacity;
    for (int i = 0; i < n; i++) {
        const int step = t[i];
        const double alpha_bar = schedule->alpha_bar[step];
        float *entry = batch->block + i; // the arrays in the order that loss_batch_create laid them out
        entry[0] = (float)sqrt(alpha_bar);
        entry[stride] = (float)sqrt(1.0 - alpha_bar);
        entry[2 * stride] = (float)sqrt(1.0 / alpha_bar);
        entry[3 * stride] = (float)sqrt(1.0 / alpha_bar - 1.0);
        entry[4 * stride] = (float)schedule->mean_x0[step];
        entry[5 * stride] = (float)schedule->mean_xt[step];
        entry[6 * stride] = (float)schedule->posterior_log_variance[step];
        entry[7 * stride] = (float)(log(schedule->beta[step]) - schedule->posterior_log_variance[step]);
        batch->is_first[i] = step == 0;
    }
}
