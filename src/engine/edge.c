// DiT's edges: between images and patches, and the embeddings of position, time and label.
#include <math.h>

#include "engine/internal.h"
#include "engine/simd.h"

// ---- patches -------------------------------------------------------------------------------------------------------

// Where an element of sample b, patch (Y, X), channel c and place (y, x) inside the patch lies in a buffer: the sum of
// index times stride.
typedef struct PatchStrides {
    size_t b, Y, X, c, y, x;
} PatchStrides;

typedef struct PatchGrid {
    int batch, channels, patch, side; // side: patches per side
} PatchGrid;

static PatchGrid patch_grid(int batch, int channels, int size, int patch) {
    return (PatchGrid){batch, channels, patch, size / patch};
}

static PatchStrides image_strides(const PatchGrid *grid) {
    size_t p = (size_t)grid->patch, size = p * (size_t)grid->side;
    return (PatchStrides){(size_t)grid->channels * size * size, p * size, p, size * size, size, 1};
}

// Rows of patches; inside one, channels come first (c, y, x) or last (y, x, c).
static PatchStrides patch_strides(const PatchGrid *grid, bool channels_last) {
    size_t p = (size_t)grid->patch, side = (size_t)grid->side, C = (size_t)grid->channels, row = C * p * p;
    if (channels_last) return (PatchStrides){side * side * row, side * row, row, 1, p * C, C};
    return (PatchStrides){side * side * row, side * row, row, p * p, p, 1};
}

static void copy_patch(const PatchGrid *grid, const PatchStrides *in, const float *from, const PatchStrides *out,
                       float *to) {
    for (size_t c = 0; c < (size_t)grid->channels; c++)
        for (size_t y = 0; y < (size_t)grid->patch; y++)
            for (size_t x = 0; x < (size_t)grid->patch; x++)
                to[c * out->c + y * out->y + x * out->x] = from[c * in->c + y * in->y + x * in->x];
}

static void rearrange(Engine *engine, const PatchGrid *grid, PatchStrides in, const float *from, PatchStrides out,
                      float *to) {
    engine_profile_begin(engine);
    size_t side = (size_t)grid->side, rows = (size_t)grid->batch * side;
#pragma omp parallel for num_threads(engine->threads) schedule(static)
    for (size_t row = 0; row < rows; row++) {
        size_t b = row / side, Y = row % side;
        for (size_t X = 0; X < side; X++)
            copy_patch(grid, &in, from + b * in.b + Y * in.Y + X * in.X, &out, to + b * out.b + Y * out.Y + X * out.X);
    }
    engine_profile_end(engine, KERNEL_EDGE, 0, 8.0 * grid->batch * (double)in.b);
}

void engine_patchify(Engine *engine, int batch, int channels, int size, int patch, const float *image, float *patches) {
    PatchGrid grid = patch_grid(batch, channels, size, patch);
    rearrange(engine, &grid, image_strides(&grid), image, patch_strides(&grid, false), patches);
}

void engine_unpatchify(Engine *engine, int batch, int channels, int size, int patch, const float *patches,
                       float *image) {
    PatchGrid grid = patch_grid(batch, channels, size, patch);
    rearrange(engine, &grid, patch_strides(&grid, true), patches, image_strides(&grid), image);
}

void engine_unpatchify_backward(Engine *engine, int batch, int channels, int size, int patch, const float *dimage,
                                float *dpatches) {
    PatchGrid grid = patch_grid(batch, channels, size, patch);
    rearrange(engine, &grid, image_strides(&grid), dimage, patch_strides(&grid, true), dpatches);
}

// ---- position and time ---------------------------------------------------------------------------------------------

ENGINE_CLONES static void add_row(int width, const float *from, float *to) {
#pragma omp simd
    for (int i = 0; i < width; i++) to[i] += from[i];
}

void engine_add_position(Engine *engine, int batch, int tokens, int width, const float *position, float *x) {
    engine_profile_begin(engine);
    size_t rows = (size_t)batch * (size_t)tokens;
#pragma omp parallel for num_threads(engine->threads) schedule(static)
    for (size_t row = 0; row < rows; row++)
        add_row(width, position + row % (size_t)tokens * (size_t)width, x + row * (size_t)width);
    engine_profile_end(engine, KERNEL_EDGE, (double)rows * width, 8.0 * (double)rows * width);
}

// In double: the phase t f reaches 1000 radians, where a float is good for 3e-5 only.
void engine_timestep_features(Engine *engine, int batch, int n, int shift, const float *t, float *out) {
    engine_profile_begin(engine);
    const double max_period = 10000.0;
    int half = n / 2;
#pragma omp parallel for num_threads(engine->threads) schedule(static)
    for (int b = 0; b < batch; b++) {
        float *row = out + (size_t)b * (size_t)n;
        for (int i = 0; i < half; i++) {
            double phase = t[b] * pow(max_period, -(double)i / (half - shift));
            row[i] = (float)cos(phase);
            row[half + i] = (float)sin(phase);
        }
        if (n % 2) row[n - 1] = 0.0f;
    }
    engine_profile_end(engine, KERNEL_EDGE, 2.0 * batch * n, 4.0 * batch * n);
}

// ---- labels --------------------------------------------------------------------------------------------------------

// A few rows of (B, D): too little work for threads, and samples that share a row are then summed in their order.

void engine_label_forward(Engine *engine, int width, const Gate *gate, const float *null_row, size_t offset,
                          float *out) {
    engine_profile_begin(engine);
    for (int b = 0; b < gate->n_samples; b++) {
        int slot = gate->slot[b];
        add_row(width, slot < 0 ? null_row : gate->tailor[slot] + offset, out + (size_t)b * (size_t)width);
    }
    engine_profile_end(engine, KERNEL_EDGE, (double)gate->n_samples * width, 12.0 * gate->n_samples * width);
}

void engine_label_backward(Engine *engine, int width, const Gate *gate, const float *dout, float *dnull_row,
                           size_t offset) {
    engine_profile_begin(engine);
    for (int b = 0; b < gate->n_samples; b++) {
        int slot = gate->slot[b];
        float *tailor = slot >= 0 && gate->dtailor ? gate->dtailor[slot] : NULL;
        float *row = slot < 0 ? dnull_row : tailor ? tailor + offset : NULL;
        if (row) add_row(width, dout + (size_t)b * (size_t)width, row);
    }
    engine_profile_end(engine, KERNEL_EDGE, (double)gate->n_samples * width, 12.0 * gate->n_samples * width);
}

void engine_table_forward(Engine *engine, int batch, int width, const int *label, const float *table, float *out) {
    engine_profile_begin(engine);
    for (int b = 0; b < batch; b++)
        add_row(width, table + (size_t)label[b] * (size_t)width, out + (size_t)b * (size_t)width);
    engine_profile_end(engine, KERNEL_EDGE, (double)batch * width, 12.0 * batch * width);
}

void engine_table_backward(Engine *engine, int batch, int width, const int *label, const float *dout, float *dtable) {
    engine_profile_begin(engine);
    for (int b = 0; b < batch; b++)
        add_row(width, dout + (size_t)b * (size_t)width, dtable + (size_t)label[b] * (size_t)width);
    engine_profile_end(engine, KERNEL_EDGE, (double)batch * width, 12.0 * batch * width);
}
