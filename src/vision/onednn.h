// What the files that compute by oneDNN share; a build without it (KINDIT_HAVE_DNNL is not defined) has none of this.
//
// One thread runs a primitive that was made for one thread: so its results do not depend on how many there are, and no
// thread waits for another. Both while primitives are made and while they run, omp_set_num_threads(1) must hold.
#ifndef VISION_ONEDNN_H
#define VISION_ONEDNN_H

#include <dnnl.h>

#include "base/context.h"

// The library's status as one of ours; `what` is what failed.
KinditStatus onednn_check(KinditContext *ctx, dnnl_status_t status, const char *what);
// Products in full single precision whatever the environment says, and scratch of the caller's: the library's own
// belongs to the thread that made the primitive. `after` is done to each element of the result (dnnl_alg_kind_undef:
// nothing). Destroyed by the caller, on failure as well.
KinditStatus onednn_attributes(KinditContext *ctx, dnnl_alg_kind_t after, dnnl_primitive_attr_t *out);
// Copies between two memories, each in its own layout, now.
dnnl_status_t onednn_move(dnnl_engine_t engine, dnnl_memory_t from, dnnl_memory_t to);

#endif
