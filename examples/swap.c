// Several threads draw different classes of one model at once, each swapping tailors as it goes; the learngene is in
// memory once: examples/swap PARTS CLASS... (a decomposed folder, and the classes to draw, a thread each)
#include <kindit/kindit.h>
#include <pthread.h>
#include <stdio.h>

enum { MOST_THREADS = 16, ROUNDS = 3 };

typedef struct Worker {
    pthread_t thread;
    KinditContext *ctx;
    KinditModel *model; // this thread's handle on the learngene that all share
    const char *parts, **classes;
    int index, n_classes;
    double brightness[ROUNDS];
    KinditStatus status;
} Worker;

static KinditStatus measure(void *sum, const KinditImage *image) {
    int n = image->channels * image->size * image->size;
    for (int i = 0; i < n; i++) *(double *)sum += image->values[i] / (double)n;
    return KINDIT_OK;
}

// Round r of worker i draws class i + r: the tailor is added, drawn with, and dropped again.
static KinditStatus draw_round(Worker *w, int round) {
    const char *class_id = w->classes[(w->index + round) % w->n_classes];
    char path[1024];
    snprintf(path, sizeof path, "%s/tailors/%s.safetensors", w->parts, class_id);
    KinditSampleSettings settings = kindit_sample_settings_default();
    settings.sampler = KINDIT_DDIM, settings.steps = 4, settings.n_per_class = 2;
    KinditStatus status = kindit_model_add_tailor(w->model, path);
    if (!status) status = kindit_sample(w->model, &settings, measure, &w->brightness[round]);
    if (!status) status = kindit_model_drop_tailor(w->model, class_id);
    return status;
}

static void *work(void *data) {
    Worker *w = data;
    for (int round = 0; round < ROUNDS && !w->status; round++) w->status = draw_round(w, round);
    return NULL;
}

static KinditStatus start(Worker *w, const KinditModel *model) {
    KinditContextSettings settings = {.threads = 1}; // a thread of ours computes with itself alone
    KinditStatus status = kindit_context_create(&w->ctx, &settings);
    if (!status) status = kindit_model_share(&w->model, w->ctx, model);
    if (!status && pthread_create(&w->thread, NULL, work, w) != 0) status = KINDIT_ERROR_MEMORY;
    return status;
}

// What each drew; 0 when all went well.
static int finish(Worker *w, KinditStatus started) {
    if (!started) pthread_join(w->thread, NULL);
    KinditStatus status = started ? started : w->status;
    if (status) fprintf(stderr, "thread %d: %s\n", w->index, kindit_context_message(w->ctx));
    for (int round = 0; round < ROUNDS && !status; round++)
        printf("thread %d drew %s: brightness %.6f\n", w->index, w->classes[(w->index + round) % w->n_classes],
               w->brightness[round]);
    kindit_model_close(&w->model);
    kindit_context_close(&w->ctx);
    return status ? 1 : 0;
}

int main(int argc, char **argv) {
    int n = argc - 2, failed = 0;
    if (n < 1 || n > MOST_THREADS) return fprintf(stderr, "usage: %s PARTS CLASS...\n", argv[0]), 2;
    KinditContext *ctx = NULL;
    KinditModel *learngene = NULL;
    KinditStatus status = kindit_context_create(&ctx, NULL), started[MOST_THREADS];
    if (!status) status = kindit_model_open(&learngene, ctx, argv[1], ""); // no class yet
    if (status) fprintf(stderr, "%s\n", kindit_context_message(ctx));
    Worker workers[MOST_THREADS] = {0};
    for (int i = 0; i < n && !status; i++) {
        workers[i] = (Worker){.parts = argv[1], .classes = (const char **)argv + 2, .index = i, .n_classes = n};
        started[i] = start(&workers[i], learngene);
    }
    kindit_model_close(&learngene); // the threads' handles keep what they share
    for (int i = 0; i < n && !status; i++) failed |= finish(&workers[i], started[i]);
    kindit_context_close(&ctx);
    return status ? 1 : failed;
}
