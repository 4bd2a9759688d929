#include "adapt/adapt_count.h"

#include "engine/cayley.h"

// What the paper's program multiplies for one image in a matrix with this adapter, which is what Table 2 counts. Ours
// multiplies less where peft applies the base twice or a rotation as a full matrix (docs/method.md).
static double paper_flops(const Linear *linear, double open_components) {
    const double rows = linear->rows, m1 = linear->m1, m2 = linear->m2, dense = 2 * rows * m1 * m2;
    const double own = rows * linear->kind->flops(linear, open_components);
    switch (linear->base ? linear->adapter->kind : ADAPTER_NONE) {
    case ADAPTER_LOHA: return 2 * dense; // the base, and the difference as a matrix of its own
    case ADAPTER_OFT: return dense + 2 * rows * m1 * m1;
    case ADAPTER_SVDIFF: return dense;
    case ADAPTER_DORA: // LoRA, the base again, the product of its factors, applied to the identity, and the magnitudes
        return 2 * dense + 2 * (rows + m1) * linear->adapter->rank * (m1 + m2) + rows * m2;
    default: return own;
    }
}

// OFT's blocks need not divide to be counted: they are of the next whole size, as in the paper's table.
static int64_t rotation_numbers(const Linear *linear, int blocks) {
    return (int64_t)blocks * (int64_t)cayley_numbers((linear->m1 + blocks - 1) / blocks);
}

static void count(AdaptCount *out, const Dit *dit, int blocks) {
    DitCounts counts;
    dit_count(dit, dit->config.n_classes, &counts);
    *out = (AdaptCount){.trainable_params = counts.trained};
    for (int i = 0; i < dit->n_linears; i++) {
        const Linear *linear = dit->linears[i];
        out->flops_per_image += paper_flops(linear, (double)dit->config.n_classes * dit->config.n_tailor);
        if (dit->config.adapter.kind == ADAPTER_OFT && linear->base)
            out->trainable_params += rotation_numbers(linear, blocks) -
                                     (int64_t)params_spec_size(&dit->layout.specs[linear->param[OFT_R]], 0);
    }
}

KinditStatus adapt_count(AdaptCount *out, KinditContext *ctx, const AdaptMethod *method, const DitConfig *base,
                         const AdaptSettings *settings, int n_classes) {
    DitConfig config = *base;
    AdaptSettings others = *settings;
    Dit *dit;
    others.adapter.blocks = 0;
    TRY(adapt_configure(&config, ctx, &others, method, n_classes));
    TRY(dit_create(&dit, ctx, &config));
    params_freeze(&dit->layout, method->frozen);
    count(out, dit, settings->adapter.blocks ? settings->adapter.blocks : adapt_blocks(base, n_classes));
    dit_close(&dit);
    return KINDIT_OK;
}
