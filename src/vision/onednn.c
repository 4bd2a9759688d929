#include "base/context.h"

#ifdef KINDIT_HAVE_DNNL
#include "vision/onednn.h"

KinditStatus onednn_check(KinditContext *ctx, dnnl_status_t status, const char *what) {
    if (status == dnnl_success) return KINDIT_OK;
    return context_fail(ctx, status == dnnl_out_of_memory ? KINDIT_ERROR_MEMORY : KINDIT_ERROR_UNSUPPORTED,
                        "oneDNN %d.%d: %s failed with status %d", dnnl_version()->major, dnnl_version()->minor, what,
                        (int)status);
}

static dnnl_status_t append(dnnl_primitive_attr_t attr, dnnl_alg_kind_t after) {
    dnnl_post_ops_t ops = NULL;
    dnnl_status_t status = dnnl_post_ops_create(&ops);
    if (!status) status = dnnl_post_ops_append_eltwise(ops, 1.0f, after, 0.0f, 0.0f);
    if (!status) status = dnnl_primitive_attr_set_post_ops(attr, ops);
    dnnl_post_ops_destroy(ops);
    return status;
}

KinditStatus onednn_attributes(KinditContext *ctx, dnnl_alg_kind_t after, dnnl_primitive_attr_t *out) {
    dnnl_status_t status = dnnl_primitive_attr_create(out);
    if (!status) status = dnnl_primitive_attr_set_scratchpad_mode(*out, dnnl_scratchpad_mode_user);
    if (!status) status = dnnl_primitive_attr_set_fpmath_mode(*out, dnnl_fpmath_mode_strict);
    if (!status && after != dnnl_alg_kind_undef) status = append(*out, after);
    return onednn_check(ctx, status, "attributes");
}

dnnl_status_t onednn_move(dnnl_engine_t engine, dnnl_memory_t from, dnnl_memory_t to) {
    const dnnl_memory_desc_t *from_layout, *to_layout;
    dnnl_primitive_desc_t descriptor = NULL;
    dnnl_primitive_t reorder = NULL;
    dnnl_stream_t stream = NULL;
    dnnl_status_t status = dnnl_memory_get_memory_desc(from, &from_layout);
    if (!status) status = dnnl_memory_get_memory_desc(to, &to_layout);
    if (!status) status = dnnl_reorder_primitive_desc_create(&descriptor, from_layout, engine, to_layout, engine, NULL);
    if (!status) status = dnnl_primitive_create(&reorder, descriptor);
    if (!status) status = dnnl_stream_create(&stream, engine, dnnl_stream_default_flags);
    if (!status)
        status =
            dnnl_primitive_execute(reorder, stream, 2, (dnnl_exec_arg_t[]){{DNNL_ARG_FROM, from}, {DNNL_ARG_TO, to}});
    if (!status) status = dnnl_stream_wait(stream);
    dnnl_stream_destroy(stream);
    dnnl_primitive_destroy(reorder);
    dnnl_primitive_desc_destroy(descriptor);
    return status;
}

#endif
