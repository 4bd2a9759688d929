#include <malloc.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

#include "base/clock.h"
#include "base/file.h"
#include "cli/sample_options.h"
#include "diffusion/sampler.h"
#include "formats/grid.h"
#include "formats/npy.h"

static struct {
    const char *output, *grid, *npy, *npz;
    int64_t n, memory;
    bool json;
} settings;

static const Option *sample_command_options(int *n) {
    static const Option own[] = {
        {"--n", "-n", OPTION_INT, &settings.n, "N", "images of each class (default 8)", 1, 1e8, NULL},
        {"--output", "-o", OPTION_STRING, &settings.output, "FILE",
         "where to: a .png grid with captions, .npy (float32 N,C,H,W) or .npz (uint8 N,H,W,C, ADM's layout)", 0, 0,
         NULL},
        {"--grid", NULL, OPTION_STRING, &settings.grid, "FILE", "a PNG grid, whatever else is written", 0, 0, NULL},
        {"--npy", NULL, OPTION_STRING, &settings.npy, "FILE", "raw values, whatever else is written", 0, 0, NULL},
        {"--npz", NULL, OPTION_STRING, &settings.npz, "FILE",
         "a sample batch for `kindit eval`, whatever else is written", 0, 0, NULL},
        {"--memory", NULL, OPTION_SIZE, &settings.memory, "SIZE",
         "keep resident memory below 16MB, or what it says: tailors come and go, fewer images are drawn at once", 0, 0,
         NULL},
        {"--json", NULL, OPTION_FLAG, &settings.json, NULL, "print the settings and the speed as JSON", 0, 0, NULL},
    };
    static Option all[32];
    int n_drawing;
    const Option *drawing = sample_options(&n_drawing);
    settings.n = kindit_sample_settings_default().n_per_class;
    *n = cli_join_options(all, own, sizeof own / sizeof *own, drawing, n_drawing);
    return all;
}

// The memory of the program, as the system counted it: resident at its peak.
static int64_t peak_bytes(void) {
    struct rusage usage;
    return getrusage(RUSAGE_SELF, &usage) == 0 ? (int64_t)usage.ru_maxrss * 1024 : 0;
}

// The allocator must not keep what is freed, or a plan would not hold.
static void limit_memory(KinditContext *ctx) {
    ctx->settings.memory = settings.memory;
#ifdef __GLIBC__
    if (!settings.memory) return;
    mallopt(M_MMAP_THRESHOLD, 64 << 10);
    mallopt(M_ARENA_MAX, 1);
#endif
}

// What opening took and freed goes back to the system before the rest is planned.
static void return_memory(void) {
#ifdef __GLIBC__
    if (settings.memory) malloc_trim(0);
#endif
}

// The images of a run, in the shapes that the outputs asked for need.
typedef struct Samples {
    KinditContext *ctx;
    KinditModelInfo info;
    size_t image; // elements of one
    int64_t n, capacity;
    KinditMemoryPlan plan;
    int n_rows;      // classes drawn
    int *row_class;  // [count_rows]
    int64_t *labels; // [capacity]
    float *values;   // (capacity, C, S, S), or NULL
    uint8_t *pixels; // (capacity, S, S, C), or NULL
} Samples;

static void samples_close(Samples *samples) {
    memory_free(&samples->row_class);
    memory_free(&samples->labels);
    memory_free(&samples->values);
    memory_free(&samples->pixels);
}

// Rows drawn: one of each class opened, or that of the learngene alone.
static int count_rows(const KinditModelInfo *info) {
    return info->n_classes > 0 ? info->n_classes : 1;
}

static KinditStatus samples_alloc(Samples *samples) {
    KinditContext *ctx = samples->ctx;
    const KinditModelInfo *info = &samples->info;
    samples->image = (size_t)info->channels * (size_t)info->image_size * (size_t)info->image_size;
    samples->capacity = count_rows(info) * settings.n;
    size_t n = (size_t)samples->capacity;
    TRY(memory_alloc(ctx, (size_t)count_rows(info), sizeof *samples->row_class, &samples->row_class));
    TRY(memory_alloc(ctx, n, sizeof *samples->labels, &samples->labels));
    if (settings.npy) TRY(memory_alloc(ctx, n, samples->image * sizeof *samples->values, &samples->values));
    if (settings.grid || settings.npz) TRY(memory_alloc(ctx, n, samples->image, &samples->pixels));
    return KINDIT_OK;
}

static KinditStatus take_image(void *user, const KinditImage *image) {
    Samples *samples = user;
    size_t at = (size_t)samples->n * samples->image;
    if (image->index % settings.n == 0) samples->row_class[samples->n_rows++] = image->class_index;
    samples->labels[samples->n++] = image->class_index;
    if (samples->values) memcpy(samples->values + at, image->values, samples->image * sizeof *image->values);
    if (samples->pixels) memcpy(samples->pixels + at, image->pixels, samples->image);
    return KINDIT_OK;
}

// The grid of what was drawn, or with `page` NULL no more than whether there can be one.
static KinditStatus draw_grid(Image *page, const Samples *samples, const KinditModel *model) {
    const char **captions;
    int n = count_rows(&samples->info);
    TRY(memory_alloc(samples->ctx, (size_t)n, sizeof *captions, &captions));
    for (int i = 0; i < n; i++) {
        int any = samples->info.n_classes > 0 ? i : -1; // before the drawing: some class, or the learngene
        captions[i] = kindit_model_class_name(model, page ? samples->row_class[i] : any);
    }
    Grid grid = {samples->info.image_size, samples->info.channels, n, (int)settings.n, captions, samples->pixels};
    KinditStatus status = page ? grid_draw(page, samples->ctx, &grid) : grid_check(samples->ctx, &grid);
    memory_free(&captions);
    return status;
}

static KinditStatus write_grid(const Samples *samples, const KinditModel *model) {
    Image page = {0};
    KinditStatus status = draw_grid(&page, samples, model);
    if (!status) status = image_write_png(samples->ctx, settings.grid, &page);
    image_close(&page);
    return status;
}

static Tensor tensor_of(const char *name, Dtype dtype, int n_dims, const int64_t *shape, const void *data) {
    Tensor tensor = {.name = name, .dtype = dtype, .n_dims = n_dims, .n_elements = 1, .data = data};
    for (int i = 0; i < n_dims; i++) {
        tensor.shape[i] = shape[i];
        tensor.n_elements *= (size_t)shape[i];
    }
    tensor.n_bytes = tensor.n_elements * dtype_size(dtype);
    return tensor;
}

static KinditStatus write_npy(const Samples *samples) {
    int64_t size = samples->info.image_size, shape[4] = {samples->n, samples->info.channels, size, size};
    Tensor array = tensor_of("values", DTYPE_F32, 4, shape, samples->values);
    return npy_write(samples->ctx, settings.npy, &array);
}

// The layout of ADM's evaluator, and the ids that the labels stand for (docs/formats.md).
static KinditStatus write_npz(const Samples *samples, const KinditModel *model) {
    int64_t size = samples->info.image_size, shape[4] = {samples->n, size, size, samples->info.channels};
    int64_t ids_shape[2] = {samples->info.n_classes, DIT_CLASS_NAME_SIZE};
    char *ids;
    TRY(memory_alloc(samples->ctx, (size_t)ids_shape[0], DIT_CLASS_NAME_SIZE, &ids));
    for (int i = 0; i < samples->info.n_classes; i++)
        snprintf(ids + (size_t)i * DIT_CLASS_NAME_SIZE, DIT_CLASS_NAME_SIZE, "%s", kindit_model_class_id(model, i));
    Tensor arrays[3] = {
        tensor_of("arr_0", DTYPE_U8, 4, shape, samples->pixels),
        tensor_of("arr_1", DTYPE_I64, 1, shape, samples->labels),
        tensor_of("class_ids", DTYPE_U8, 2, ids_shape, ids),
    };
    KinditStatus status = npz_write(samples->ctx, settings.npz, arrays, 3);
    memory_free(&ids);
    return status;
}

static KinditStatus write_outputs(const Samples *samples, const KinditModel *model) {
    if (settings.grid) TRY(write_grid(samples, model));
    if (settings.npy) TRY(write_npy(samples));
    return settings.npz ? write_npz(samples, model) : KINDIT_OK;
}

static int print_result(const Samples *samples, const KinditModel *model, const char *path, double seconds) {
    double rate = (double)samples->n / seconds;
    if (!settings.json) {
        printf("%lld images of %d classes in %.2f s (%.1f images/s)", (long long)samples->n, samples->n_rows, seconds,
               rate);
        const char *const files[3] = {settings.grid, settings.npy, settings.npz};
        for (int i = 0; i < 3; i++)
            if (files[i]) printf("  %s", files[i]);
        putchar('\n');
        if (settings.memory)
            printf("memory: %.1f MB planned, %.1f MB taken, limit %.1f MB; %d images and %d tailors at once\n",
                   (double)samples->plan.total_bytes / 1e6, (double)peak_bytes() / 1e6, (double)settings.memory / 1e6,
                   samples->plan.batch, samples->plan.tailors);
        return EXIT_DONE;
    }
    cJSON *json = cJSON_CreateObject();
    cJSON_AddStringToObject(json, "model", path);
    cJSON *classes = cJSON_AddArrayToObject(json, "classes");
    for (int i = 0; i < samples->n_rows; i++)
        cJSON_AddItemToArray(classes, cJSON_CreateString(kindit_model_class_id(model, samples->row_class[i])));
    cJSON_AddNumberToObject(json, "n_per_class", (double)settings.n);
    sample_options_add_json(json);
    cJSON_AddNumberToObject(json, "n", (double)samples->n);
    cJSON_AddNumberToObject(json, "seconds", seconds);
    cJSON_AddNumberToObject(json, "images_per_second", rate);
    cJSON_AddNumberToObject(json, "batch", samples->plan.batch);
    cJSON_AddNumberToObject(json, "tailors_held", samples->plan.tailors);
    cJSON_AddNumberToObject(json, "memory_planned", (double)samples->plan.total_bytes);
    cJSON_AddNumberToObject(json, "memory_peak", (double)peak_bytes());
    return cli_print_json(json);
}

// -o by its extension becomes one of the three outputs.
static int choose_output(void) {
    const char *dot = settings.output ? strrchr(settings.output, '.') : NULL;
    const char **file = !dot                       ? NULL
                        : strcmp(dot, ".png") == 0 ? &settings.grid
                        : strcmp(dot, ".npy") == 0 ? &settings.npy
                        : strcmp(dot, ".npz") == 0 ? &settings.npz
                                                   : NULL;
    if (settings.output && !file)
        return cli_usage("sample", "-o '%s': expected a name in .png, .npy or .npz", settings.output);
    if (file && *file)
        return cli_usage("sample", "-o '%s' and '%s' are one kind of output: give one of them", settings.output, *file);
    if (file) *file = settings.output;
    if (!settings.grid && !settings.npy && !settings.npz) return cli_usage("sample", "-o FILE is missing");
    return sample_options_check("sample");
}

static KinditStatus check_picture(const Samples *samples) {
    int channels = samples->info.channels;
    if ((!settings.grid && !settings.npz) || channels == 1 || channels == 3) return KINDIT_OK;
    return context_fail(samples->ctx, KINDIT_ERROR_ARGUMENT,
                        "the model draws latents of %d channels, which are no picture: use -o FILE.npy", channels);
}

// Whatever would refuse the outputs does so before the drawing, which may take long.
static KinditStatus check_outputs(const Samples *samples, const KinditModel *model) {
    const char *const files[3] = {settings.grid, settings.npy, settings.npz};
    TRY(check_picture(samples));
    if (settings.npz && samples->info.n_classes == 0)
        return context_fail(samples->ctx, KINDIT_ERROR_ARGUMENT,
                            "%s: a sample batch names classes, and a learngene alone has none: use -o FILE.npy",
                            settings.npz);
    if (settings.grid) TRY(draw_grid(NULL, samples, model));
    for (int i = 0; i < 3; i++) {
        FileWriter writer;
        if (!files[i]) continue;
        TRY(file_begin(&writer, samples->ctx, files[i]));
        file_abandon(&writer);
    }
    return KINDIT_OK;
}

static int sample_run(KinditContext *ctx, int n_positional, char **positional) {
    (void)n_positional;
    int code = choose_output();
    if (code) return code;
    KinditModel *model = NULL;
    KinditSampleSettings sampling = sample_options_settings();
    Samples samples = {.ctx = ctx};
    sampling.n_per_class = (int)settings.n;
    limit_memory(ctx);
    KinditStatus status = kindit_model_open(&model, ctx, positional[0], sampling.classes);
    if (!status) kindit_model_info(model, &samples.info);
    if (!status) status = check_outputs(&samples, model);
    if (!status) status = samples_alloc(&samples);
    return_memory();
    if (!status) status = kindit_sample_plan(model, &sampling, &samples.plan);
    double start = clock_seconds();
    if (!status) status = kindit_sample(model, &sampling, take_image, &samples);
    double seconds = clock_seconds() - start;
    if (!status) status = write_outputs(&samples, model);
    code = status ? cli_report(ctx, status) : print_result(&samples, model, positional[0], seconds);
    samples_close(&samples);
    kindit_model_close(&model);
    return code;
}

const Command command_sample = {
    .name = "sample",
    .summary = "draw images: the learngene with the tailors of chosen classes",
    .arguments = "MODEL [options]",
    .examples = "kindit sample models/letters.safetensors --classes A,B --n 8 --cfg 1.5 -o grid.png\n"
                "kindit sample parts --sampler ddim --steps 50 -o grid.png\n"
                "kindit sample parts --memory 16MB --n 4 -o small.npz\n"
                "kindit sample parts --no-tailors --keep-label-rows -o learngene.png\n"
                "kindit sample models/letters.safetensors --n 100 --sampler ddim --steps 50 -o samples.npz",
    .notes =
        "MODEL is a model folder, a single .safetensors file, a checkpoint (RUN/checkpoints/step-N), or a decomposed "
        "folder with any subset of its tailors. Only the tailors of --classes are read.",
    .min_positional = 1,
    .max_positional = 1,
    .options = sample_command_options,
    .run = sample_run,
};
