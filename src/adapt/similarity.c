#include "adapt/similarity.h"

#include <math.h>

#include "base/memory.h"

typedef struct Centred {
    Engine *engine;
    int rows, width;
    float *host;    // (rows, width)
    float *x, *y;   // (rows, width) engine memory
    float *product; // (width, width) engine memory
} Centred;

static KinditStatus centred_open(Centred *c, KinditContext *ctx) {
    const size_t rows = (size_t)c->rows, width = (size_t)c->width;
    TRY(memory_alloc(ctx, rows * width, sizeof *c->host, &c->host));
    TRY(engine_alloc(c->engine, rows * width, &c->x));
    TRY(engine_alloc(c->engine, rows * width, &c->y));
    TRY(engine_alloc(c->engine, width * width, &c->product));
    return engine_reserve(c->engine, engine_linear_scratch(c->rows, c->width, c->width));
}

static void centred_close(Centred *c) {
    memory_free(&c->host);
    engine_free(c->engine, &c->x);
    engine_free(c->engine, &c->y);
    engine_free(c->engine, &c->product);
}

// Means in double and on the host: those of a residual stream can be far larger than what varies about them.
static void centre(Centred *c, const float *from, float *to) {
    const size_t rows = (size_t)c->rows, width = (size_t)c->width;
    engine_download(c->engine, c->host, from, rows * width);
    for (size_t j = 0; j < width; j++) {
        double sum = 0;
        for (size_t i = 0; i < rows; i++) sum += c->host[i * width + j];
        const double mean = sum / (double)rows;
        for (size_t i = 0; i < rows; i++) c->host[i * width + j] = (float)(c->host[i * width + j] - mean);
    }
    engine_upload(c->engine, to, c->host, rows * width);
}

// || b^T a ||_F^2: the gradient of a linear layer's weight is that product.
static double cross(Centred *c, const float *a, const float *b) {
    const size_t n = (size_t)c->width * (size_t)c->width;
    engine_zero(c->engine, c->product, n);
    engine_linear_backward(c->engine, c->rows, c->width, c->width, activation_f32(a), NULL, activation_f32(b),
                           (Activation){0}, false, c->product, NULL);
    return engine_sum_squares(c->engine, n, c->product);
}

KinditStatus similarity_cka(double *out, KinditContext *ctx, Engine *engine, int rows, int width, const float *x,
                            const float *y) {
    Centred c = {.engine = engine, .rows = rows, .width = width};
    KinditStatus status = centred_open(&c, ctx);
    if (!status) {
        centre(&c, x, c.x);
        centre(&c, y, c.y);
        const double of_x = cross(&c, c.x, c.x), of_y = cross(&c, c.y, c.y);
        *out = of_x > 0 && of_y > 0 ? cross(&c, c.x, c.y) / sqrt(of_x * of_y) : 0;
    }
    centred_close(&c);
    return status;
}
