#include "vision/dense.h"

#include "base/memory.h"

#ifdef KINDIT_HAVE_DNNL
#include <omp.h>

#include "vision/onednn.h"

enum { N_ARGS = 5 };

// What one thread runs with: the arguments are those of the layer but for the rows and the scratch.
typedef struct Worker {
    dnnl_stream_t stream;
    dnnl_memory_t x, y, scratch;
} Worker;

struct Dense {
    KinditContext *ctx;
    int rows, m1, m2, n_workers;
    dnnl_engine_t engine;
    dnnl_primitive_t product;
    dnnl_memory_desc_t layout; // of packed weights
    dnnl_memory_t weights, bias;
    Worker *workers; // [n_workers]
};

static KinditStatus check(const Dense *dense, dnnl_status_t status, const char *what) {
    return onednn_check(dense->ctx, status, what);
}

static dnnl_status_t describe(dnnl_memory_desc_t *out, int rows, int columns, dnnl_format_tag_t tag) {
    const dnnl_dims_t dims = {rows, columns};
    return dnnl_memory_desc_init_by_tag(out, 2, dims, dnnl_f32, tag);
}

static dnnl_status_t open_worker(const Dense *dense, const_dnnl_primitive_desc_t descriptor, Worker *worker) {
    const dnnl_memory_desc_t *x = dnnl_primitive_desc_query_md(descriptor, dnnl_query_src_md, 0),
                             *y = dnnl_primitive_desc_query_md(descriptor, dnnl_query_dst_md, 0),
                             *scratch = dnnl_primitive_desc_query_md(descriptor, dnnl_query_scratchpad_md, 0);
    dnnl_status_t status = dnnl_stream_create(&worker->stream, dense->engine, dnnl_stream_default_flags);
    if (!status) status = dnnl_memory_create(&worker->x, x, dense->engine, DNNL_MEMORY_NONE);
    if (!status) status = dnnl_memory_create(&worker->y, y, dense->engine, DNNL_MEMORY_NONE);
    if (!status) status = dnnl_memory_create(&worker->scratch, scratch, dense->engine, DNNL_MEMORY_ALLOCATE);
    return status;
}

static KinditStatus describe_product(const Dense *dense, bool gelu, dnnl_primitive_desc_t *out) {
    dnnl_memory_desc_t x, weights, bias, y;
    dnnl_inner_product_desc_t product;
    dnnl_primitive_attr_t attr = NULL;
    dnnl_status_t status = describe(&x, dense->rows, dense->m1, dnnl_ab);
    if (!status) status = describe(&weights, dense->m2, dense->m1, dnnl_format_tag_any);
    if (!status) status = dnnl_memory_desc_init_by_tag(&bias, 1, (dnnl_dims_t){dense->m2}, dnnl_f32, dnnl_a);
    if (!status) status = describe(&y, dense->rows, dense->m2, dnnl_ab);
    if (!status)
        status = dnnl_inner_product_forward_desc_init(&product, dnnl_forward_inference, &x, &weights, &bias, &y);
    TRY(check(dense, status, "a product"));
    KinditStatus result = onednn_attributes(dense->ctx, gelu ? dnnl_eltwise_gelu_erf : dnnl_alg_kind_undef, &attr);
    if (!result)
        result = check(dense, dnnl_primitive_desc_create(out, &product, attr, dense->engine, NULL), "a product");
    dnnl_primitive_attr_destroy(attr);
    return result;
}

static KinditStatus build(Dense *dense, bool gelu) {
    dnnl_primitive_desc_t descriptor = NULL;
    TRY(check(dense, dnnl_engine_create(&dense->engine, dnnl_cpu, 0), "an engine"));
    TRY(describe_product(dense, gelu, &descriptor));
    dense->layout = *dnnl_primitive_desc_query_md(descriptor, dnnl_query_weights_md, 0);
    const dnnl_memory_desc_t *bias = dnnl_primitive_desc_query_md(descriptor, dnnl_query_weights_md, 1);
    dnnl_status_t status = dnnl_primitive_create(&dense->product, descriptor);
    if (!status) status = dnnl_memory_create(&dense->weights, &dense->layout, dense->engine, DNNL_MEMORY_NONE);
    if (!status) status = dnnl_memory_create(&dense->bias, bias, dense->engine, DNNL_MEMORY_NONE);
    for (int i = 0; i < dense->n_workers && !status; i++) status = open_worker(dense, descriptor, &dense->workers[i]);
    dnnl_primitive_desc_destroy(descriptor);
    return check(dense, status, "a product");
}

KinditStatus dense_open(Dense **out, KinditContext *ctx, Engine *engine, int rows, int m1, int m2, bool gelu) {
    const int omp_threads = omp_get_max_threads(), n_workers = engine_threads(engine);
    TRY(memory_alloc(ctx, 1, sizeof **out, out));
    Dense *dense = *out;
    *dense = (Dense){.ctx = ctx, .rows = rows, .m1 = m1, .m2 = m2};
    KinditStatus status = memory_alloc(ctx, (size_t)n_workers, sizeof *dense->workers, &dense->workers);
    omp_set_num_threads(1);
    if (!status) {
        dense->n_workers = n_workers;
        status = build(dense, gelu);
    }
    omp_set_num_threads(omp_threads);
    if (status) dense_close(out);
    return status;
}

void dense_close(Dense **out) {
    Dense *dense = *out;
    if (!dense) return;
    for (int i = 0; i < dense->n_workers; i++) {
        dnnl_memory_destroy(dense->workers[i].x);
        dnnl_memory_destroy(dense->workers[i].y);
        dnnl_memory_destroy(dense->workers[i].scratch);
        dnnl_stream_destroy(dense->workers[i].stream);
    }
    memory_free(&dense->workers);
    dnnl_memory_destroy(dense->weights);
    dnnl_memory_destroy(dense->bias);
    dnnl_primitive_destroy(dense->product);
    dnnl_engine_destroy(dense->engine);
    memory_free(out);
}

size_t dense_packed_size(const Dense *dense) {
    return (dnnl_memory_desc_get_size(&dense->layout) + sizeof(float) - 1) / sizeof(float);
}

KinditStatus dense_pack(Dense *dense, const float *W, float *packed) {
    dnnl_memory_desc_t plain;
    dnnl_memory_t from = NULL;
    dnnl_status_t status = describe(&plain, dense->m2, dense->m1, dnnl_ab);
    if (!status) status = dnnl_memory_create(&from, &plain, dense->engine, (void *)(uintptr_t)W);
    if (!status) status = dnnl_memory_set_data_handle(dense->weights, packed);
    if (!status) status = onednn_move(dense->engine, from, dense->weights);
    dnnl_memory_destroy(from);
    return check(dense, status, "packing weights");
}

static dnnl_status_t run_image(const Dense *dense, const Worker *worker, const float *x, float *y) {
    const dnnl_exec_arg_t args[N_ARGS] = {{DNNL_ARG_SRC, worker->x},
                                          {DNNL_ARG_WEIGHTS, dense->weights},
                                          {DNNL_ARG_BIAS, dense->bias},
                                          {DNNL_ARG_DST, worker->y},
                                          {DNNL_ARG_SCRATCHPAD, worker->scratch}};
    dnnl_status_t status = dnnl_memory_set_data_handle(worker->x, (void *)(uintptr_t)x);
    if (!status) status = dnnl_memory_set_data_handle(worker->y, y);
    if (!status) status = dnnl_primitive_execute(dense->product, worker->stream, N_ARGS, args);
    return status ? status : dnnl_stream_wait(worker->stream);
}

KinditStatus dense_run(Dense *dense, int n, const float *x, const float *packed, const float *bias, float *y) {
    const size_t x_size = (size_t)dense->rows * (size_t)dense->m1, y_size = (size_t)dense->rows * (size_t)dense->m2;
    const int omp_threads = omp_get_max_threads();
    int failure = (int)dnnl_memory_set_data_handle(dense->weights, (void *)(uintptr_t)packed);
    if (!failure) failure = (int)dnnl_memory_set_data_handle(dense->bias, (void *)(uintptr_t)bias);
    if (failure) return check(dense, (dnnl_status_t)failure, "a product");
    omp_set_num_threads(1); // of each thread below, should a product want to share its work out
#pragma omp parallel for num_threads(dense->n_workers) schedule(static) reduction(max : failure)
    for (int i = 0; i < n; i++) {
        int status = (int)run_image(dense, &dense->workers[omp_get_thread_num()], x + (size_t)i * x_size,
                                    y + (size_t)i * y_size);
        failure = status > failure ? status : failure;
    }
    omp_set_num_threads(omp_threads);
    return check(dense, (dnnl_status_t)failure, "a product");
}

#else

struct Dense {
    Engine *engine;
    int rows, m1, m2;
    bool gelu;
};

KinditStatus dense_open(Dense **out, KinditContext *ctx, Engine *engine, int rows, int m1, int m2, bool gelu) {
    TRY(memory_alloc(ctx, 1, sizeof **out, out));
    **out = (Dense){.engine = engine, .rows = rows, .m1 = m1, .m2 = m2, .gelu = gelu};
    return KINDIT_OK;
}

void dense_close(Dense **dense) {
    memory_free(dense);
}

size_t dense_packed_size(const Dense *dense) {
    return engine_linear_pack(dense->m1, dense->m2);
}

KinditStatus dense_pack(Dense *dense, const float *W, float *packed) {
    engine_linear_prepare(dense->engine, dense->m1, dense->m2, ENGINE_F32, W, &(EnginePack){.weights = packed});
    return KINDIT_OK;
}

KinditStatus dense_run(Dense *dense, int n, const float *x, const float *packed, const float *bias, float *y) {
    EnginePack pack = {.weights = (float *)(uintptr_t)packed, .ready = true};
    const int rows = n * dense->rows;
    engine_linear_forward(dense->engine, rows, dense->m1, dense->m2, activation_f32(x), NULL, bias, activation_f32(y),
                          &pack);
    if (dense->gelu) engine_gelu_exact(dense->engine, (size_t)rows * (size_t)dense->m2, y);
    return KINDIT_OK;
}

#endif
