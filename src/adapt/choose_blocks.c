#include "adapt/choose_blocks.h"

#include <string.h>

#include "adapt/similarity.h"
#include "base/file.h"
#include "train/train_batch.h"
#include "train/train_settings.h"
#include "train/train_step.h"

// ---- a model on the first batch ------------------------------------------------------------------------------------

typedef struct Look {
    Model *model;
    Schedule schedule;
    TrainBatch batch;
    TrainStep step;
    int *row, *labels; // of each class of the data in the model, and of each sample
} Look;

static void look_close(Look *look) {
    memory_free(&look->labels);
    memory_free(&look->row);
    train_step_close(&look->step);
    train_batch_close(&look->batch);
    schedule_close(&look->schedule);
}

static KinditStatus open_parts(Look *look, KinditContext *ctx, const BlockChoice *choice) {
    const TrainSettings *s = choice->train;
    const Dataset *dataset = choice->dataset;
    Model *model = look->model;
    DitMode mode = train_mode(s);
    mode.recompute = true; // the stream alone
    TRY(schedule_create(&look->schedule, ctx, s->diffusion_steps, s->beta_first, s->beta_last));
    TRY(train_batch_create(&look->batch, ctx, model->engine, dataset, s, true));
    TRY(train_step_create(&look->step, model, &look->schedule, s->batch, 1, mode));
    TRY(block_map_classes(&look->row, ctx, dataset->classes, dataset->n_classes, model));
    TRY(memory_alloc(ctx, (size_t)s->batch, sizeof *look->labels, &look->labels));
    train_batch_read(&look->batch, 0);
    for (int i = 0; i < s->batch; i++) look->labels[i] = look->row[look->batch.labels[i]];
    return KINDIT_OK;
}

static KinditStatus look_open(Look *out, KinditContext *ctx, const BlockChoice *choice, Model *model) {
    *out = (Look){.model = model};
    KinditStatus status = open_parts(out, ctx, choice);
    if (status) look_close(out);
    return status;
}

static void look_again(Look *look) {
    DitBatch unused;
    train_step_begin(&look->step);
    train_step_forward(&look->step, look->batch.x0, look->batch.noise, look->batch.t, look->labels, look->step.batch,
                       &unused);
}

static const float *look_stream(const Look *look, int block) {
    return dit_stream(look->model->dit, look->step.workspace, block);
}

// ---- similarity ----------------------------------------------------------------------------------------------------

KinditStatus choose_by_similarity(double *score, KinditContext *ctx, const BlockChoice *choice, Model *other) {
    const DitConfig *config = &choice->base->dit->config;
    Look base, descendant;
    TRY(look_open(&base, ctx, choice, choice->base));
    KinditStatus status = look_open(&descendant, ctx, choice, other);
    if (!status) {
        look_again(&base);
        look_again(&descendant);
    }
    for (int i = 0; i < config->depth && !status; i++)
        status = similarity_cka(&score[i], ctx, other->engine, choice->train->batch * dit_config_tokens(config),
                                config->width, look_stream(&base, i), look_stream(&descendant, i));
    look_close(&descendant);
    look_close(&base);
    return status;
}

// As briefly trained on the new data as `pseudo_steps` says, from afresh; the weights themselves, not their average.
static KinditStatus train_descendant(Model **out, KinditContext *ctx, const BlockChoice *choice, const char *folder) {
    TrainSettings settings = *choice->train;
    TrainJob job = train_job_pretrain(&choice->base->dit->config);
    TrainResult unused;
    job.task = "descendant";
    settings.steps = choice->pseudo_steps;
    settings.max_seconds = settings.ema_decay = 0;
    settings.decay = settings.log_every = settings.checkpoint_every = settings.sample_every = 0;
    TRY(train_run(ctx, choice->base->engine, folder, choice->dataset->path, &job, &settings, false, &unused));
    return model_open(out, ctx, choice->base->engine, folder, NULL);
}

static KinditStatus score_similarity(double *score, KinditContext *ctx, const BlockChoice *choice) {
    char folder[1024];
    Model *descendant = NULL;
    TRY(file_path(folder, ctx, "%s/pseudo", choice->run));
    TRY(file_remove_tree(ctx, folder)); // of a choice that was interrupted
    KinditStatus status = train_descendant(&descendant, ctx, choice, folder);
    if (!status) status = choose_by_similarity(score, ctx, choice, descendant);
    model_close(&descendant);
    if (status == KINDIT_CANCELLED)
        context_fail(ctx, status, "%s: stopped while blocks were chosen: begin it again", choice->run);
    if (!status) return file_remove_tree(ctx, folder);
    file_remove_tree(NULL, folder); // the message to keep is the first one
    return status;
}

// ---- error ---------------------------------------------------------------------------------------------------------

// Without its gates, which adaLN gives, a block adds nothing to the stream.
static void shut_block(Look *look, int block) {
    const Model *model = look->model;
    const Linear *adaln = &model->dit->blocks[block].adaln;
    for (int which = DENSE_WEIGHT; which <= DENSE_BIAS; which++) {
        const ParamSpec *spec = &model->dit->layout.specs[adaln->param[which]];
        engine_zero(model->engine, model->params.shared + spec->shared_offset, params_spec_size(spec, 0));
    }
}

// Mean over samples and the channels of epsilon, the first ones.
static double squared_change(const DitConfig *config, int batch, const float *a, const float *b) {
    const size_t plane = (size_t)config->image_size * (size_t)config->image_size;
    const size_t n = (size_t)config->channels * plane, stride = (size_t)dit_config_out_channels(config) * plane;
    double sum = 0;
    for (size_t at = 0; at < (size_t)batch * stride; at += stride)
        for (size_t i = at; i < at + n; i++) sum += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
    return sum / ((double)batch * (double)n);
}

static KinditStatus score_each(double *score, KinditContext *ctx, Look *look, float *whole, float *without, size_t n,
                               float *weights) {
    const Model *model = look->model;
    const DitConfig *config = &model->dit->config;
    Engine *engine = model->engine;
    engine_download(engine, weights, model->params.shared, model->dit->layout.n_shared);
    look_again(look);
    engine_download(engine, whole, look->step.output, n);
    for (int i = 0; i < config->depth; i++) {
        if (context_cancelled(ctx))
            return context_fail(ctx, KINDIT_CANCELLED, "stopped while blocks were chosen: begin the run again");
        shut_block(look, i);
        look_again(look);
        engine_download(engine, without, look->step.output, n);
        score[i] = squared_change(config, look->step.batch, whole, without);
        engine_upload(engine, model->params.shared, weights, model->dit->layout.n_shared);
    }
    return KINDIT_OK;
}

KinditStatus choose_by_error(double *score, KinditContext *ctx, const BlockChoice *choice) {
    const DitConfig *config = &choice->base->dit->config;
    const size_t n = (size_t)choice->train->batch * (size_t)dit_config_out_channels(config) *
                     (size_t)config->image_size * (size_t)config->image_size;
    float *whole = NULL, *without = NULL, *weights = NULL;
    Look look;
    TRY(look_open(&look, ctx, choice, choice->base));
    KinditStatus status = memory_alloc(ctx, n, sizeof *whole, &whole);
    if (!status) status = memory_alloc(ctx, n, sizeof *without, &without);
    if (!status) status = memory_alloc(ctx, choice->base->dit->layout.n_shared, sizeof *weights, &weights);
    if (!status) status = score_each(score, ctx, &look, whole, without, n, weights);
    memory_free(&weights);
    memory_free(&without);
    memory_free(&whole);
    look_close(&look);
    return status;
}

// ---- the choice ----------------------------------------------------------------------------------------------------

KinditStatus choose_blocks(BlockMap *out, KinditContext *ctx, AdaptBlocks which, const BlockChoice *choice) {
    const int depth = choice->base->dit->config.depth;
    double score[BLOCK_MAP_MOST];
    for (int i = 0; i < depth; i++) score[i] = i; // the last ones
    if (which == ADAPT_SIMILAR_BLOCKS) TRY(score_similarity(score, ctx, choice));
    if (which == ADAPT_NEEDED_BLOCKS) TRY(choose_by_error(score, ctx, choice));
    for (int i = 0; i < depth && which != ADAPT_LAST_BLOCKS; i++)
        context_log(ctx, KINDIT_LOG_INFO, "block %d: %s %.4g", i,
                    which == ADAPT_SIMILAR_BLOCKS ? "similarity" : "error without it", score[i]);
    block_map_keep(out, score, depth, choice->n_keep, which == ADAPT_NEEDED_BLOCKS);
    return KINDIT_OK;
}
