// Any set of tensors as a frozen network's file. The input lists them, "NAME TYPE DIMS..." a line, and they are all
// zeros; after "kindit " a line is what such a file says of itself. Or the input is a file of torch.save as it stands.
// What opens must run an image.
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "formats/torch_file.h"
#include "vision/vision.h"

enum { MOST_TENSORS = 512, MOST_BYTES = 4 << 20 };

static KinditContext *ctx;
static Engine *engine;
static char path[] = "/dev/shm/kindit-fuzz-XXXXXX"; // files are synced

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

// False for a line that is no tensor, or one too large for what is left of `room`.
static bool read_tensor(char *line, size_t *room, Tensor *out) {
    static const uint8_t zeros[MOST_BYTES];
    char *rest, *type;
    *out = (Tensor){.name = strtok_r(line, " ", &rest), .data = zeros};
    if (!out->name || !(type = strtok_r(NULL, " ", &rest))) return false;
    while (out->dtype < DTYPE_U8 && strcmp(type, dtype_name(out->dtype)) != 0) out->dtype++;
    for (char *dim; out->n_dims < TENSOR_MAX_DIMS && (dim = strtok_r(NULL, " ", &rest));)
        out->shape[out->n_dims++] = strtoll(dim, NULL, 10);
    if (tensor_measure(out, ctx, path) || out->n_bytes > *room) return false;
    *room -= out->n_bytes;
    return true;
}

static KinditStatus write_listed(char *text) {
    static Tensor tensors[MOST_TENSORS];
    const char *metadata[1][2] = {{"kindit", NULL}};
    size_t room = MOST_BYTES;
    int n = 0;
    char *rest;
    for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        if (strncmp(line, "kindit ", 7) == 0)
            metadata[0][1] = line + 7;
        else if (n < MOST_TENSORS && read_tensor(line, &room, &tensors[n]))
            n++;
    }
    return safetensors_write(ctx, path, tensors, n, metadata, metadata[0][1] != NULL);
}

static void open_and_run(void) {
    VisionNetwork *network;
    if (vision_open(&network, ctx, engine, path)) return;
    const VisionInfo *info = vision_info(network);
    const size_t n_pixels = (size_t)info->channels * (size_t)info->input_size * (size_t)info->input_size;
    float *image, *features;
    if (memory_alloc(ctx, n_pixels, sizeof *image, &image)) abort();
    if (memory_alloc(ctx, (size_t)info->n_features, sizeof *features, &features)) abort();
    KinditStatus status = vision_run(network, image, 1, &(VisionOutput){.features = features});
    if (status && status != KINDIT_ERROR_NUMERIC) abort();
    memory_free(&features);
    memory_free(&image);
    vision_close(&network);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const KinditContextSettings settings = {.threads = 1};
    char *text;
    if (!ctx) {
        const int descriptor = mkstemp(path);
        if (descriptor < 0 || kindit_context_create(&ctx, &settings) || engine_create(&engine, ctx)) abort();
        close(descriptor);
    }
    if (memory_alloc(ctx, size + 1, 1, &text)) abort();
    memcpy(text, data, size);
    const KinditStatus status =
        torch_file_recognise(data, size) ? file_write(ctx, path, data, size) : write_listed(text);
    memory_free(&text);
    if (!status) open_and_run();
    return 0;
}
