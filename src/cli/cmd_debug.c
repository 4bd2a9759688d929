// Numbers in, numbers out: how anyone checks a model's output, loss and gradients against another implementation.
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/debug_features.h"
#include "diffusion/sampler.h"
#include "train/train_step.h"

enum { MAX_SAMPLES = 1 << 16 };

static struct {
    const char *input, *output;
    bool bf16, recompute;
    int64_t times;
} settings;

static const Option *debug_options(int *n) {
    static const Option options[] = {
        {"--input", NULL, OPTION_STRING, &settings.input, "FILE", "a .safetensors file with the tensors named below", 0,
         0, NULL},
        {"--output", "-o", OPTION_STRING, &settings.output, "FILE", "the .safetensors file to write", 0, 0, NULL},
        {"--bf16", NULL, OPTION_FLAG, &settings.bf16, NULL, "keep activations in bfloat16", 0, 0, NULL},
        {"--recompute", NULL, OPTION_FLAG, &settings.recompute, NULL,
         "grad: keep blocks' inputs alone, compute the rest again in backward", 0, 0, NULL},
        {"--times", NULL, OPTION_INT, &settings.times, "N",
         "features: run so often again and print the images per second of each run (default 0)", 0, 10000, NULL},
    };
    *n = sizeof options / sizeof *options;
    return options;
}

// An open model, its input file, and what a pass takes and leaves.
typedef struct Debug {
    KinditContext *ctx;
    Engine *engine;
    Model *model;
    Schedule schedule; // the one the model was trained with
    Safetensors input;
    Arena arena;                       // host copies
    int n;                             // samples
    int *labels;                       // [n] class index, n_classes = null
    double *times;                     // [n]
    float *image, *noise, *output, *t; // engine memory: x or x0, noise, out, t
    DitWorkspace *workspace;
    ClassGate gate;
    TrainStep step;
    Tensor *tensors; // to be written
    int n_tensors;
} Debug;

static void debug_close(Debug *d) {
    train_step_close(&d->step);
    gate_close(&d->gate);
    dit_workspace_close(&d->workspace);
    if (d->engine) {
        engine_free(d->engine, &d->t);
        engine_free(d->engine, &d->output);
        engine_free(d->engine, &d->noise);
        engine_free(d->engine, &d->image);
    }
    arena_close(&d->arena);
    safetensors_close(&d->input);
    schedule_close(&d->schedule);
    model_close(&d->model);
    engine_close(&d->engine);
}

// ---- input ---------------------------------------------------------------------------------------------------------

// The number of samples is the first dimension of tensor `name`.
static KinditStatus read_count(Debug *d, const char *name) {
    const Tensor *tensor = safetensors_find(&d->input, name);
    const DitConfig *config = &d->model->dit->config;
    if (!tensor || tensor->n_dims != 4 || tensor->shape[0] < 1 || tensor->shape[0] > MAX_SAMPLES)
        return context_fail(d->ctx, KINDIT_ERROR_FORMAT,
                            "%s: expected a tensor \"%s\" of shape (B, %d, %d, %d) with B from 1 to %d", d->input.path,
                            name, config->channels, config->image_size, config->image_size, MAX_SAMPLES);
    d->n = (int)tensor->shape[0];
    return KINDIT_OK;
}

// Tensor `name` (n, C, S, S), finite, in engine memory.
static KinditStatus read_images(Debug *d, const char *name, float **out) {
    const DitConfig *config = &d->model->dit->config;
    const int64_t shape[4] = {d->n, config->channels, config->image_size, config->image_size};
    const Tensor *tensor;
    float *host;
    TRY(safetensors_require(&d->input, d->ctx, name, 4, shape, &tensor));
    TRY(arena_alloc(&d->arena, d->ctx, tensor->n_elements, sizeof *host, &host));
    KinditStatus status = tensor_read_float(tensor, d->ctx, 0, tensor->n_elements, host);
    if (status) return context_prefix(d->ctx, status, d->input.path);
    for (size_t i = 0; i < tensor->n_elements; i++)
        if (!isfinite(host[i]))
            return context_fail(d->ctx, KINDIT_ERROR_NUMERIC, "%s: tensor \"%s\": element %zu is %g", d->input.path,
                                name, i, (double)host[i]);
    TRY(engine_alloc(d->engine, tensor->n_elements, out));
    engine_upload(d->engine, *out, host, tensor->n_elements);
    return KINDIT_OK;
}

// Element i of a tensor of type I64, I32 or F32.
static double read_number(const Tensor *tensor, size_t i) {
    union {
        int64_t wide;
        int32_t narrow;
        float real;
    } value;
    memcpy(&value, (const char *)tensor->data + i * dtype_size(tensor->dtype), dtype_size(tensor->dtype));
    if (tensor->dtype == DTYPE_I64) return (double)value.wide;
    return tensor->dtype == DTYPE_I32 ? (double)value.narrow : (double)value.real;
}

// Tensor `name` (n) of numbers from 0 to `high`: integers, with `real` F32 too.
static KinditStatus read_vector(Debug *d, const char *name, bool real, int high, double **out) {
    const Tensor *tensor;
    TRY(safetensors_require(&d->input, d->ctx, name, 1, &(int64_t){d->n}, &tensor));
    if (tensor->dtype != DTYPE_I64 && tensor->dtype != DTYPE_I32 && !(real && tensor->dtype == DTYPE_F32))
        return context_fail(d->ctx, KINDIT_ERROR_FORMAT, "%s: tensor \"%s\": expected I64%s or I32, found %s",
                            d->input.path, name, real ? ", F32" : "", dtype_name(tensor->dtype));
    TRY(arena_alloc(&d->arena, d->ctx, (size_t)d->n, sizeof **out, out));
    for (int i = 0; i < d->n; i++) {
        double value = read_number(tensor, (size_t)i);
        if (!(value >= 0 && value <= high))
            return context_fail(d->ctx, KINDIT_ERROR_ARGUMENT,
                                "%s: tensor \"%s\": element %d: expected 0 to %d, found %g", d->input.path, name, i,
                                high, value);
        (*out)[i] = value;
    }
    return KINDIT_OK;
}

// The batch's images, timesteps and labels.
static KinditStatus read_batch(Debug *d, const char *image, bool real_times) {
    double *labels;
    TRY(read_count(d, image));
    TRY(read_images(d, image, &d->image));
    TRY(read_vector(d, "t", real_times, d->schedule.n - 1, &d->times));
    TRY(read_vector(d, "y", false, d->model->dit->config.n_classes, &labels));
    TRY(arena_alloc(&d->arena, d->ctx, (size_t)d->n, sizeof *d->labels, &d->labels));
    for (int i = 0; i < d->n; i++) d->labels[i] = (int)labels[i];
    return KINDIT_OK;
}

// ---- output --------------------------------------------------------------------------------------------------------

// A new tensor of the output file; the caller fills *data.
static KinditStatus add_tensor(Debug *d, const char *name, int n_dims, const int64_t *shape, float **data) {
    Tensor *tensor = &d->tensors[d->n_tensors++];
    *tensor = (Tensor){.name = name, .dtype = DTYPE_F32, .n_dims = n_dims, .n_elements = 1};
    for (int i = 0; i < n_dims; i++) {
        tensor->shape[i] = shape[i];
        tensor->n_elements *= (size_t)shape[i];
    }
    tensor->n_bytes = tensor->n_elements * sizeof(float);
    TRY(arena_alloc(&d->arena, d->ctx, tensor->n_elements, sizeof **data, data));
    tensor->data = *data;
    return KINDIT_OK;
}

// A parameter's whole gradient as a model file lays it out: the rows of each class (zeros where no sample was of it),
// then the shared rows.
static KinditStatus add_gradient(Debug *d, int index) {
    const ParamLayout *layout = &d->model->dit->layout;
    const ParamSpec *spec = &layout->specs[index];
    const ClassGate *gate = &d->step.gate;
    const size_t n_tailor = spec->row * (size_t)spec->tailor_rows, n_shared = spec->row * (size_t)spec->shape[0];
    int64_t shape[PARAM_MAX_DIMS];
    float *rows;
    memcpy(shape, spec->shape, sizeof shape);
    shape[0] += spec->tailor_rows * gate->n_classes;
    TRY(add_tensor(d, spec->name, spec->n_dims, shape, &rows));
    for (int c = 0; c < gate->n_classes && n_tailor; c++, rows += n_tailor) {
        const int slot = gate->class_slot[c];
        if (slot >= 0) engine_download(d->engine, rows, gate->dtailor[slot] + spec->tailor_offset, n_tailor);
        if (slot < 0) memset(rows, 0, n_tailor * sizeof *rows);
    }
    engine_download(d->engine, rows, params_gradient(layout, index, d->step.dshared), n_shared);
    return KINDIT_OK;
}

static KinditStatus add_losses(Debug *d) {
    const TrainStep *step = &d->step;
    float *loss, *mse, *vlb = NULL;
    double sum = 0;
    TRY(add_tensor(d, "loss", 0, NULL, &loss));
    TRY(add_tensor(d, "mse", 1, &(int64_t){d->n}, &mse));
    if (step->with_vlb) TRY(add_tensor(d, "vlb", 1, &(int64_t){d->n}, &vlb));
    for (int i = 0; i < d->n; i++) {
        mse[i] = step->mse[i];
        if (vlb) vlb[i] = step->vlb[i];
        sum += (double)step->mse[i] + (vlb ? (double)step->vlb[i] : 0);
    }
    *loss = (float)(sum / d->n);
    return KINDIT_OK;
}

static DitMode debug_mode(void) {
    return (DitMode){.recompute = settings.recompute, .type = settings.bf16 ? ENGINE_BF16 : ENGINE_F32};
}

// ---- the two checks ------------------------------------------------------------------------------------------------

static KinditStatus debug_forward(Debug *d) {
    const Dit *dit = d->model->dit;
    const DitConfig *config = &dit->config;
    const int64_t shape[4] = {0, dit_config_out_channels(config), config->image_size, config->image_size};
    float *times, *host;
    TRY(read_batch(d, "x", true));
    size_t n = (size_t)d->n, n_out = n * (size_t)(shape[1] * shape[2] * shape[3]);
    TRY(engine_alloc(d->engine, n, &d->t));
    TRY(engine_alloc(d->engine, n_out, &d->output));
    TRY(dit_workspace_create(&d->workspace, dit, d->engine, d->n, debug_mode()));
    TRY(gate_create(&d->gate, d->engine, d->ctx, d->n, config->n_classes, d->n, dit->layout.n_tailor, false));
    TRY(arena_alloc(&d->arena, d->ctx, n, sizeof *times, &times));
    for (int i = 0; i < d->n; i++) times[i] = (float)d->times[i];
    engine_upload(d->engine, d->t, times, n);
    gate_open(&d->gate, &d->model->params, d->labels, d->n);

    DitBatch batch = {.n = d->n, .x = d->image, .t = d->t, .labels = d->labels, .gate = &d->gate.gate};
    dit_forward(dit, d->workspace, d->model->params.shared, &batch, d->output);
    TRY(add_tensor(d, "out", 4, (int64_t[]){d->n, shape[1], shape[2], shape[3]}, &host));
    engine_download(d->engine, host, d->output, n_out);
    return KINDIT_OK;
}

static KinditStatus debug_grad(Debug *d) {
    const ParamLayout *layout = &d->model->dit->layout;
    int *t;
    TRY(read_batch(d, "x0", false));
    TRY(read_images(d, "noise", &d->noise));
    TRY(arena_alloc(&d->arena, d->ctx, (size_t)d->n, sizeof *t, &t));
    for (int i = 0; i < d->n; i++) t[i] = (int)d->times[i];
    TRY(train_step_create(&d->step, d->model, &d->schedule, d->n, 1, debug_mode()));
    train_step_begin(&d->step);
    train_step_accumulate(&d->step, d->image, d->noise, t, d->labels, d->n, 1);
    TRY(add_losses(d));
    for (int i = 0; i < layout->n_specs; i++)
        if (!layout->specs[i].frozen) TRY(add_gradient(d, i));
    return KINDIT_OK;
}

static KinditStatus debug_model(Debug *d, const char *path, bool grad) {
    TRY(engine_create(&d->engine, d->ctx));
    TRY(model_open(&d->model, d->ctx, d->engine, path, NULL));
    TRY(sampler_schedule(&d->schedule, d->model));
    TRY(safetensors_open(&d->input, d->ctx, settings.input));
    size_t most = (size_t)d->model->dit->layout.n_specs + 3; // loss, mse, vlb
    TRY(arena_alloc(&d->arena, d->ctx, most, sizeof *d->tensors, &d->tensors));
    TRY(grad ? debug_grad(d) : debug_forward(d));
    return safetensors_write(d->ctx, settings.output, d->tensors, d->n_tensors, NULL, 0);
}

static int debug_run(KinditContext *ctx, int n_positional, char **positional) {
    (void)n_positional;
    const bool grad = strcmp(positional[0], "grad") == 0, features = strcmp(positional[0], "features") == 0;
    if (!grad && !features && strcmp(positional[0], "forward") != 0)
        return cli_usage("debug", "'%s': expected forward, grad or features", positional[0]);
    if (!settings.input) return cli_usage("debug", "--input FILE is missing");
    if (!settings.output) return cli_usage("debug", "-o FILE is missing");
    Debug debug = {.ctx = ctx};
    KinditStatus status = features
                              ? debug_features(ctx, positional[1], settings.input, settings.output, (int)settings.times)
                              : debug_model(&debug, positional[1], grad);
    debug_close(&debug);
    if (status) return cli_report(ctx, status);
    printf("%s\n", settings.output);
    return EXIT_DONE;
}

const Command command_debug = {
    .name = "debug",
    .summary =
        "compute a model's output, its loss and gradients, or a frozen network's features, on numbers from a file",
    .arguments = "forward|grad|features MODEL --input FILE -o FILE",
    .examples = "kindit debug forward tests/golden/model/kind_p2 --input tests/golden/model/kind_p2/io.safetensors"
                " -o out.safetensors\n"
                "kindit debug grad tests/golden/model/kind_p2 --input tests/golden/model/kind_p2/io.safetensors"
                " -o grad.safetensors",
    .notes =
        "To check this program against another implementation (tests/golden/model/check_debug.py does).\n"
        "forward reads x (B, C, S, S), t (B; I64, I32 or F32) and y (B; I64 or I32; the number of classes is the null "
        "label), and writes out (B, C or 2C, S, S).\n"
        "grad reads x0 and noise (B, C, S, S), t (B; I64 or I32) and y, and writes loss, mse (B), vlb (B, with learned "
        "sigma) and the gradient of every parameter that trains (of an adapted model: adapters and labels) under its "
        "own name; a tailor whose class is not in y has zeros.\n"
        "features takes the weights of a frozen network (docs/evaluation.md) in place of MODEL, reads images (N, 3, S, "
        "S), prepared as the network's profile says, and writes features (N, F), spatial and logits where there are "
        "any, and of a single image every layer.\n"
        "Other tensors of the input are ignored.",
    .min_positional = 2,
    .max_positional = 2,
    .options = debug_options,
    .run = debug_run,
};
