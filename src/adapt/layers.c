#include "adapt/layers.h"

#include "adapt/choose_blocks.h"
#include "adapt/teacher.h"
#include "base/json.h"
#include "train/train_settings.h"

typedef struct LayersRun {
    KinditContext *ctx;
    Engine *engine;
    const AdaptPlan *plan;
    const char *run;
    bool resume;
    TrainJob job;
    cJSON *record; // the job's, a copy of the plan's to which the blocks are added
    Dataset *dataset;
    Model *base;
    Teacher teacher;
} LayersRun;

static const char record_name[] = "the record of the run";

// So far only the names in the plan were looked at: what would refuse the run later must not wait for the choice.
static KinditStatus choose(LayersRun *run) {
    KinditContext *ctx = run->ctx;
    const AdaptPlan *plan = run->plan;
    BlockChoice choice = {.base = run->base, .dataset = run->dataset, .train = &plan->train, .run = run->run};
    BlockMap map;
    int64_t n_keep;
    TRY(train_settings_check(&plan->train, ctx));
    TRY(train_check_new(ctx, run->run));
    TRY(json_get_int(run->record, ctx, record_name, "keep_blocks", 1, run->base->dit->config.depth, &n_keep));
    if (plan->method->blocks == ADAPT_SIMILAR_BLOCKS)
        TRY(json_get_int(run->record, ctx, record_name, "pseudo_steps", 1, INT64_C(1) << 40, &choice.pseudo_steps));
    choice.n_keep = (int)n_keep;
    TRY(choose_blocks(&map, ctx, plan->method->blocks, &choice));
    return block_map_record(&map, ctx, run->record);
}

// A plan that was made anew does not know what the run chose.
static KinditStatus recall(LayersRun *run) {
    TrainSettings settings;
    DitConfig config;
    char data[1024];
    cJSON *adapt;
    if (cJSON_HasObjectItem(run->record, "blocks")) return KINDIT_OK;
    TRY(train_record_read(run->ctx, run->run, &settings, &config, data, &adapt));
    const bool copied = json_add_copy(run->record, "blocks", cJSON_GetObjectItemCaseSensitive(adapt, "blocks"));
    cJSON_Delete(adapt);
    return copied ? KINDIT_OK : context_fail(run->ctx, KINDIT_ERROR_MEMORY, "out of memory for the record of a run");
}

static KinditStatus open_teacher(LayersRun *run) {
    BlockMap map;
    TRY(train_settings_check(&run->plan->train, run->ctx));
    TRY(block_map_read(&map, run->ctx, run->record, run->job.config.depth, run->base->dit->config.depth));
    TRY(teacher_open(&run->teacher, run->ctx, run->base, run->dataset, &run->plan->train, &map));
    run->job.guide = &run->teacher.guide;
    return KINDIT_OK;
}

static KinditStatus prepare(LayersRun *run) {
    KinditContext *ctx = run->ctx;
    const bool taught = run->plan->method->blocks == ADAPT_NEEDED_BLOCKS;
    const char *path;
    run->record = cJSON_Duplicate(run->plan->record, true);
    run->job.adapt = run->record;
    if (!run->record) return context_fail(ctx, KINDIT_ERROR_MEMORY, "out of memory for the record of a run");
    if (run->resume) TRY(recall(run));
    if (run->resume && !taught) return KINDIT_OK;
    TRY(json_get_string(run->record, ctx, record_name, "path", &path));
    TRY(dataset_open(&run->dataset, ctx, run->plan->data));
    TRY(model_open(&run->base, ctx, run->engine, path, NULL));
    if (!run->resume) TRY(choose(run));
    if (taught) return open_teacher(run);
    model_close(&run->base);
    return KINDIT_OK;
}

KinditStatus layers_run(KinditContext *ctx, Engine *engine, const AdaptPlan *plan, const TrainJob *job, const char *run,
                        bool resume, TrainResult *result) {
    LayersRun layers = {.ctx = ctx, .engine = engine, .plan = plan, .run = run, .resume = resume, .job = *job};
    KinditStatus status = prepare(&layers);
    if (!status) status = train_run(ctx, engine, run, plan->data, &layers.job, &plan->train, resume, result);
    teacher_close(&layers.teacher);
    model_close(&layers.base);
    dataset_close(&layers.dataset);
    cJSON_Delete(layers.record);
    return status;
}
