#include "adapt/teacher.h"

#include "train/train_settings.h"

static const float *const *teacher_aim(void *data, const DitBatch *batch) {
    Teacher *teacher = data;
    const Dit *dit = teacher->base->dit;
    DitBatch own = *batch;
    for (int i = 0; i < batch->n; i++) teacher->labels[i] = teacher->row[batch->labels[i]];
    own.labels = teacher->labels;
    dit_forward(dit, teacher->workspace, teacher->base->params.shared, &own, teacher->output);
    return teacher->stream;
}

static KinditStatus open_parts(Teacher *teacher, KinditContext *ctx, const Dataset *dataset,
                               const TrainSettings *settings) {
    const Model *base = teacher->base;
    const DitConfig *config = &base->dit->config;
    const size_t batch = (size_t)settings->batch, side = (size_t)config->image_size;
    DitMode mode = train_mode(settings);
    mode.recompute = true; // the stream alone
    TRY(dit_workspace_create(&teacher->workspace, base->dit, base->engine, settings->batch, mode));
    TRY(engine_alloc(base->engine, batch * (size_t)dit_config_out_channels(config) * side * side, &teacher->output));
    TRY(block_map_classes(&teacher->row, ctx, dataset->classes, dataset->n_classes, base));
    return memory_alloc(ctx, batch, sizeof *teacher->labels, &teacher->labels);
}

KinditStatus teacher_open(Teacher *out, KinditContext *ctx, const Model *base, const Dataset *dataset,
                          const TrainSettings *settings, const BlockMap *map) {
    *out = (Teacher){.base = base};
    KinditStatus status = open_parts(out, ctx, dataset, settings);
    if (status) {
        teacher_close(out);
        return status;
    }
    for (int i = 0; i < map->n; i++)
        out->stream[i] = map->from[i] == BLOCK_FRESH ? NULL : dit_stream(base->dit, out->workspace, map->from[i]);
    DitCounts counts;
    dit_count(base->dit, 0, &counts);
    out->guide = (TrainGuide){.data = out,
                              .aim = teacher_aim,
                              .weight = 1.0f / (float)map->n,
                              .flops = counts.flops_linear + counts.flops_attention};
    return KINDIT_OK;
}

void teacher_close(Teacher *teacher) {
    if (!teacher->base) return;
    memory_free(&teacher->labels);
    memory_free(&teacher->row);
    engine_free(teacher->base->engine, &teacher->output);
    dit_workspace_close(&teacher->workspace);
    *teacher = (Teacher){0};
}
