#include "model/tailor_store.h"

#include <pthread.h>
#include <string.h>

#include "model/model_params_file.h"
#include "model/tailor_file.h"

struct Tailor {
    Tailor *next;
    ModelClass class;
    char *path, sha256[65]; // of its file; the hash is "" for a class of a whole model's file, which stays open
    int index;              // of the class in a whole model's file, -1: a file of its own
    int owners, holds;      // handles that have the class; passes that compute with it
    float *vector;          // NULL: not in memory
    uint64_t last_held;
};

struct TailorStore {
    pthread_mutex_t lock;
    int references;
    KinditContext *ctx; // of its own, with the engine that the vectors are charged to: handles come and go
    Engine *engine;
    Dit *dit;            // the structure; classes do not count
    ParamSet params;     // the shared vector
    Safetensors weights; // a whole model's file stays open: its tailors are read from it
    int n_file_classes;
    char *config_path, *learngene_path, learngene_sha256[65];
    Tailor *tailors;
    int n_loaded, n_reserved;
    bool keep;
    uint64_t clock;
    size_t largest_file; // of the tailors added
};

// ---- open and close ------------------------------------------------------------------------------------------------

static KinditStatus copy_text(KinditContext *ctx, const char *text, char **out) {
    TRY(memory_alloc(ctx, strlen(text) + 1, 1, out));
    strcpy(*out, text);
    return KINDIT_OK;
}

// What fails in the store's own context is told in the caller's.
static KinditStatus tell(KinditContext *ctx, const TailorStore *store, KinditStatus status) {
    return status ? context_fail(ctx, status, "%s", kindit_context_message(store->ctx)) : status;
}

// What opening takes at its peak: the shared vector, and the larger of a tensor and what hashing has in memory.
static KinditStatus check_limit(const TailorStore *store, KinditContext *ctx, const ModelSource *source) {
    size_t vector = store->dit->layout.n_shared * sizeof(float), file = source->weights.map.size;
    size_t most = memory_resident() + (vector > file ? vector : file) + MODEL_PARAMS_STAGE_BYTES;
    if (ctx->settings.memory == 0 || most <= (size_t)ctx->settings.memory) return KINDIT_OK;
    return context_fail(ctx, KINDIT_ERROR_MEMORY,
                        "%.400s: a limit of %.1f MB of memory cannot be kept: opening it takes %.1f MB, and drawing "
                        "more",
                        source->weights.path, (double)ctx->settings.memory / 1e6, (double)most / 1e6);
}

static KinditStatus fill(TailorStore *store, KinditContext *ctx, ModelSource *source, const int *chosen, int n_chosen) {
    KinditContextSettings settings = {.threads = 1};
    DitConfig config = source->dit_config;
    char path[1024];
    TRY(file_path(path, ctx, "%s/config.json", source->folder));
    TRY(copy_text(ctx, source->folder[0] ? path : source->weights.path, &store->config_path));
    TRY(copy_text(ctx, source->weights.path, &store->learngene_path));
    strcpy(store->learngene_sha256, source->learngene_sha256);
    config.n_classes = config.factored ? 0 : n_chosen;
    store->n_file_classes = source->dit_config.n_classes;
    KinditStatus status = kindit_context_create(&store->ctx, &settings);
    if (status) return context_fail(ctx, status, "out of memory for a context");
    TRY(tell(ctx, store, engine_create(&store->engine, store->ctx)));
    TRY(tell(ctx, store, dit_create(&store->dit, store->ctx, &config)));
    TRY(model_source_check(source, ctx, store->dit, chosen, config.n_classes)); // before room is made for the weights
    TRY(check_limit(store, ctx, source));
    TRY(model_source_verify(source, ctx));
    TRY(tell(ctx, store, params_alloc(&store->params, store->engine, store->ctx, &store->dit->layout, 0)));
    return model_source_load_weights(source, ctx, store->dit, chosen, config.n_classes, &store->params);
}

KinditStatus tailor_store_create(TailorStore **out, KinditContext *ctx, ModelSource *source, const int *chosen,
                                 int n_chosen, bool keep) {
    TailorStore *store;
    *out = NULL;
    TRY(memory_alloc(ctx, 1, sizeof *store, &store));
    store->references = 1;
    store->keep = keep;
    pthread_mutex_init(&store->lock, NULL);
    KinditStatus status = fill(store, ctx, source, chosen, n_chosen);
    if (status) {
        tailor_store_leave(&store);
        return status;
    }
    if (source->form == MODEL_WHOLE) {
        store->weights = source->weights;
        source->weights = (Safetensors){0};
    }
    *out = store;
    return KINDIT_OK;
}

TailorStore *tailor_store_share(TailorStore *store) {
    pthread_mutex_lock(&store->lock);
    store->references++;
    pthread_mutex_unlock(&store->lock);
    return store;
}

void tailor_store_leave(TailorStore **store) {
    TailorStore *s = *store;
    if (!s) return;
    *store = NULL;
    pthread_mutex_lock(&s->lock);
    bool last = --s->references == 0;
    pthread_mutex_unlock(&s->lock);
    if (!last) return;
    safetensors_close(&s->weights);
    params_close(&s->params);
    if (s->dit) dit_close(&s->dit);
    engine_close(&s->engine);
    kindit_context_close(&s->ctx);
    memory_free(&s->config_path);
    memory_free(&s->learngene_path);
    pthread_mutex_destroy(&s->lock);
    memory_free(&s);
}

float *tailor_store_shared(const TailorStore *store) {
    return store->params.shared;
}

const char *tailor_store_learngene_sha256(const TailorStore *store) {
    return store->learngene_sha256;
}

size_t tailor_store_bytes(const TailorStore *store) {
    return store->dit->layout.n_tailor * sizeof(float);
}

size_t tailor_store_loading_bytes(TailorStore *store) {
    pthread_mutex_lock(&store->lock);
    size_t n = store->largest_file;
    pthread_mutex_unlock(&store->lock);
    return n + MODEL_PARAMS_STAGE_BYTES;
}

const ModelClass *tailor_class(const Tailor *tailor) {
    return &tailor->class;
}

const char *tailor_path(const Tailor *tailor) {
    return tailor->path;
}

// ---- in memory or not; the lock is held ----------------------------------------------------------------------------

static void unload(TailorStore *store, Tailor *tailor) {
    if (!tailor->vector) return;
    engine_free(store->engine, &tailor->vector);
    store->n_loaded--;
}

// Until no more than `most` are in memory, those not held for the longest time go.
static void make_room(TailorStore *store, int most) {
    while (!store->keep && store->n_loaded > most) {
        Tailor *oldest = NULL;
        for (Tailor *tailor = store->tailors; tailor; tailor = tailor->next)
            if (tailor->vector && !tailor->holds && (!oldest || tailor->last_held < oldest->last_held)) oldest = tailor;
        if (!oldest) return; // all are held, within what was reserved
        unload(store, oldest);
    }
}

// Opens the file of a tailor and checks that it is still the one that was added.
static KinditStatus open_again(const TailorStore *store, KinditContext *ctx, const Tailor *tailor, Safetensors *file) {
    TailorFit fit = {&store->dit->config, store->config_path, store->learngene_path, store->learngene_sha256};
    ModelClass class;
    char sha256[65];
    TRY(tailor_file_open(file, ctx, tailor->path, &fit, &class));
    file_sha256(file->map.data, file->map.size, sha256);
    if (strcmp(sha256, tailor->sha256) == 0) return KINDIT_OK;
    safetensors_close(file);
    return context_fail(ctx, KINDIT_ERROR_FORMAT, "%.400s: changed: sha256 is %s, but it was added with %s",
                        tailor->path, sha256, tailor->sha256);
}

// `file`: the tailor's, when it is open already.
static KinditStatus read_rows(TailorStore *store, KinditContext *ctx, Tailor *tailor, const Safetensors *file,
                              float *vector) {
    const ParamLayout *layout = &store->dit->layout;
    ParamSet params = {.engine = store->engine, .n_classes = 1, .tailor = &vector};
    ParamsRows rows = {.part = MODEL_PART_TAILOR, .class_table = -1};
    if (tailor->index >= 0) {
        rows = (ParamsRows){.part = MODEL_PART_WHOLE,
                            .n_classes = 1,
                            .n_file_classes = store->n_file_classes,
                            .classes = &tailor->index,
                            .tailors_only = true,
                            .class_table = -1};
        return model_params_load(&store->weights, ctx, layout, &rows, &params);
    }
    if (file) return model_params_load(file, ctx, layout, &rows, &params);
    Safetensors again;
    TRY(open_again(store, ctx, tailor, &again));
    KinditStatus status = model_params_load(&again, ctx, layout, &rows, &params);
    safetensors_close(&again);
    return status;
}

static KinditStatus load(TailorStore *store, KinditContext *ctx, Tailor *tailor, const Safetensors *file) {
    if (tailor->vector) return KINDIT_OK;
    float *vector;
    make_room(store, store->n_reserved - 1);
    TRY(tell(ctx, store, engine_alloc(store->engine, store->dit->layout.n_tailor, &vector)));
    KinditStatus status = read_rows(store, ctx, tailor, file, vector);
    if (status) {
        engine_free(store->engine, &vector);
        return status;
    }
    tailor->vector = vector;
    store->n_loaded++;
    return KINDIT_OK;
}

static KinditStatus hold(TailorStore *store, KinditContext *ctx, Tailor *tailor, const Safetensors *file) {
    TRY(load(store, ctx, tailor, file));
    tailor->holds++;
    tailor->last_held = ++store->clock;
    return KINDIT_OK;
}

static void release(TailorStore *store, Tailor *tailor) {
    tailor->holds--;
    make_room(store, store->n_reserved);
}

static void forget(TailorStore *store, Tailor *tailor) {
    Tailor **link = &store->tailors;
    while (*link != tailor) link = &(*link)->next;
    *link = tailor->next;
    unload(store, tailor);
    memory_free(&tailor->path);
    memory_free(&tailor);
}

// ---- holding -------------------------------------------------------------------------------------------------------

void tailor_store_reserve(TailorStore *store, int n) {
    pthread_mutex_lock(&store->lock);
    store->n_reserved += n;
    make_room(store, store->n_reserved);
    pthread_mutex_unlock(&store->lock);
}

KinditStatus tailor_store_hold(TailorStore *store, KinditContext *ctx, Tailor *tailor, float **out) {
    pthread_mutex_lock(&store->lock);
    KinditStatus status = hold(store, ctx, tailor, NULL);
    *out = tailor->vector;
    pthread_mutex_unlock(&store->lock);
    return status;
}

void tailor_store_release(TailorStore *store, Tailor *tailor) {
    pthread_mutex_lock(&store->lock);
    release(store, tailor);
    pthread_mutex_unlock(&store->lock);
}

int tailor_store_loaded(TailorStore *store) {
    pthread_mutex_lock(&store->lock);
    int n = store->n_loaded;
    pthread_mutex_unlock(&store->lock);
    return n;
}

// ---- coming and going ----------------------------------------------------------------------------------------------

static bool same_tailor(const Tailor *a, const Tailor *b) {
    return strcmp(a->class.id, b->class.id) == 0 && a->index == b->index && strcmp(a->sha256, b->sha256) == 0;
}

// Finds it, or makes it and reads it once. The lock is held.
static KinditStatus own(TailorStore *store, KinditContext *ctx, const Tailor *wanted, const Safetensors *file,
                        Tailor **out) {
    for (Tailor *tailor = store->tailors; tailor; tailor = tailor->next)
        if (same_tailor(tailor, wanted)) {
            tailor->owners++;
            *out = tailor;
            return KINDIT_OK;
        }
    Tailor *tailor;
    TRY(memory_alloc(ctx, 1, sizeof *tailor, &tailor));
    *tailor = *wanted;
    tailor->owners = 1;
    KinditStatus status = copy_text(ctx, file ? file->path : store->learngene_path, &tailor->path);
    tailor->next = store->tailors;
    store->tailors = tailor;
    if (!status) status = hold(store, ctx, tailor, file);
    if (status) {
        forget(store, tailor);
        return status;
    }
    release(store, tailor);
    *out = tailor;
    return KINDIT_OK;
}

// `file`: the tailor's, or NULL for a class of the whole model's file.
static KinditStatus own_locked(TailorStore *store, KinditContext *ctx, const Tailor *wanted, const Safetensors *file,
                               Tailor **out) {
    pthread_mutex_lock(&store->lock);
    if (file && file->map.size > store->largest_file) store->largest_file = file->map.size;
    KinditStatus status = own(store, ctx, wanted, file, out);
    pthread_mutex_unlock(&store->lock);
    return status;
}

KinditStatus tailor_store_add_class(TailorStore *store, KinditContext *ctx, const ModelSource *source, int c,
                                    Tailor **out) {
    Tailor wanted = {.class = source->classes[c], .index = c};
    *out = NULL;
    if (source->form == MODEL_WHOLE) return own_locked(store, ctx, &wanted, NULL, out);
    Safetensors file;
    wanted.index = -1;
    TRY(model_source_open_tailor(source, ctx, c, &file));
    KinditStatus status = model_source_verify_tailor(source, ctx, c, &file, wanted.sha256);
    if (!status) status = own_locked(store, ctx, &wanted, &file, out);
    safetensors_close(&file);
    return status;
}

KinditStatus tailor_store_add_file(TailorStore *store, KinditContext *ctx, const char *path, Tailor **out) {
    TailorFit fit = {&store->dit->config, store->config_path, store->learngene_path, store->learngene_sha256};
    Tailor wanted = {.index = -1};
    Safetensors file;
    *out = NULL;
    if (!store->learngene_sha256[0])
        return context_fail(ctx, KINDIT_ERROR_ARGUMENT,
                            "%.300s: a whole model does not say which tailors fit; open a decomposed folder or its "
                            "learngene to add %.300s",
                            store->learngene_path, path);
    TRY(tailor_file_open(&file, ctx, path, &fit, &wanted.class));
    file_sha256(file.map.data, file.map.size, wanted.sha256);
    KinditStatus status = own_locked(store, ctx, &wanted, &file, out);
    safetensors_close(&file);
    return status;
}

Tailor *tailor_store_again(TailorStore *store, Tailor *tailor) {
    pthread_mutex_lock(&store->lock);
    tailor->owners++;
    pthread_mutex_unlock(&store->lock);
    return tailor;
}

void tailor_store_drop(TailorStore *store, Tailor **tailor) {
    Tailor *t = *tailor;
    if (!t) return;
    *tailor = NULL;
    pthread_mutex_lock(&store->lock);
    if (--t->owners == 0) forget(store, t); // its owners' passes are over: a handle is one thread's
    pthread_mutex_unlock(&store->lock);
}
