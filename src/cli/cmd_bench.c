#include <stdio.h>

#include "adapt/adapt.h"
#include "base/clock.h"
#include "cli/info.h"
#include "cli/model_options.h"
#include "train/train_step.h"

static struct {
    int64_t batch, steps;
    const char *method;
    bool bf16, recompute, json;
} settings = {.batch = 32, .steps = 10};

static const Option *bench_options(int *n) {
    static const Option own[] = {
        {"--batch", NULL, OPTION_INT, &settings.batch, "N", "samples per step (default 32)", 1, 65536, NULL},
        {"--steps", NULL, OPTION_INT, &settings.steps, "N", "steps measured, after two that are not (default 10)", 1,
         1e6, NULL},
        {"--method", NULL, OPTION_STRING, &settings.method, "NAME",
         "time a step of fine-tuning by this method (kindit adapt), in place of one of pre-training", 0, 0, NULL},
        {"--bf16", NULL, OPTION_FLAG, &settings.bf16, NULL, "keep activations in bfloat16", 0, 0, NULL},
        {"--recompute", NULL, OPTION_FLAG, &settings.recompute, NULL,
         "keep blocks' inputs alone, compute the rest again in backward", 0, 0, NULL},
        {"--json", NULL, OPTION_FLAG, &settings.json, NULL, "print JSON", 0, 0, NULL},
    };
    static Option options[32];
    Option model[24];
    int n_model, n_shape;
    const Option *a = model_options(&n_model), *b = model_shape_options(&n_shape);
    n_model = cli_join_options(model, a, n_model, b, n_shape);
    *n = cli_join_options(options, own, sizeof own / sizeof *own, model, n_model);
    return options;
}

// A training step on made-up samples.
typedef struct Bench {
    KinditContext *ctx;
    Engine *engine;
    Model *model;
    Schedule schedule;
    Optimizer optimizer;
    TrainStep step;
    int batch;
    float *x0, *noise;               // (batch, C, S, S) engine memory
    int *t, *labels;                 // [batch]
    double seconds, peak, bandwidth; // a step; FLOP/s and bytes/s of the machine
} Bench;

enum { WARM_UP = 2, MOST_KERNELS = 32 };

static KinditStatus create_model(Bench *bench, const DitConfig *config) {
    const AdaptSettings adapt = {.base = "the model described", .method = settings.method};
    const AdaptMethod *method = NULL;
    DitConfig own = *config;
    ModelClass *classes;
    if (settings.method) TRY(adapt_method_find(&method, bench->ctx, settings.method));
    if (method) TRY(adapt_check_base(bench->ctx, method, config, &adapt));
    if (method && method->blocks == ADAPT_NEEDED_BLOCKS)
        return context_fail(
            bench->ctx, KINDIT_ERROR_ARGUMENT,
            "method %s: its base teaches, which needs a model and data: train, and read images_per_second "
            "in metrics.csv",
            method->name);
    if (method) TRY(adapt_configure(&own, bench->ctx, &adapt, method, config->n_classes));
    TRY(memory_alloc(bench->ctx, (size_t)config->n_classes, sizeof *classes, &classes));
    for (int c = 0; c < config->n_classes; c++) {
        snprintf(classes[c].id, sizeof classes[c].id, "class-%d", c);
        snprintf(classes[c].name, sizeof classes[c].name, "class %d", c);
    }
    KinditStatus status =
        model_create_blank(&bench->model, bench->ctx, bench->engine, &own, classes, NULL, method ? method->frozen : 0);
    memory_free(&classes);
    return status ? status : dit_init(bench->model->dit, &bench->model->params, 0);
}

static KinditStatus create_batch(Bench *bench, const DitConfig *config) {
    size_t n = (size_t)bench->batch,
           size = (size_t)config->channels * (size_t)config->image_size * (size_t)config->image_size;
    RngKey *keys;
    TRY(engine_alloc(bench->engine, n * size, &bench->x0));
    TRY(engine_alloc(bench->engine, n * size, &bench->noise));
    TRY(memory_alloc(bench->ctx, n, sizeof *bench->t, &bench->t));
    TRY(memory_alloc(bench->ctx, n, sizeof *bench->labels, &bench->labels));
    TRY(memory_alloc(bench->ctx, n, sizeof *keys, &keys));
    for (int i = 0; i < bench->batch; i++) {
        keys[i] = (RngKey){.sample = (uint64_t)i, .purpose = RNG_TEST};
        bench->t[i] = i * 997 % bench->schedule.n;
        bench->labels[i] = i % (config->n_classes + 1); // the null label among them
    }
    engine_fill_normal(bench->engine, bench->batch, size, keys, bench->x0);
    engine_fill_normal(bench->engine, bench->batch, size, keys, bench->noise);
    memory_free(&keys);
    return KINDIT_OK;
}

static KinditStatus bench_create(Bench *bench, const DitConfig *config) {
    AdamSettings adam = {1e-4f, 0.9f, 0.999f, 1e-8f, 0, 0.9999f, 1};
    KinditContext *ctx = bench->ctx;
    TRY(engine_create(&bench->engine, ctx));
    bench->bandwidth = engine_measure_bandwidth(bench->engine); // its arrays are gone before the model's come
    TRY(create_model(bench, config));
    TRY(schedule_create(&bench->schedule, ctx, 1000, 1e-4, 0.02));
    TRY(optimizer_create(&bench->optimizer, ctx, bench->engine, &bench->model->dit->layout, &bench->model->params,
                         &adam));
    const DitMode mode = {.recompute = settings.recompute, .type = settings.bf16 ? ENGINE_BF16 : ENGINE_F32};
    TRY(train_step_create(&bench->step, bench->model, &bench->schedule, bench->batch, 1, mode));
    return create_batch(bench, config);
}

static void bench_close(Bench *bench) {
    memory_free(&bench->labels);
    memory_free(&bench->t);
    engine_free(bench->engine, &bench->noise);
    engine_free(bench->engine, &bench->x0);
    train_step_close(&bench->step);
    optimizer_close(&bench->optimizer);
    schedule_close(&bench->schedule);
    model_close(&bench->model);
    engine_close(&bench->engine);
}

static KinditStatus bench_measure(Bench *bench) {
    const EngineType type = settings.bf16 ? ENGINE_BF16 : ENGINE_F32;
    double start = 0, peak_before = engine_measure_peak(bench->engine, type);
    engine_profile_enable(bench->engine, true);
    for (int64_t i = 0; i < WARM_UP + settings.steps; i++) {
        if (i == WARM_UP) {
            engine_profile_reset(bench->engine);
            start = clock_seconds();
        }
        train_step_begin(&bench->step);
        train_step_accumulate(&bench->step, bench->x0, bench->noise, bench->t, bench->labels, bench->batch, 1);
        train_step_update(&bench->step, &bench->optimizer, 1e-4);
        if (context_cancelled(bench->ctx)) return KINDIT_CANCELLED;
    }
    bench->seconds = (clock_seconds() - start) / (double)settings.steps;
    engine_profile_enable(bench->engine, false);
    bench->peak = engine_measure_peak(bench->engine, type);
    if (peak_before > bench->peak) bench->peak = peak_before;
    return KINDIT_OK;
}

static void add_kernels(cJSON *json, const Bench *bench) {
    EngineProfile profile[MOST_KERNELS];
    int n = engine_profile_read(bench->engine, profile, MOST_KERNELS);
    cJSON *list = cJSON_AddArrayToObject(json, "kernels");
    for (int i = 0; i < n; i++) {
        const EngineProfile *kernel = &profile[i];
        double seconds = kernel->seconds / (double)settings.steps;
        cJSON *item = cJSON_CreateObject();
        cJSON_AddStringToObject(item, "name", kernel->name);
        cJSON_AddNumberToObject(item, "milliseconds", 1e3 * seconds);
        cJSON_AddNumberToObject(item, "share_of_step", seconds / bench->seconds);
        cJSON_AddNumberToObject(item, "gflops", kernel->flops / kernel->seconds / 1e9);
        cJSON_AddNumberToObject(item, "share_of_peak", kernel->flops / kernel->seconds / bench->peak);
        cJSON_AddNumberToObject(item, "gbytes_per_second", kernel->bytes / kernel->seconds / 1e9);
        cJSON_AddItemToArray(list, item);
    }
}

static KinditStatus bench_describe(cJSON *json, const Bench *bench) {
    InfoRequest request = {.open_tailors = 1};
    TRY(info_add_structure(json, bench->ctx, &bench->model->dit->config, &request));
    double flops = dit_training_flops(bench->model->dit) * bench->batch;
    if (settings.method) cJSON_AddStringToObject(json, "method", settings.method);
    cJSON_AddStringToObject(json, "engine", engine_describe(bench->engine));
    info_add_int(json, "threads", engine_threads(bench->engine));
    info_add_int(json, "batch", bench->batch);
    info_add_int(json, "steps", settings.steps);
    cJSON_AddNumberToObject(json, "step_seconds", bench->seconds);
    cJSON_AddNumberToObject(json, "images_per_second", bench->batch / bench->seconds);
    cJSON_AddNumberToObject(json, "gflops", flops / bench->seconds / 1e9);
    cJSON_AddNumberToObject(json, "peak_gflops", bench->peak / 1e9);
    cJSON_AddNumberToObject(json, "share_of_peak", flops / bench->seconds / bench->peak);
    cJSON_AddNumberToObject(json, "bandwidth_gbytes_per_second", bench->bandwidth / 1e9);
    info_add_int(json, "memory_bytes", (int64_t)engine_allocated(bench->engine));
    add_kernels(json, bench);
    return KINDIT_OK;
}

static double number_of(const cJSON *object, const char *key) {
    return cJSON_GetNumberValue(cJSON_GetObjectItemCaseSensitive(object, key));
}

static void print_table(const cJSON *json) {
    char bytes[32];
    const cJSON *kernel;
    printf("%-20s %9s %7s %9s %7s %8s\n", "kernel", "ms/step", "share", "GFLOP/s", "peak", "GB/s");
    cJSON_ArrayForEach(kernel, cJSON_GetObjectItemCaseSensitive(json, "kernels")) {
        printf("%-20s %9.2f %6.1f%% %9.1f %6.1f%% %8.1f\n",
               cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(kernel, "name")),
               number_of(kernel, "milliseconds"), 100 * number_of(kernel, "share_of_step"), number_of(kernel, "gflops"),
               100 * number_of(kernel, "share_of_peak"), number_of(kernel, "gbytes_per_second"));
    }
    printf("%-20s %9.2f %6.1f%% %9.1f %6.1f%%\n", "whole step", 1e3 * number_of(json, "step_seconds"), 100.0,
           number_of(json, "gflops"), 100 * number_of(json, "share_of_peak"));
    printf("%.1f images/s; machine: %.1f GFLOP/s, %.1f GB/s, %.0f threads, %s; memory %s\n",
           number_of(json, "images_per_second"), number_of(json, "peak_gflops"),
           number_of(json, "bandwidth_gbytes_per_second"), number_of(json, "threads"),
           cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(json, "engine")),
           cli_format_bytes(bytes, number_of(json, "memory_bytes")));
}

static int bench_run(KinditContext *ctx, int n_positional, char **positional) {
    (void)n_positional, (void)positional;
    if (!model_options_given()) return cli_usage("bench", "describe a model, as by --preset DiT-S/4");
    Bench bench = {.ctx = ctx, .batch = (int)settings.batch};
    DitConfig config = dit_config_default();
    config.n_classes = 10;
    cJSON *json = cJSON_CreateObject();
    KinditStatus status = model_options_config(ctx, true, &config);
    if (!status) status = bench_create(&bench, &config);
    if (!status) status = bench_measure(&bench);
    if (!status) status = bench_describe(json, &bench);
    bench_close(&bench);
    if (!status && settings.json) return cli_print_json(json);
    if (!status) print_table(json);
    cJSON_Delete(json);
    return cli_report(ctx, status);
}

static const Command *const forms[] = {&command_bench_adapt, NULL};

const Command command_bench = {
    .name = "bench",
    .summary = "time a training step kernel by kernel, against this machine's own peak",
    .arguments = "[options] | adapt ...",
    .examples = "kindit bench --preset DiT-S/4 --batch 32\n"
                "kindit bench --width 192 --depth 5 --heads 3 --patch 4 --channels 1 --batch 64 --json\n"
                "kindit bench --preset DiT-S/4 --kind off\n"
                "kindit bench --preset DiT-S/4 --method kind\n"
                "kindit bench --preset DiT-S/4 --kind off --method lora",
    .notes =
        "Samples are made up (with --n-classes, default 10); the step is the trainer's own. FLOP/s of the whole step "
        "count three forward passes (backward is two; less where weights are frozen) of useful work; the peak is a "
        "loop of multiply-adds on all "
        "threads, in fp32 or bf16 as the step, measured before and after.",
    .options = bench_options,
    .run = bench_run,
    .forms = forms,
};
