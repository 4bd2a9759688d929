#include "vision/dnn.h"

#ifdef KINDIT_HAVE_DNNL
#include <omp.h>
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "vision/onednn.h"

enum { MAX_OPS = 512, MAX_SOURCES = 8, MAX_ARGS = MAX_SOURCES + 4, MAX_OUTPUTS = 8 };

typedef struct Value { // a tensor
    dnnl_memory_desc_t layout;
    int channels, height, width;
    int last_use; // the last operation that reads it
    int buffer;   // of a worker's, where it lies
} Value;

typedef struct Op { // reads `sources`, makes value number `result`
    char name[64];  // "": not to be visited
    dnnl_primitive_t primitive;
    dnnl_memory_t weights, bias; // or NULL
    int n_sources, sources[MAX_SOURCES], result;
    bool many; // sources are numbered (concat)
    dnnl_memory_desc_t scratch;
} Op;

typedef struct Output {
    int value, n_channels;
} Output;

// What one thread runs with: buffers that values share one after the other, and the arguments of each operation.
typedef struct Worker {
    dnnl_stream_t stream;
    float *buffers[MAX_OPS], *scratch;
    dnnl_memory_t values[MAX_OPS], scratches[MAX_OPS];
    dnnl_exec_arg_t args[MAX_OPS][MAX_ARGS];
    int n_args[MAX_OPS];
} Worker;

struct Dnn {
    KinditContext *ctx;
    dnnl_engine_t engine;
    dnnl_primitive_attr_t attr, attr_relu;
    int n_values, n_ops, n_outputs, n_buffers, n_workers;
    Value values[MAX_OPS];
    Op ops[MAX_OPS];
    Output outputs[MAX_OUTPUTS];
    size_t buffer_sizes[MAX_OPS], scratch_size; // bytes
    Worker **workers;                           // [n_workers]
};

static KinditStatus check(const Dnn *dnn, dnnl_status_t status, const char *what) {
    return onednn_check(dnn->ctx, status, what);
}

// ---- layers --------------------------------------------------------------------------------------------------------

static KinditStatus describe(const Dnn *dnn, dnnl_memory_desc_t *out, int channels, int height, int width,
                             dnnl_format_tag_t tag) {
    const dnnl_dims_t dims = {1, channels, height, width};
    return check(dnn, dnnl_memory_desc_init_by_tag(out, 4, dims, dnnl_f32, tag), "a layout");
}

static KinditStatus add_value(Dnn *dnn, const dnnl_memory_desc_t *layout, int *out) {
    if (dnn->n_values == MAX_OPS)
        return context_fail(dnn->ctx, KINDIT_ERROR_UNSUPPORTED, "a network of more than %d layers", MAX_OPS);
    dnn->values[dnn->n_values] = (Value){.layout = *layout,
                                         .channels = (int)layout->dims[1],
                                         .height = (int)layout->dims[2],
                                         .width = (int)layout->dims[3]};
    *out = dnn->n_values++;
    return KINDIT_OK;
}

// Completes `op` with the primitive of `descriptor`, which is destroyed, and adds it.
static KinditStatus add_op(Dnn *dnn, Op op, dnnl_primitive_desc_t descriptor, int *out) {
    op.scratch = *dnnl_primitive_desc_query_md(descriptor, dnnl_query_scratchpad_md, 0);
    KinditStatus status = add_value(dnn, dnnl_primitive_desc_query_md(descriptor, dnnl_query_dst_md, 0), out);
    if (!status) status = check(dnn, dnnl_primitive_create(&op.primitive, descriptor), "a layer");
    op.result = *out;
    dnn->ops[dnn->n_ops++] = op; // kept on failure too: closing frees what it holds
    dnnl_primitive_desc_destroy(descriptor);
    return status;
}

// The value x in the layout wanted, which a layer put before it may have to make.
static KinditStatus convert(Dnn *dnn, int x, const dnnl_memory_desc_t *layout, int *out) {
    dnnl_primitive_desc_t descriptor;
    *out = x;
    if (dnnl_memory_desc_equal(&dnn->values[x].layout, layout)) return KINDIT_OK;
    TRY(check(dnn,
              dnnl_reorder_primitive_desc_create(&descriptor, &dnn->values[x].layout, dnn->engine, layout, dnn->engine,
                                                 dnn->attr),
              "a change of layout"));
    return add_op(dnn, (Op){.n_sources = 1, .sources = {x}}, descriptor, out);
}

// Constants of a layer, from their plain layout into the one that it wants.
static KinditStatus add_constant(Dnn *dnn, const dnnl_memory_desc_t *plain, const float *data,
                                 const dnnl_memory_desc_t *wanted, dnnl_memory_t *out) {
    dnnl_memory_t from = NULL;
    dnnl_status_t status = dnnl_memory_create(&from, plain, dnn->engine, (void *)(uintptr_t)data);
    if (!status) status = dnnl_memory_create(out, wanted, dnn->engine, DNNL_MEMORY_ALLOCATE);
    if (!status) status = onednn_move(dnn->engine, from, *out);
    dnnl_memory_destroy(from);
    return check(dnn, status, "packing weights");
}

typedef struct ConvLayouts {
    dnnl_memory_desc_t source, weights, plain_weights, bias, result;
} ConvLayouts;

static KinditStatus describe_conv(const Dnn *dnn, ConvLayouts *out, const Value *x, const DnnConv *conv) {
    const dnnl_dims_t weights = {conv->channels, x->channels, conv->height, conv->width}, bias = {conv->channels};
    const int height = (x->height + 2 * conv->pad_height - conv->height) / conv->stride + 1;
    const int width = (x->width + 2 * conv->pad_width - conv->width) / conv->stride + 1;
    TRY(describe(dnn, &out->source, x->channels, x->height, x->width, dnnl_format_tag_any));
    TRY(describe(dnn, &out->result, conv->channels, height, width, dnnl_format_tag_any));
    TRY(check(dnn, dnnl_memory_desc_init_by_tag(&out->weights, 4, weights, dnnl_f32, dnnl_format_tag_any), "weights"));
    TRY(check(dnn, dnnl_memory_desc_init_by_tag(&out->plain_weights, 4, weights, dnnl_f32, dnnl_oihw), "weights"));
    return check(dnn, dnnl_memory_desc_init_by_tag(&out->bias, 1, bias, dnnl_f32, dnnl_x), "bias");
}

KinditStatus dnn_add_conv(Dnn *dnn, const char *name, int x, const DnnConv *conv, const float *weights,
                          const float *bias, int *out) {
    ConvLayouts layouts;
    dnnl_convolution_desc_t convolution;
    dnnl_primitive_desc_t descriptor;
    const dnnl_dims_t strides = {conv->stride, conv->stride}, padding = {conv->pad_height, conv->pad_width};
    Op op = {.n_sources = 1};
    snprintf(op.name, sizeof op.name, "%s", name);
    TRY(describe_conv(dnn, &layouts, &dnn->values[x], conv));
    // Direct: the other algorithm, Winograd's, rounds more coarsely.
    TRY(check(dnn,
              dnnl_convolution_forward_desc_init(&convolution, dnnl_forward_inference, dnnl_convolution_direct,
                                                 &layouts.source, &layouts.weights, &layouts.bias, &layouts.result,
                                                 strides, padding, padding),
              "a convolution"));
    TRY(check(dnn,
              dnnl_primitive_desc_create(&descriptor, &convolution, conv->relu ? dnn->attr_relu : dnn->attr,
                                         dnn->engine, NULL),
              "a convolution"));
    KinditStatus status =
        convert(dnn, x, dnnl_primitive_desc_query_md(descriptor, dnnl_query_src_md, 0), &op.sources[0]);
    if (!status)
        status = add_constant(dnn, &layouts.plain_weights, weights,
                              dnnl_primitive_desc_query_md(descriptor, dnnl_query_weights_md, 0), &op.weights);
    if (!status) status = add_constant(dnn, &layouts.bias, bias, &layouts.bias, &op.bias);
    if (!status) return add_op(dnn, op, descriptor, out);
    dnnl_memory_destroy(op.weights);
    dnnl_memory_destroy(op.bias);
    dnnl_primitive_desc_destroy(descriptor);
    return status;
}

KinditStatus dnn_add_pool(Dnn *dnn, int x, DnnPool kind, int kernel, int stride, int pad, int *out) {
    const Value *from = &dnn->values[x];
    const dnnl_dims_t kernels = {kernel, kernel}, strides = {stride, stride}, padding = {pad, pad};
    dnnl_memory_desc_t result;
    dnnl_pooling_desc_t pooling;
    dnnl_primitive_desc_t descriptor;
    TRY(describe(dnn, &result, from->channels, (from->height + 2 * pad - kernel) / stride + 1,
                 (from->width + 2 * pad - kernel) / stride + 1, dnnl_format_tag_any));
    TRY(check(dnn,
              dnnl_pooling_forward_desc_init(&pooling, dnnl_forward_inference,
                                             kind == DNN_POOL_MAX ? dnnl_pooling_max : dnnl_pooling_avg_exclude_padding,
                                             &from->layout, &result, strides, kernels, padding, padding),
              "pooling"));
    TRY(check(dnn, dnnl_primitive_desc_create(&descriptor, &pooling, dnn->attr, dnn->engine, NULL), "pooling"));
    return add_op(dnn, (Op){.n_sources = 1, .sources = {x}}, descriptor, out);
}

KinditStatus dnn_add_concat(Dnn *dnn, const char *name, int n, const int *x, int *out) {
    dnnl_memory_desc_t sources[MAX_SOURCES];
    dnnl_primitive_desc_t descriptor;
    Op op = {.many = true, .n_sources = n};
    if (n < 1 || n > MAX_SOURCES)
        return context_fail(dnn->ctx, KINDIT_ERROR_ARGUMENT, "cannot join %d tensors: expected 1 to %d", n,
                            MAX_SOURCES);
    snprintf(op.name, sizeof op.name, "%s", name);
    for (int i = 0; i < n; i++) {
        sources[i] = dnn->values[x[i]].layout;
        op.sources[i] = x[i];
    }
    TRY(check(dnn, dnnl_concat_primitive_desc_create(&descriptor, NULL, n, 1, sources, dnn->attr, dnn->engine),
              "joining channels"));
    return add_op(dnn, op, descriptor, out);
}

KinditStatus dnn_add_output(Dnn *dnn, int x, int n_channels) {
    const Value *from = &dnn->values[x];
    dnnl_memory_desc_t layout;
    Output output = {.n_channels = n_channels};
    if (dnn->n_outputs == MAX_OUTPUTS || n_channels < 1 || n_channels > from->channels)
        return context_fail(dnn->ctx, KINDIT_ERROR_ARGUMENT, "output %d: %d of %d channels", dnn->n_outputs, n_channels,
                            from->channels);
    TRY(describe(dnn, &layout, from->channels, from->height, from->width, dnnl_nhwc));
    TRY(convert(dnn, x, &layout, &output.value));
    dnn->outputs[dnn->n_outputs++] = output;
    return KINDIT_OK;
}

int dnn_channels(const Dnn *dnn, int x) {
    return dnn->values[x].channels;
}

// ---- memory --------------------------------------------------------------------------------------------------------

static void find_last_uses(Dnn *dnn) {
    for (int i = 0; i < dnn->n_ops; i++)
        for (int k = 0; k < dnn->ops[i].n_sources; k++) dnn->values[dnn->ops[i].sources[k]].last_use = i;
    for (int k = 0; k < dnn->n_outputs; k++) dnn->values[dnn->outputs[k].value].last_use = dnn->n_ops;
}

// A buffer that no value lives in any more when operation `op` begins: the smallest that is large enough, else the
// largest, which grows; else a new one.
static int choose_buffer(const Dnn *dnn, const int *busy_until, int op, size_t size) {
    int best = -1;
    for (int b = 0; b < dnn->n_buffers; b++) {
        if (busy_until[b] >= op) continue;
        bool fits = dnn->buffer_sizes[b] >= size, best_fits = best >= 0 && dnn->buffer_sizes[best] >= size;
        bool smaller = best >= 0 && dnn->buffer_sizes[b] < dnn->buffer_sizes[best];
        if (best < 0 || (fits && (!best_fits || smaller)) || (!fits && !best_fits && !smaller)) best = b;
    }
    return best >= 0 ? best : dnn->n_buffers;
}

static void place_value(Dnn *dnn, int *busy_until, int op, Value *value) {
    size_t size = dnnl_memory_desc_get_size(&value->layout);
    value->buffer = choose_buffer(dnn, busy_until, op, size);
    if (value->buffer == dnn->n_buffers) dnn->n_buffers++;
    if (dnn->buffer_sizes[value->buffer] < size) dnn->buffer_sizes[value->buffer] = size;
    busy_until[value->buffer] = value->last_use;
}

// The image has a buffer of its own: it is written from outside.
static void place_values(Dnn *dnn) {
    int busy_until[MAX_OPS];
    find_last_uses(dnn);
    place_value(dnn, busy_until, 0, &dnn->values[0]);
    for (int i = 0; i < dnn->n_ops; i++) {
        place_value(dnn, busy_until, i, &dnn->values[dnn->ops[i].result]);
        size_t scratch = dnnl_memory_desc_get_size(&dnn->ops[i].scratch);
        if (scratch > dnn->scratch_size) dnn->scratch_size = scratch;
    }
}

static void add_arg(Worker *worker, int op, int index, dnnl_memory_t memory) {
    worker->args[op][worker->n_args[op]++] = (dnnl_exec_arg_t){.arg = index, .memory = memory};
}

static KinditStatus fill_args(const Dnn *dnn, Worker *worker, int i) {
    const Op *op = &dnn->ops[i];
    for (int k = 0; k < op->n_sources; k++)
        add_arg(worker, i, op->many ? DNNL_ARG_MULTIPLE_SRC + k : DNNL_ARG_SRC, worker->values[op->sources[k]]);
    if (op->weights) add_arg(worker, i, DNNL_ARG_WEIGHTS, op->weights);
    if (op->bias) add_arg(worker, i, DNNL_ARG_BIAS, op->bias);
    add_arg(worker, i, DNNL_ARG_DST, worker->values[op->result]);
    if (dnnl_memory_desc_get_size(&op->scratch) == 0) return KINDIT_OK;
    TRY(check(dnn, dnnl_memory_create(&worker->scratches[i], &op->scratch, dnn->engine, worker->scratch), "memory"));
    add_arg(worker, i, DNNL_ARG_SCRATCHPAD, worker->scratches[i]);
    return KINDIT_OK;
}

static KinditStatus open_worker(const Dnn *dnn, Worker *worker) {
    TRY(check(dnn, dnnl_stream_create(&worker->stream, dnn->engine, dnnl_stream_default_flags), "a stream"));
    for (int b = 0; b < dnn->n_buffers; b++) TRY(memory_alloc(dnn->ctx, 1, dnn->buffer_sizes[b], &worker->buffers[b]));
    if (dnn->scratch_size) TRY(memory_alloc(dnn->ctx, 1, dnn->scratch_size, &worker->scratch));
    for (int v = 0; v < dnn->n_values; v++)
        TRY(check(dnn,
                  dnnl_memory_create(&worker->values[v], &dnn->values[v].layout, dnn->engine,
                                     worker->buffers[dnn->values[v].buffer]),
                  "memory"));
    for (int i = 0; i < dnn->n_ops; i++) TRY(fill_args(dnn, worker, i));
    return KINDIT_OK;
}

static void close_worker(const Dnn *dnn, Worker *worker) {
    for (int v = 0; v < dnn->n_values; v++) dnnl_memory_destroy(worker->values[v]);
    for (int i = 0; i < dnn->n_ops; i++) dnnl_memory_destroy(worker->scratches[i]);
    for (int b = 0; b < dnn->n_buffers; b++) memory_free(&worker->buffers[b]);
    memory_free(&worker->scratch);
    dnnl_stream_destroy(worker->stream);
}

static KinditStatus open_workers(Dnn *dnn, int threads) {
    place_values(dnn);
    TRY(memory_alloc(dnn->ctx, (size_t)threads, sizeof(Worker *), &dnn->workers));
    for (; dnn->n_workers < threads; dnn->n_workers++) {
        Worker **worker = &dnn->workers[dnn->n_workers];
        TRY(memory_alloc(dnn->ctx, 1, sizeof **worker, worker));
        KinditStatus status = open_worker(dnn, *worker);
        if (status) {
            close_worker(dnn, *worker);
            memory_free(worker);
            return status;
        }
    }
    return KINDIT_OK;
}

// ---- building and running ------------------------------------------------------------------------------------------

static KinditStatus build(Dnn *dnn, int threads, int channels, int size, KinditStatus (*add)(Dnn *dnn, void *user),
                          void *user) {
    dnnl_memory_desc_t image;
    int unused;
    TRY(check(dnn, dnnl_engine_create(&dnn->engine, dnnl_cpu, 0), "an engine"));
    TRY(onednn_attributes(dnn->ctx, dnnl_alg_kind_undef, &dnn->attr));
    TRY(onednn_attributes(dnn->ctx, dnnl_eltwise_relu, &dnn->attr_relu));
    TRY(describe(dnn, &image, channels, size, size, dnnl_nchw));
    TRY(add_value(dnn, &image, &unused));
    TRY(add(dnn, user));
    return open_workers(dnn, threads);
}

KinditStatus dnn_build(Dnn **out, KinditContext *ctx, int threads, int channels, int size,
                       KinditStatus (*add)(Dnn *dnn, void *user), void *user) {
    TRY(memory_alloc(ctx, 1, sizeof **out, out));
    (*out)->ctx = ctx;
    const int omp_threads = omp_get_max_threads();
    omp_set_num_threads(1); // a layer is cut up for the number of threads that it is built under
    KinditStatus status = build(*out, threads, channels, size, add, user);
    omp_set_num_threads(omp_threads);
    if (status) dnn_close(out);
    return status;
}

void dnn_close(Dnn **dnn) {
    if (!dnn || !*dnn) return;
    for (int w = 0; w < (*dnn)->n_workers; w++) {
        close_worker(*dnn, (*dnn)->workers[w]);
        memory_free(&(*dnn)->workers[w]);
    }
    memory_free(&(*dnn)->workers);
    for (int i = 0; i < (*dnn)->n_ops; i++) {
        dnnl_primitive_destroy((*dnn)->ops[i].primitive);
        dnnl_memory_destroy((*dnn)->ops[i].weights);
        dnnl_memory_destroy((*dnn)->ops[i].bias);
    }
    dnnl_primitive_attr_destroy((*dnn)->attr);
    dnnl_primitive_attr_destroy((*dnn)->attr_relu);
    dnnl_engine_destroy((*dnn)->engine);
    memory_free(dnn);
}

static void copy_output(const Dnn *dnn, const Worker *worker, int k, float *out) {
    const Value *value = &dnn->values[dnn->outputs[k].value];
    const size_t n = (size_t)dnn->outputs[k].n_channels;
    for (int i = 0; i < value->height * value->width; i++)
        memcpy(out + (size_t)i * n, worker->buffers[value->buffer] + (size_t)i * (size_t)value->channels,
               n * sizeof *out);
}

static void set_image(const Dnn *dnn, const Worker *worker, const float *image) {
    memcpy(worker->buffers[dnn->values[0].buffer], image, dnnl_memory_desc_get_size(&dnn->values[0].layout));
}

static dnnl_status_t run_op(const Dnn *dnn, const Worker *worker, int op) {
    return dnnl_primitive_execute(dnn->ops[op].primitive, worker->stream, worker->n_args[op], worker->args[op]);
}

static dnnl_status_t run_image(const Dnn *dnn, const Worker *worker, const float *image, int index,
                               float *const *outputs) {
    set_image(dnn, worker, image);
    for (int i = 0; i < dnn->n_ops; i++) {
        dnnl_status_t status = run_op(dnn, worker, i);
        if (status) return status;
    }
    for (int k = 0; k < dnn->n_outputs; k++) {
        const Value *value = &dnn->values[dnn->outputs[k].value];
        size_t size = (size_t)value->height * (size_t)value->width * (size_t)dnn->outputs[k].n_channels;
        if (outputs[k]) copy_output(dnn, worker, k, outputs[k] + (size_t)index * size);
    }
    return dnnl_stream_wait(worker->stream);
}

KinditStatus dnn_run(Dnn *dnn, const float *images, int n, float *const *outputs) {
    const size_t n_pixels = dnnl_memory_desc_get_size(&dnn->values[0].layout) / sizeof *images;
    const int omp_threads = omp_get_max_threads();
    int failure = 0;
    omp_set_num_threads(1); // of each thread below, should a layer want to share its work out
#pragma omp parallel for num_threads(dnn->n_workers) schedule(dynamic) reduction(max : failure)
    for (int i = 0; i < n; i++) {
        int status = (int)run_image(dnn, dnn->workers[omp_get_thread_num()], images + (size_t)i * n_pixels, i, outputs);
        failure = status > failure ? status : failure;
    }
    omp_set_num_threads(omp_threads);
    return check(dnn, (dnnl_status_t)failure, "running a layer");
}

static KinditStatus visit_op(const Dnn *dnn, const Worker *worker, int op, DnnVisit visit, void *user) {
    const Value *value = &dnn->values[dnn->ops[op].result];
    const size_t n = (size_t)value->channels * (size_t)value->height * (size_t)value->width;
    dnnl_memory_desc_t plain;
    dnnl_memory_t to = NULL;
    float *values;
    TRY(describe(dnn, &plain, value->channels, value->height, value->width, dnnl_nchw));
    TRY(memory_alloc(dnn->ctx, n, sizeof *values, &values));
    dnnl_status_t status = dnnl_memory_create(&to, &plain, dnn->engine, values);
    if (!status) status = onednn_move(dnn->engine, worker->values[dnn->ops[op].result], to);
    if (!status) visit(user, dnn->ops[op].name, n, values);
    dnnl_memory_destroy(to);
    memory_free(&values);
    return check(dnn, status, "reading a layer");
}

KinditStatus dnn_visit(Dnn *dnn, const float *image, DnnVisit visit, void *user) {
    const Worker *worker = dnn->workers[0];
    set_image(dnn, worker, image);
    for (int i = 0; i < dnn->n_ops; i++) {
        TRY(check(dnn, run_op(dnn, worker, i), "running a layer"));
        if (dnn->ops[i].name[0]) TRY(visit_op(dnn, worker, i, visit, user));
    }
    return KINDIT_OK;
}

#endif
