#include "vision/vision.h"

#include <math.h>

#include "base/file.h"
#include "base/memory.h"
#include "formats/weights.h"
#include "vision/networks.h"

static const VisionKind *const kinds[] = {&vision_inception, &vision_dinov2, &vision_native, NULL};

static const VisionKind *recognise(const Safetensors *file) {
    for (int i = 0; kinds[i]; i++)
        if (kinds[i]->recognise(file)) return kinds[i];
    return NULL;
}

static KinditStatus open_network(VisionNetwork *network, const Safetensors *file) {
    network->kind = recognise(file);
    if (!network->kind)
        return context_fail(network->ctx, KINDIT_ERROR_UNSUPPORTED,
                            "%s: its tensors are those of no network that is known here (docs/evaluation.md)",
                            file->path);
    TRY(network->kind->open(network, file));
    file_sha256(file->map.data, file->map.size, network->info.sha256);
    return KINDIT_OK;
}

KinditStatus vision_open(VisionNetwork **out, KinditContext *ctx, Engine *engine, const char *path) {
    Safetensors file;
    *out = NULL;
    TRY(weights_open(&file, ctx, path));
    KinditStatus status = memory_alloc(ctx, 1, sizeof **out, out);
    if (!status) {
        **out = (VisionNetwork){.ctx = ctx, .engine = engine};
        status = open_network(*out, &file);
        if (status) vision_close(out);
    }
    safetensors_close(&file);
    return status;
}

void vision_close(VisionNetwork **network) {
    if (!network || !*network) return;
    if ((*network)->kind) (*network)->kind->close(*network);
    memory_free(network);
}

const VisionInfo *vision_info(const VisionNetwork *network) {
    return &network->info;
}

static KinditStatus check_finite(const VisionNetwork *network, const float *values, int n, int row, const char *what) {
    for (size_t i = 0; values && i < (size_t)n * (size_t)row; i++)
        if (!isfinite(values[i]))
            return context_fail(network->ctx, KINDIT_ERROR_NUMERIC, "%s: the %s of image %zu are not finite numbers",
                                network->info.name, what, i / (size_t)row);
    return KINDIT_OK;
}

KinditStatus vision_run(VisionNetwork *network, const float *images, int n, const VisionOutput *out) {
    const VisionInfo *info = &network->info;
    if (n < 0 || (out->visit && n != 1))
        return context_fail(network->ctx, KINDIT_ERROR_ARGUMENT, "%s: expected %s, found %d", info->name,
                            out->visit ? "one image, whose layers are looked at" : "images", n);
    TRY(network->kind->run(network, images, n, out));
    TRY(check_finite(network, out->features, n, info->n_features, "features"));
    TRY(check_finite(network, info->n_spatial ? out->spatial : NULL, n, info->n_spatial, "spatial features"));
    return check_finite(network, info->n_logits ? out->logits : NULL, n, info->n_logits, "logits");
}
