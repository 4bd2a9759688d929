// DINOv2 (Oquab et al. 2023): a ViT whose normalised class token is the feature vector. Weights by the names of the
// original code (facebookresearch/dinov2, dinov2_vit*14_pretrain.pth) or of transformers' Dinov2Model.
//
// The two programs enlarge or shrink the table of positions differently: the original, which dgm-eval runs, says 16.1
// where it means 16 ("a small number to avoid floating point error"), and so samples the table at other places. Each
// kind of file gets the positions of its own program.
//
// A block is a DiT's with the same modulation for every sample: LayerNorm's weight and bias are 1 + scale and shift,
// layer scale is the gate of the residual. So all of it is engine calls but for the products, where no gradient is
// wanted and another program is faster (vision/dense.h). GELU is the exact one.
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "formats/weights.h"
#include "vision/dense.h"
#include "vision/networks.h"

enum { INPUT_SIZE = 224, HEAD_WIDTH = 64, MAX_WIDTH = 8192, MAX_DEPTH = 512, NAME_SIZE = 96 };
enum { MIN_PATCH = 7 }; // pixels: tokens, of which small files may ask for many, stay below some thousand
enum { BATCH = 8 };     // images that are run at once, or more, so that each thread has as many
static const float norm_eps = 1e-6f;

// ---- the tensors, in units of the width D --------------------------------------------------------------------------

enum { NORM1_W, NORM1_B, QKV_W, QKV_B, PROJ_W, PROJ_B, SCALE1, NORM2_W, NORM2_B, FC1_W, FC1_B, FC2_W, FC2_B, SCALE2 };
enum { N_PARTS = SCALE2 + 1 };

static const struct {
    int rows, columns; // of a block's tensor: (rows * D, columns * D); columns 0: (rows * D)
} parts[N_PARTS] = {
    [NORM1_W] = {1, 0}, [NORM1_B] = {1, 0}, [QKV_W] = {3, 1},   [QKV_B] = {3, 0},   [PROJ_W] = {1, 1},
    [PROJ_B] = {1, 0},  [SCALE1] = {1, 0},  [NORM2_W] = {1, 0}, [NORM2_B] = {1, 0}, [FC1_W] = {4, 1},
    [FC1_B] = {4, 0},   [FC2_W] = {1, 4},   [FC2_B] = {1, 0},   [SCALE2] = {1, 0},
};

typedef struct Names {
    const char *class_token, *position, *mask, *patch_w, *patch_b, *norm_w, *norm_b;
    const char *swiglu; // what the giant's first block has in place of fc1
    const char *block;
    const char *parts[N_PARTS]; // after the block's; %s stands for query, key and value where they are apart
} Names;

static const Names names_original = {
    .class_token = "cls_token",
    .position = "pos_embed",
    .mask = "mask_token",
    .patch_w = "patch_embed.proj.weight",
    .patch_b = "patch_embed.proj.bias",
    .norm_w = "norm.weight",
    .norm_b = "norm.bias",
    .swiglu = "blocks.0.mlp.w12.weight",
    .block = "blocks.%d.%s",
    .parts = {"norm1.weight", "norm1.bias", "attn.qkv.weight", "attn.qkv.bias", "attn.proj.weight", "attn.proj.bias",
              "ls1.gamma", "norm2.weight", "norm2.bias", "mlp.fc1.weight", "mlp.fc1.bias", "mlp.fc2.weight",
              "mlp.fc2.bias", "ls2.gamma"},
};

static const Names names_transformers = {
    .class_token = "embeddings.cls_token",
    .position = "embeddings.position_embeddings",
    .mask = "embeddings.mask_token",
    .patch_w = "embeddings.patch_embeddings.projection.weight",
    .patch_b = "embeddings.patch_embeddings.projection.bias",
    .norm_w = "layernorm.weight",
    .norm_b = "layernorm.bias",
    .swiglu = "encoder.layer.0.mlp.weights_in.weight",
    .block = "encoder.layer.%d.%s",
    .parts = {"norm1.weight", "norm1.bias", "attention.attention.%s.weight", "attention.attention.%s.bias",
              "attention.output.dense.weight", "attention.output.dense.bias", "layer_scale1.lambda1", "norm2.weight",
              "norm2.bias", "mlp.fc1.weight", "mlp.fc1.bias", "mlp.fc2.weight", "mlp.fc2.bias", "layer_scale2.lambda1"},
};

typedef struct Dinov2 {
    char name[32];
    const Names *names;
    int width, depth, heads, patch;
    int grid, tokens; // patches along a side; with the class token
    int table_grid;   // of the positions in the file
    int batch;
    Dense *patch_product, *products[N_PARTS]; // of each matrix of a block
    float *weights, *work;                    // engine memory, cut up into what follows
    float *patch_w, *patch_b, *position, *norm_w, *norm_b;
    float *blocks[MAX_DEPTH][N_PARTS];                                    // vectors as they are, matrices packed
    float *pixels, *patches, *x, *normed, *branch, *wide, *moments, *lse; // of up to `batch` images
} Dinov2;

// Floats that a part takes.
static size_t part_size(const Dinov2 *net, int part) {
    const Dense *product = net->products[part];
    return product ? dense_packed_size(product) : (size_t)parts[part].rows * (size_t)net->width;
}

// ---- reading -------------------------------------------------------------------------------------------------------

typedef struct Reader {
    VisionNetwork *network;
    Dinov2 *net;
    Weights weights;
    float *staging; // host memory for the largest tensor; NULL while the headers alone are checked
    float *matrix;  // engine memory for the largest that is packed
} Reader;

// Of a norm's weight, which is 1 + scale.
static void subtract_one(float *values, size_t n) {
    for (size_t i = 0; i < n; i++) values[i] -= 1.0f;
}

// Puts the n numbers in r->staging into engine memory at `to`, packed where they are the weights of a product.
static KinditStatus keep(Reader *r, Dense *product, size_t n, float *to) {
    engine_upload(r->network->engine, product ? r->matrix : to, r->staging, n);
    return product ? dense_pack(product, r->matrix, to) : KINDIT_OK;
}

// Checks the tensor, and keeps it once there is room for it.
static KinditStatus read_tensor(Reader *r, const char *name, int n_dims, const int64_t *shape, Dense *product,
                                float *to) {
    const Tensor *tensor;
    TRY(weights_require(&r->weights, name, n_dims, shape, &tensor));
    if (!r->staging) return KINDIT_OK;
    TRY(weights_read(&r->weights, tensor, 0, tensor->n_elements, r->staging));
    if (to == r->net->norm_w) subtract_one(r->staging, tensor->n_elements);
    return keep(r, product, tensor->n_elements, to);
}

static KinditStatus read_part(Reader *r, int block, int part) {
    static const char *const qkv[3] = {"query", "key", "value"};
    const Names *names = r->net->names;
    const int pieces = strstr(names->parts[part], "%s") ? 3 : 1;
    const int64_t shape[2] = {(int64_t)r->net->width * parts[part].rows / pieces,
                              (int64_t)r->net->width * parts[part].columns};
    size_t n = 0;
    for (int piece = 0; piece < pieces; piece++) {
        char inner[NAME_SIZE], name[2 * NAME_SIZE];
        const Tensor *tensor;
        snprintf(inner, sizeof inner, names->parts[part], qkv[piece]);
        snprintf(name, sizeof name, names->block, block, inner);
        TRY(weights_require(&r->weights, name, parts[part].columns ? 2 : 1, shape, &tensor));
        if (r->staging) TRY(weights_read(&r->weights, tensor, 0, tensor->n_elements, r->staging + n));
        n += tensor->n_elements;
    }
    if (!r->staging) return KINDIT_OK;
    if (part == NORM1_W || part == NORM2_W) subtract_one(r->staging, n);
    return keep(r, r->net->products[part], n, r->net->blocks[block][part]);
}

static KinditStatus read_blocks(Reader *r) {
    for (int block = 0; block < r->net->depth; block++)
        for (int part = 0; part < N_PARTS; part++) TRY(read_part(r, block, part));
    return KINDIT_OK;
}

// Cubic convolution (Keys, a = -0.75, as PyTorch has it): weights of the positions floor(at) - 1 .. floor(at) + 2.
static void cubic_weights(double t, double out[4]) {
    const double a = -0.75;
    for (int k = 0; k < 4; k++) {
        double x = fabs(t + 1 - k);
        out[k] = x <= 1 ? ((a + 2) * x - (a + 3)) * x * x + 1 : ((a * x - 5 * a) * x + 8 * a) * x - 4 * a;
    }
}

typedef struct Cubic {
    int at[4];
    double weight[4];
} Cubic;

static Cubic cubic_at(int i, double scale, int n) {
    Cubic cubic;
    double at = (i + 0.5) * scale - 0.5, low = floor(at);
    cubic_weights(at - low, cubic.weight);
    for (int k = 0; k < 4; k++) {
        int from = (int)low - 1 + k;
        cubic.at[k] = from < 0 ? 0 : from > n - 1 ? n - 1 : from;
    }
    return cubic;
}

// table (table_grid^2, D) to out (grid^2, D), without antialiasing, as both programs do.
static void interpolate_positions(const Dinov2 *net, const float *table, float *out) {
    const double offset = net->names == &names_original ? 0.1 : 0; // see the top
    const double scale = net->table_grid / (net->grid + offset);
    const size_t width = (size_t)net->width;
    for (int y = 0; y < net->grid; y++)
        for (int x = 0; x < net->grid; x++, out += width) {
            const Cubic down = cubic_at(y, scale, net->table_grid), across = cubic_at(x, scale, net->table_grid);
            for (size_t d = 0; d < width; d++) {
                double sum = 0;
                for (int k = 0; k < 16; k++) {
                    size_t from = (size_t)down.at[k / 4] * (size_t)net->table_grid + (size_t)across.at[k % 4];
                    sum += down.weight[k / 4] * across.weight[k % 4] * (double)table[from * width + d];
                }
                out[d] = (float)sum;
            }
        }
}

// Position 0 is the class token's, to which the token itself is added: it is the same in every image.
static KinditStatus read_positions(Reader *r) {
    Dinov2 *net = r->net;
    const int64_t width = net->width, n_table = 1 + (int64_t)net->table_grid * net->table_grid;
    const size_t n = (size_t)net->tokens * (size_t)width;
    const Tensor *table, *token;
    float *values;
    TRY(weights_require(&r->weights, net->names->position, 3, (int64_t[]){1, n_table, width}, &table));
    TRY(weights_require(&r->weights, net->names->class_token, 3, (int64_t[]){1, 1, width}, &token));
    if (!r->staging) return KINDIT_OK;
    TRY(memory_alloc(r->network->ctx, n, sizeof *values, &values));
    KinditStatus status = weights_read(&r->weights, table, 0, table->n_elements, r->staging);
    if (!status) status = weights_read(&r->weights, token, 0, (size_t)width, values);
    if (!status) {
        for (size_t d = 0; d < (size_t)width; d++) values[d] += r->staging[d];
        const float *patches = r->staging + width;
        if (net->table_grid == net->grid)
            memcpy(values + width, patches, (n - (size_t)width) * sizeof *values);
        else
            interpolate_positions(net, patches, values + width);
        engine_upload(r->network->engine, net->position, values, n);
    }
    memory_free(&values);
    return status;
}

static KinditStatus read_all(Reader *r) {
    const Dinov2 *net = r->net;
    const int64_t width = net->width, patch = net->patch;
    TRY(read_tensor(r, net->names->patch_w, 4, (int64_t[]){width, 3, patch, patch}, net->patch_product, net->patch_w));
    TRY(read_tensor(r, net->names->patch_b, 1, &width, NULL, net->patch_b));
    TRY(read_positions(r));
    TRY(read_tensor(r, net->names->norm_w, 1, &width, NULL, net->norm_w));
    TRY(read_tensor(r, net->names->norm_b, 1, &width, NULL, net->norm_b));
    TRY(read_blocks(r));
    weights_ignore(&r->weights, net->names->mask); // of training alone
    return weights_refuse_others(&r->weights, "a DINOv2 of this size");
}

// ---- sizes, memory -------------------------------------------------------------------------------------------------

static KinditStatus find_sizes(Dinov2 *net, KinditContext *ctx, const Safetensors *file) {
    const Tensor *patch = safetensors_find(file, net->names->patch_w),
                 *position = safetensors_find(file, net->names->position);
    if (safetensors_find(file, net->names->swiglu))
        return context_fail(ctx, KINDIT_ERROR_UNSUPPORTED,
                            "%s: a DINOv2 with SwiGLU (ViT-g), which is not built here: take ViT-L or a smaller one",
                            file->path);
    if (!patch || !position || patch->n_dims != 4 || position->n_dims != 3)
        return context_fail(ctx, KINDIT_ERROR_FORMAT, "%s: expected \"%s\" (D, 3, P, P) and \"%s\" (1, 1 + N, D)",
                            file->path, net->names->patch_w, net->names->position);
    int64_t width = patch->shape[0], side = patch->shape[3], n = position->shape[1] - 1;
    if (width < HEAD_WIDTH || width > MAX_WIDTH || width % HEAD_WIDTH || side < MIN_PATCH || INPUT_SIZE % side)
        return context_fail(ctx, KINDIT_ERROR_UNSUPPORTED,
                            "%s: \"%s\": expected a width that is a multiple of %d up to %d and patches that divide "
                            "%d pixels and are at least %d, found width %lld and patch %lld",
                            file->path, net->names->patch_w, HEAD_WIDTH, MAX_WIDTH, INPUT_SIZE, MIN_PATCH,
                            (long long)width, (long long)side);
    net->table_grid = n > 0 && n < 1 << 20 ? (int)lround(sqrt((double)n)) : 0;
    if (n < 1 || (int64_t)net->table_grid * net->table_grid != n)
        return context_fail(ctx, KINDIT_ERROR_FORMAT, "%s: \"%s\": expected positions of a square grid, found %lld",
                            file->path, net->names->position, (long long)n);
    net->width = (int)width;
    net->heads = net->width / HEAD_WIDTH; // of every DINOv2
    net->patch = (int)side;
    net->grid = INPUT_SIZE / net->patch;
    net->tokens = 1 + net->grid * net->grid;
    for (char name[NAME_SIZE]; net->depth < MAX_DEPTH; net->depth++) {
        snprintf(name, sizeof name, net->names->block, net->depth, net->names->parts[NORM1_W]);
        if (!safetensors_find(file, name)) break;
    }
    if (net->depth == 0) return context_fail(ctx, KINDIT_ERROR_FORMAT, "%s: has no transformer block", file->path);
    return KINDIT_OK;
}

// The next n floats of a buffer that is cut up, whole cache lines; of a buffer of NULL they are only counted.
static float *take(float *buffer, size_t *used, size_t n) {
    float *taken = buffer ? buffer + *used : NULL;
    *used += (n + 15) / 16 * 16;
    return taken;
}

static size_t cut_weights(Dinov2 *net, float *buffer) {
    const size_t width = (size_t)net->width;
    size_t used = 0;
    net->patch_w = take(buffer, &used, dense_packed_size(net->patch_product));
    net->patch_b = take(buffer, &used, width);
    net->position = take(buffer, &used, width * (size_t)net->tokens);
    net->norm_w = take(buffer, &used, width);
    net->norm_b = take(buffer, &used, width);
    for (int block = 0; block < net->depth; block++)
        for (int part = 0; part < N_PARTS; part++) net->blocks[block][part] = take(buffer, &used, part_size(net, part));
    return used;
}

static size_t cut_work(Dinov2 *net, float *buffer) {
    const size_t batch = (size_t)net->batch, rows = batch * (size_t)net->tokens, width = (size_t)net->width;
    const size_t n_pixels = batch * 3 * INPUT_SIZE * INPUT_SIZE;
    size_t used = 0;
    net->pixels = take(buffer, &used, n_pixels);
    net->patches = take(buffer, &used, n_pixels);
    net->x = take(buffer, &used, rows * width);
    net->normed = take(buffer, &used, rows * width);
    net->branch = take(buffer, &used, rows * width);
    net->wide = take(buffer, &used, rows * width * 4);
    net->moments = take(buffer, &used, rows * 2); // mean and 1 / deviation of each row
    net->lse = take(buffer, &used, rows * (size_t)net->heads);
    return used;
}

static KinditStatus open_products(Dinov2 *net, const VisionNetwork *network) {
    KinditContext *ctx = network->ctx;
    Engine *engine = network->engine;
    const int width = net->width, n_patches = net->grid * net->grid;
    TRY(dense_open(&net->patch_product, ctx, engine, n_patches, 3 * net->patch * net->patch, width, false));
    for (int part = 0; part < N_PARTS; part++)
        if (parts[part].columns)
            TRY(dense_open(&net->products[part], ctx, engine, net->tokens, parts[part].columns * width,
                           parts[part].rows * width, part == FC1_W));
    return KINDIT_OK;
}

static KinditStatus reserve(Reader *r) {
    Dinov2 *net = r->net;
    Engine *engine = r->network->engine;
    const size_t width = (size_t)net->width, n_patch = width * 3 * (size_t)net->patch * (size_t)net->patch;
    const size_t n_table = (1 + (size_t)net->table_grid * (size_t)net->table_grid) * width;
    size_t largest = 4 * width * width;
    if (n_patch > largest) largest = n_patch;
    if (n_table > largest) largest = n_table;
    const int threads = engine_threads(engine);
    net->batch = (BATCH + threads - 1) / threads * threads;
    TRY(open_products(net, r->network));
    TRY(engine_alloc(engine, cut_weights(net, NULL), &net->weights));
    TRY(engine_alloc(engine, cut_work(net, NULL), &net->work));
    TRY(engine_alloc(engine, n_patch > 4 * width * width ? n_patch : 4 * width * width, &r->matrix));
    TRY(engine_reserve(engine,
                       engine_attention_scratch(threads, net->batch, net->tokens, net->width, net->heads, false)));
    cut_weights(net, net->weights);
    cut_work(net, net->work);
    return memory_alloc(r->network->ctx, largest, sizeof *r->staging, &r->staging);
}

// Headers first: then the file bounds the memory that is asked for.
static KinditStatus read_file(Reader *r, const Safetensors *file) {
    TRY(find_sizes(r->net, r->network->ctx, file));
    TRY(weights_begin(&r->weights, r->network->ctx, file));
    TRY(read_all(r));
    TRY(reserve(r));
    return read_all(r);
}

static bool dinov2_recognise(const Safetensors *file) {
    return (safetensors_find(file, names_original.class_token) && safetensors_find(file, "blocks.0.ls1.gamma")) ||
           safetensors_find(file, names_transformers.class_token);
}

static KinditStatus dinov2_open(VisionNetwork *network, const Safetensors *file) {
    Dinov2 *net;
    TRY(memory_alloc(network->ctx, 1, sizeof *net, &net));
    network->state = net;
    net->names = safetensors_find(file, names_original.class_token) ? &names_original : &names_transformers;
    Reader reader = {.network = network, .net = net};
    KinditStatus status = read_file(&reader, file);
    weights_end(&reader.weights);
    memory_free(&reader.staging);
    engine_free(network->engine, &reader.matrix);
    snprintf(net->name, sizeof net->name, "dinov2-%dx%d/%d", net->width, net->depth, net->patch);
    network->info = (VisionInfo){.name = net->name,
                                 .channels = 3,
                                 .input_size = INPUT_SIZE,
                                 .n_features = net->width,
                                 .profile = PROFILE_DGM_EVAL};
    return status;
}

static void dinov2_close(VisionNetwork *network) {
    Dinov2 *net = network->state;
    if (!net) return;
    dense_close(&net->patch_product);
    for (int part = 0; part < N_PARTS; part++) dense_close(&net->products[part]);
    engine_free(network->engine, &net->weights);
    engine_free(network->engine, &net->work);
    memory_free(&network->state);
}

// ---- running -------------------------------------------------------------------------------------------------------

// x (n * tokens, D): the class token and the patches, each at its position.
static KinditStatus embed(const Dinov2 *net, Engine *engine, int n) {
    const int n_patches = net->grid * net->grid;
    const size_t width = (size_t)net->width;
    engine_patchify(engine, n, 3, INPUT_SIZE, net->patch, net->pixels, net->patches);
    TRY(dense_run(net->patch_product, n, net->patches, net->patch_w, net->patch_b, net->branch));
    for (int i = 0; i < n; i++) {
        float *sample = net->x + (size_t)i * (size_t)net->tokens * width;
        engine_zero(engine, sample, width);
        engine_copy(engine, sample + width, net->branch + (size_t)i * (size_t)n_patches * width,
                    (size_t)n_patches * width);
    }
    engine_add_position(engine, n, net->tokens, net->width, net->position, net->x);
    return KINDIT_OK;
}

static KinditStatus run_product(const Dinov2 *net, int n, int block, int part, const float *x, float *y) {
    return dense_run(net->products[part], n, x, net->blocks[block][part], net->blocks[block][part + 1], y);
}

// x += scale * branch, and `normed` of it for what comes next.
static void add_branch(const Dinov2 *net, Engine *engine, int n, const float *scale, const float *norm_w,
                       const float *norm_b) {
    engine_residual_norm_forward(engine, n, net->tokens, net->width, net->x, activation_f32(net->branch), scale, 0,
                                 net->x, norm_b, norm_w, 0, norm_eps, activation_f32(net->normed), net->moments,
                                 net->moments + (size_t)net->batch * (size_t)net->tokens);
}

static KinditStatus run_block(const Dinov2 *net, Engine *engine, int n, int block) {
    float *const *part = net->blocks[block];
    const bool last = block + 1 == net->depth;
    const int width = net->width;
    const Activation qkv = activation_f32(net->wide);
    TRY(run_product(net, n, block, QKV_W, net->normed, net->wide));
    engine_attention_forward(engine, n, net->tokens, width, net->heads, 3 * width, qkv,
                             activation_at(qkv, (size_t)width), activation_at(qkv, 2 * (size_t)width),
                             activation_f32(net->normed), net->lse);
    TRY(run_product(net, n, block, PROJ_W, net->normed, net->branch));
    add_branch(net, engine, n, part[SCALE1], part[NORM2_W], part[NORM2_B]);
    TRY(run_product(net, n, block, FC1_W, net->normed, net->wide));
    TRY(run_product(net, n, block, FC2_W, net->wide, net->branch));
    add_branch(net, engine, n, part[SCALE2], last ? net->norm_w : net->blocks[block + 1][NORM1_W],
               last ? net->norm_b : net->blocks[block + 1][NORM1_B]);
    return KINDIT_OK;
}

// The tokens after the embedding (block -1) or a block, (tokens, D).
static KinditStatus visit_tokens(const VisionNetwork *network, const VisionOutput *out, int block) {
    const Dinov2 *net = network->state;
    const size_t n = (size_t)net->tokens * (size_t)net->width;
    char name[NAME_SIZE] = "embeddings";
    float *values;
    if (!out->visit) return KINDIT_OK;
    if (block >= 0) snprintf(name, sizeof name, "block.%d", block);
    TRY(memory_alloc(network->ctx, n, sizeof *values, &values));
    engine_download(network->engine, values, net->x, n);
    out->visit(out->user, name, n, values);
    memory_free(&values);
    return KINDIT_OK;
}

static KinditStatus run_batch(const VisionNetwork *network, int n, const VisionOutput *out, float *features) {
    const Dinov2 *net = network->state;
    Engine *engine = network->engine;
    const size_t width = (size_t)net->width;
    TRY(embed(net, engine, n));
    TRY(visit_tokens(network, out, -1));
    engine_norm_modulate_forward(engine, n, net->tokens, net->width, net->x, net->blocks[0][NORM1_B],
                                 net->blocks[0][NORM1_W], 0, norm_eps, activation_f32(net->normed), net->moments,
                                 net->moments + (size_t)net->batch * (size_t)net->tokens);
    for (int block = 0; block < net->depth; block++) {
        TRY(run_block(net, engine, n, block));
        TRY(visit_tokens(network, out, block));
    }
    for (int i = 0; i < n && features; i++)
        engine_download(engine, features + (size_t)i * width, net->normed + (size_t)i * (size_t)net->tokens * width,
                        width);
    return KINDIT_OK;
}

static KinditStatus dinov2_run(VisionNetwork *network, const float *images, int n, const VisionOutput *out) {
    const Dinov2 *net = network->state;
    const size_t n_pixels = (size_t)3 * INPUT_SIZE * INPUT_SIZE;
    if (!out->features && !out->visit) return KINDIT_OK;
    for (int first = 0; first < n; first += net->batch) {
        const int count = n - first < net->batch ? n - first : net->batch;
        engine_upload(network->engine, net->pixels, images + (size_t)first * n_pixels, (size_t)count * n_pixels);
        float *features = out->features ? out->features + (size_t)first * (size_t)net->width : NULL;
        TRY(run_batch(network, count, out, features));
    }
    return KINDIT_OK;
}

const VisionKind vision_dinov2 = {
    .name = "DINOv2",
    .recognise = dinov2_recognise,
    .open = dinov2_open,
    .run = dinov2_run,
    .close = dinov2_close,
};
