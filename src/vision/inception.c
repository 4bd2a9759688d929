// Inception-v3 (Szegedy et al. 2015) in the form that FID is computed with: the graph that TensorFlow published on
// 2015-12-05, by the names of its PyTorch port (pytorch-fid, torch-fidelity: pt_inception-2015-12-05-6726825d.pth). It
// is not torchvision's: means over 3 x 3 pixels leave the padding out, the last block takes maxima there, and there are
// 1008 classes.
//
// features  pool3, the mean of the last block (2048)
// spatial   sFID's: the graph's "mixed_6/conv:0", first 7 channels, 17 x 17 x 7. The port's names run mixed = Mixed_5b,
//           mixed_1 = 5c, ... mixed_3 = 6a, ... mixed_6 = 6d, and the node is the 1 x 1 branch after its ReLU (the node
//           that the branch's scope is named for), so it is Mixed_6d.branch1x1, of which Mixed_6d's first channels are
//           made.
// logits    of the 1008 classes without the final bias, as the Inception Score takes them (the original program
// multiplied
//           the features by the weights alone)
#include <math.h>
#include <stdio.h>

#include "base/memory.h"
#include "formats/weights.h"
#include "vision/dnn.h"
#include "vision/networks.h"

enum { INPUT_SIZE = 299, N_FEATURES = 2048, N_LOGITS = 1008, SPATIAL_SIDE = 17, SPATIAL_CHANNELS = 7, NAME_SIZE = 96 };

static bool inception_recognise(const Safetensors *file) {
    return safetensors_find(file, "Conv2d_1a_3x3.conv.weight") &&
           safetensors_find(file, "Mixed_7c.branch1x1.conv.weight");
}

#ifdef KINDIT_HAVE_DNNL

typedef struct Builder {
    KinditContext *ctx;
    Dnn *dnn;
    Weights weights;
    const char *block;   // the one being built
    KinditStatus status; // of what failed first: nothing is added after it
} Builder;

// ---- convolutions, their batch norms folded in ---------------------------------------------------------------------

// w' = w g / sqrt(variance + eps), b' = beta - mean g / sqrt(variance + eps)
static KinditStatus fold(const Builder *b, const char *name, size_t channels, size_t row, const float norm[4][2048],
                         float *weights, float *bias) {
    const double eps = 1e-3;
    for (size_t c = 0; c < channels; c++) {
        double variance = (double)norm[3][c] + eps;
        if (!(variance > 0))
            return context_fail(b->ctx, KINDIT_ERROR_FORMAT, "%s: \"%s.bn.running_var\": %g is no variance",
                                b->weights.file->path, name, (double)norm[3][c]);
        double scale = (double)norm[0][c] / sqrt(variance);
        bias[c] = (float)((double)norm[1][c] - (double)norm[2][c] * scale);
        for (size_t i = 0; i < row; i++) weights[c * row + i] = (float)((double)weights[c * row + i] * scale);
    }
    return KINDIT_OK;
}

static KinditStatus read_norm(Builder *b, const char *name, int64_t channels, float norm[4][2048]) {
    static const char *const parts[4] = {"weight", "bias", "running_mean", "running_var"};
    char full[2 * NAME_SIZE];
    for (int i = 0; i < 4; i++) {
        const Tensor *tensor;
        snprintf(full, sizeof full, "%s.bn.%s", name, parts[i]);
        TRY(weights_require(&b->weights, full, 1, &channels, &tensor));
        TRY(weights_read(&b->weights, tensor, 0, (size_t)channels, norm[i]));
    }
    snprintf(full, sizeof full, "%s.bn.num_batches_tracked", name);
    weights_ignore(&b->weights, full);
    return KINDIT_OK;
}

static KinditStatus add_conv(Builder *b, const char *name, int x, const DnnConv *shape, int *out) {
    const size_t row = (size_t)dnn_channels(b->dnn, x) * (size_t)shape->height * (size_t)shape->width;
    const size_t channels = (size_t)shape->channels;
    char full[2 * NAME_SIZE];
    const Tensor *tensor;
    float norm[4][2048], bias[2048], *weights;
    snprintf(full, sizeof full, "%s.conv.weight", name);
    TRY(weights_require(&b->weights, full, 4,
                        (int64_t[]){shape->channels, dnn_channels(b->dnn, x), shape->height, shape->width}, &tensor));
    TRY(read_norm(b, name, shape->channels, norm));
    TRY(memory_alloc(b->ctx, channels * row, sizeof *weights, &weights));
    KinditStatus status = weights_read(&b->weights, tensor, 0, channels * row, weights);
    if (!status) status = fold(b, name, channels, row, norm, weights, bias);
    if (!status) status = dnn_add_conv(b->dnn, name, x, shape, weights, bias, out);
    memory_free(&weights);
    return status;
}

// The tensor after `branch` of the block being built; "" names the block itself.
static int conv(Builder *b, int x, const char *branch, DnnConv shape) {
    char name[NAME_SIZE];
    int out = 0;
    snprintf(name, sizeof name, "%s%s%s", b->block, *branch ? "." : "", branch);
    shape.relu = true;
    if (!b->status) b->status = add_conv(b, name, x, &shape, &out);
    return out;
}

static DnnConv point(int channels) { // 1 x 1
    return (DnnConv){.channels = channels, .height = 1, .width = 1, .stride = 1};
}
static DnnConv square(int channels, int side) { // keeps the size
    return (DnnConv){channels, side, side, 1, side / 2, side / 2, false};
}
static DnnConv line(int channels, int height, int width) { // keeps the size
    return (DnnConv){channels, height, width, 1, height / 2, width / 2, false};
}
static DnnConv valid(int channels, int side, int stride) { // without padding
    return (DnnConv){.channels = channels, .height = side, .width = side, .stride = stride};
}

static int pool(Builder *b, int x, DnnPool kind, int kernel, int stride, int pad) {
    int out = 0;
    if (!b->status) b->status = dnn_add_pool(b->dnn, x, kind, kernel, stride, pad, &out);
    return out;
}

static int concat(Builder *b, int n, const int *x) {
    int out = 0;
    if (!b->status) b->status = dnn_add_concat(b->dnn, b->block, n, x, &out);
    return out;
}

// ---- the blocks, by their letters in torchvision -------------------------------------------------------------------

static int block_a(Builder *b, const char *name, int x, int pool_channels) {
    int out[4], t;
    b->block = name;
    out[0] = conv(b, x, "branch1x1", point(64));
    t = conv(b, x, "branch5x5_1", point(48));
    out[1] = conv(b, t, "branch5x5_2", square(64, 5));
    t = conv(b, x, "branch3x3dbl_1", point(64));
    t = conv(b, t, "branch3x3dbl_2", square(96, 3));
    out[2] = conv(b, t, "branch3x3dbl_3", square(96, 3));
    t = pool(b, x, DNN_POOL_MEAN, 3, 1, 1);
    out[3] = conv(b, t, "branch_pool", point(pool_channels));
    return concat(b, 4, out);
}

static int block_b(Builder *b, const char *name, int x) {
    int out[3], t;
    b->block = name;
    out[0] = conv(b, x, "branch3x3", valid(384, 3, 2));
    t = conv(b, x, "branch3x3dbl_1", point(64));
    t = conv(b, t, "branch3x3dbl_2", square(96, 3));
    out[1] = conv(b, t, "branch3x3dbl_3", valid(96, 3, 2));
    out[2] = pool(b, x, DNN_POOL_MAX, 3, 2, 0);
    return concat(b, 3, out);
}

// *first receives the 1 x 1 branch.
static int block_c(Builder *b, const char *name, int x, int narrow, int *first) {
    int out[4], t;
    b->block = name;
    out[0] = *first = conv(b, x, "branch1x1", point(192));
    t = conv(b, x, "branch7x7_1", point(narrow));
    t = conv(b, t, "branch7x7_2", line(narrow, 1, 7));
    out[1] = conv(b, t, "branch7x7_3", line(192, 7, 1));
    t = conv(b, x, "branch7x7dbl_1", point(narrow));
    t = conv(b, t, "branch7x7dbl_2", line(narrow, 7, 1));
    t = conv(b, t, "branch7x7dbl_3", line(narrow, 1, 7));
    t = conv(b, t, "branch7x7dbl_4", line(narrow, 7, 1));
    out[2] = conv(b, t, "branch7x7dbl_5", line(192, 1, 7));
    t = pool(b, x, DNN_POOL_MEAN, 3, 1, 1);
    out[3] = conv(b, t, "branch_pool", point(192));
    return concat(b, 4, out);
}

static int block_d(Builder *b, const char *name, int x) {
    int out[3], t;
    b->block = name;
    t = conv(b, x, "branch3x3_1", point(192));
    out[0] = conv(b, t, "branch3x3_2", valid(320, 3, 2));
    t = conv(b, x, "branch7x7x3_1", point(192));
    t = conv(b, t, "branch7x7x3_2", line(192, 1, 7));
    t = conv(b, t, "branch7x7x3_3", line(192, 7, 1));
    out[1] = conv(b, t, "branch7x7x3_4", valid(192, 3, 2));
    out[2] = pool(b, x, DNN_POOL_MAX, 3, 2, 0);
    return concat(b, 3, out);
}

static int block_e(Builder *b, const char *name, int x, DnnPool kind) {
    int out[6], t;
    b->block = name;
    out[0] = conv(b, x, "branch1x1", point(320));
    t = conv(b, x, "branch3x3_1", point(384));
    out[1] = conv(b, t, "branch3x3_2a", line(384, 1, 3));
    out[2] = conv(b, t, "branch3x3_2b", line(384, 3, 1));
    t = conv(b, x, "branch3x3dbl_1", point(448));
    t = conv(b, t, "branch3x3dbl_2", square(384, 3));
    out[3] = conv(b, t, "branch3x3dbl_3a", line(384, 1, 3));
    out[4] = conv(b, t, "branch3x3dbl_3b", line(384, 3, 1));
    t = pool(b, x, kind, 3, 1, 1);
    out[5] = conv(b, t, "branch_pool", point(192));
    return concat(b, 6, out);
}

// ---- the network ---------------------------------------------------------------------------------------------------

static int simple(Builder *b, const char *name, int x, DnnConv shape) {
    b->block = name;
    return conv(b, x, "", shape);
}

static int add_stem(Builder *b) {
    int x = simple(b, "Conv2d_1a_3x3", 0, valid(32, 3, 2));
    x = simple(b, "Conv2d_2a_3x3", x, valid(32, 3, 1));
    x = simple(b, "Conv2d_2b_3x3", x, square(64, 3));
    x = pool(b, x, DNN_POOL_MAX, 3, 2, 0);
    x = simple(b, "Conv2d_3b_1x1", x, point(80));
    x = simple(b, "Conv2d_4a_3x3", x, valid(192, 3, 1));
    return pool(b, x, DNN_POOL_MAX, 3, 2, 0);
}

// A product with the weights alone: a convolution of one pixel.
static KinditStatus add_classes(Builder *b, int features, int *out) {
    static const float bias[N_LOGITS];
    const DnnConv shape = point(N_LOGITS);
    const Tensor *tensor, *unused;
    float *weights;
    TRY(weights_require(&b->weights, "fc.weight", 2, (int64_t[]){N_LOGITS, N_FEATURES}, &tensor));
    TRY(weights_require(&b->weights, "fc.bias", 1, (int64_t[]){N_LOGITS}, &unused));
    TRY(memory_alloc(b->ctx, tensor->n_elements, sizeof *weights, &weights));
    KinditStatus status = weights_read(&b->weights, tensor, 0, tensor->n_elements, weights);
    if (!status) status = dnn_add_conv(b->dnn, "fc", features, &shape, weights, bias, out);
    memory_free(&weights);
    return status;
}

enum { OUTPUT_SPATIAL, OUTPUT_FEATURES, OUTPUT_LOGITS, N_OUTPUTS };

static KinditStatus add_layers(Dnn *dnn, void *user) {
    Builder *b = user;
    int spatial, unused, logits;
    b->dnn = dnn;
    int x = add_stem(b);
    x = block_a(b, "Mixed_5b", x, 32);
    x = block_a(b, "Mixed_5c", x, 64);
    x = block_a(b, "Mixed_5d", x, 64);
    x = block_b(b, "Mixed_6a", x);
    x = block_c(b, "Mixed_6b", x, 128, &unused);
    x = block_c(b, "Mixed_6c", x, 160, &unused);
    x = block_c(b, "Mixed_6d", x, 160, &spatial);
    x = block_c(b, "Mixed_6e", x, 192, &unused);
    x = block_d(b, "Mixed_7a", x);
    x = block_e(b, "Mixed_7b", x, DNN_POOL_MEAN);
    x = block_e(b, "Mixed_7c", x, DNN_POOL_MAX);
    x = pool(b, x, DNN_POOL_MEAN, 8, 1, 0);
    TRY(b->status);
    TRY(add_classes(b, x, &logits));
    TRY(weights_refuse_others(&b->weights, "Inception-v3 in FID's form"));
    TRY(dnn_add_output(dnn, spatial, SPATIAL_CHANNELS));
    TRY(dnn_add_output(dnn, x, N_FEATURES));
    return dnn_add_output(dnn, logits, N_LOGITS);
}

static KinditStatus inception_open(VisionNetwork *network, const Safetensors *file) {
    Dnn *dnn = NULL;
    Builder builder = {.ctx = network->ctx};
    TRY(weights_begin(&builder.weights, network->ctx, file));
    KinditStatus status =
        dnn_build(&dnn, network->ctx, engine_threads(network->engine), 3, INPUT_SIZE, add_layers, &builder);
    weights_end(&builder.weights);
    network->state = dnn;
    network->info = (VisionInfo){.name = "inception-v3",
                                 .channels = 3,
                                 .input_size = INPUT_SIZE,
                                 .n_features = N_FEATURES,
                                 .n_spatial = SPATIAL_SIDE * SPATIAL_SIDE * SPATIAL_CHANNELS,
                                 .n_logits = N_LOGITS,
                                 .profile = PROFILE_ADM};
    return status;
}

static KinditStatus inception_run(VisionNetwork *network, const float *images, int n, const VisionOutput *out) {
    float *const outputs[N_OUTPUTS] = {
        [OUTPUT_SPATIAL] = out->spatial, [OUTPUT_FEATURES] = out->features, [OUTPUT_LOGITS] = out->logits};
    if (out->visit) TRY(dnn_visit(network->state, images, out->visit, out->user));
    return dnn_run(network->state, images, n, outputs);
}

static void inception_close(VisionNetwork *network) {
    Dnn *dnn = network->state;
    dnn_close(&dnn);
    network->state = NULL;
}

#else // it is recognised, so that the message can be clear

static KinditStatus inception_open(VisionNetwork *network, const Safetensors *file) {
    return context_fail(
        network->ctx, KINDIT_ERROR_UNSUPPORTED,
        "%s: Inception-v3 needs oneDNN, which this build is without: install libdnnl-dev and build again", file->path);
}

static KinditStatus inception_run(VisionNetwork *network, const float *images, int n, const VisionOutput *out) {
    (void)images, (void)n, (void)out;
    return context_fail(network->ctx, KINDIT_ERROR_UNSUPPORTED, "Inception-v3 needs oneDNN");
}

static void inception_close(VisionNetwork *network) {
    (void)network;
}
#endif

const VisionKind vision_inception = {
    .name = "Inception-v3",
    .recognise = inception_recognise,
    .open = inception_open,
    .run = inception_run,
    .close = inception_close,
};
