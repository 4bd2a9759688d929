// A small model with an engine in a scratch folder, and its parts; for tests of taking apart and putting together.
#ifndef TESTS_KIND_FIXTURE_H
#define TESTS_KIND_FIXTURE_H

#include "kind/decompose.h"
#include "model/models.h"

typedef struct Fixture {
    Scratch *scratch;
    KinditContext *ctx;
    Engine *engine;
    Model *model;                  // as it was made
    char parts[1024], whole[1024]; // paths, "" until written: taken apart, and in one piece
    char out[1024];                // where a test may write a file
} Fixture;

static inline Fixture fixture_open(void **state, bool factored) {
    Fixture f = {.scratch = *state};
    f.ctx = f.scratch->ctx;
    assert_ok(f.ctx, engine_create(&f.engine, f.ctx));
    strcpy(f.out, scratch_path(f.scratch, "out.safetensors"));
    DitConfig config = models_config(factored);
    f.model = models_create(f.ctx, f.engine, &config);
    return f;
}

static inline void fixture_close(Fixture *f) {
    model_close(&f->model);
    engine_close(&f->engine);
}

// The model taken apart in "parts" ...
static inline Fixture fixture_open_parts(void **state) {
    Fixture f = fixture_open(state, true);
    strcpy(f.parts, scratch_path(f.scratch, "parts"));
    assert_ok(f.ctx, decompose_write(f.model, f.ctx, f.parts, STORAGE_F32, false));
    return f;
}

// ... and beside it in `whole`, a folder or one file by its name.
static inline Fixture fixture_open_both(void **state, const char *whole) {
    Fixture f = fixture_open_parts(state);
    strcpy(f.whole, scratch_path(f.scratch, whole));
    assert_ok(f.ctx, model_write(f.model, f.whole, STORAGE_F32, false));
    return f;
}

#endif
