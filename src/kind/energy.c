#include "kind/energy.h"

#include <stdlib.h>

// ---- measuring -----------------------------------------------------------------------------------------------------

static double sum_squares(const float *x, size_t n) {
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += (double)x[i] * (double)x[i];
    return sum;
}

// out[0..n-1] = the squared energies of n components of one factored layer; which of the vectors: `shared` or a tailor.
static void measure_components(const Linear *linear, const float *host, bool shared, int n, double *out) {
    const ParamSpec *specs = linear->layout->specs;
    const ParamSpec *u = &specs[linear->param[FACTORED_U]], *s = &specs[linear->param[FACTORED_S]],
                    *v = &specs[linear->param[FACTORED_V]];
    const float *U = host + (shared ? u->shared_offset : u->tailor_offset),
                *S = host + (shared ? s->shared_offset : s->tailor_offset),
                *V = host + (shared ? v->shared_offset : v->tailor_offset);
    for (int k = 0; k < n; k++)
        out[k] = sum_squares(S + k, 1) * sum_squares(U + (size_t)k * u->row, u->row) *
                 sum_squares(V + (size_t)k * v->row, v->row);
}

// Of the shared vector (c < 0) or of class c's tailor.
static void measure_vector(Energy *energy, const Model *model, int c, float *host) {
    const Dit *dit = model->dit;
    const bool shared = c < 0;
    const int n = shared ? energy->n_learngene : energy->n_tailor;
    double *out = shared ? energy->learngene : energy->tailor + (size_t)c * (size_t)energy->n_matrices * (size_t)n;
    engine_download(model->engine, host, shared ? model->params.shared : model->params.tailor[c],
                    shared ? dit->layout.n_shared : dit->layout.n_tailor);
    for (int i = 0; i < dit->n_linears; i++) {
        if (dit->linears[i]->kind != &linear_factored) continue;
        measure_components(dit->linears[i], host, shared, n, out);
        out += n;
    }
}

static KinditStatus measure(Energy *energy, const Model *model) {
    const ParamLayout *layout = &model->dit->layout;
    const size_t n_matrices = (size_t)energy->n_matrices, n_classes = (size_t)energy->n_classes;
    float *host;
    TRY(memory_alloc(model->ctx, n_matrices * (size_t)energy->n_learngene, sizeof(double), &energy->learngene));
    TRY(memory_alloc(model->ctx, n_classes * n_matrices, (size_t)energy->n_tailor * sizeof(double), &energy->tailor));
    TRY(memory_alloc(model->ctx, layout->n_shared > layout->n_tailor ? layout->n_shared : layout->n_tailor,
                     sizeof *host, &host));
    for (int c = -1; c < energy->n_classes; c++) measure_vector(energy, model, c, host);
    memory_free(&host);
    return KINDIT_OK;
}

KinditStatus energy_measure(Energy *out, const Model *model) {
    const DitConfig *config = &model->dit->config;
    *out = (Energy){
        .n_learngene = config->n_learngene, .n_tailor = config->n_tailor, .n_classes = model->params.n_classes};
    for (int i = 0; i < model->dit->n_linears; i++) out->n_matrices += model->dit->linears[i]->kind == &linear_factored;
    KinditStatus status = measure(out, model);
    if (status) energy_close(out);
    return status;
}

void energy_close(Energy *energy) {
    memory_free(&energy->learngene);
    memory_free(&energy->tailor);
    *energy = (Energy){0};
}

// ---- ranking -------------------------------------------------------------------------------------------------------

typedef struct Ranked {
    double square;
    int index;
} Ranked;

static int compare_strength(const void *a, const void *b) {
    const Ranked *x = a, *y = b;
    if (x->square != y->square) return x->square < y->square ? 1 : -1;
    return x->index < y->index ? -1 : 1;
}

static int compare_ints(const void *a, const void *b) {
    return *(const int *)a - *(const int *)b;
}

static void rank(const double *squares, int n, Ranked *ranked) {
    for (int k = 0; k < n; k++) ranked[k] = (Ranked){squares[k], k};
    qsort(ranked, (size_t)n, sizeof *ranked, compare_strength);
}

KinditStatus energy_choose(KinditContext *ctx, const double *squares, int n, int n_kept, int *kept) {
    Ranked *ranked;
    TRY(memory_alloc(ctx, (size_t)n, sizeof *ranked, &ranked));
    rank(squares, n, ranked);
    for (int k = 0; k < n_kept; k++) kept[k] = ranked[k].index;
    qsort(kept, (size_t)n_kept, sizeof *kept, compare_ints);
    memory_free(&ranked);
    return KINDIT_OK;
}

// ---- losses --------------------------------------------------------------------------------------------------------

// losses[k] += share of the sum of squares in all but the k strongest / n_matrices, k = 0 .. n; of each matrix.
static void add_losses(const double *squares, int n_matrices, int n, Ranked *ranked, double *losses) {
    for (int m = 0; m < n_matrices; m++, squares += n) {
        double sum = 0, tail = 0;
        for (int k = 0; k < n; k++) sum += squares[k];
        if (sum <= 0) continue; // a matrix of zeros loses nothing
        rank(squares, n, ranked);
        for (int k = n - 1; k >= 0; k--) {
            tail += ranked[k].square;
            losses[k] += tail / sum / n_matrices;
        }
    }
}

KinditStatus energy_losses(EnergyLoss *out, KinditContext *ctx, const Energy *energy) {
    *out = (EnergyLoss){0};
    const int n_g = energy->n_learngene, n_t = energy->n_tailor, n_matrices = energy->n_matrices;
    const size_t n_losses = (size_t)n_t + 1, n_squares = (size_t)n_matrices * (size_t)n_t;
    Ranked *ranked = NULL;
    KinditStatus status = memory_alloc(ctx, (size_t)n_g + 1, sizeof(double), &out->learngene);
    if (!status) status = memory_alloc(ctx, (size_t)energy->n_classes, n_losses * sizeof(double), &out->tailor);
    if (!status) status = memory_alloc(ctx, (size_t)(n_g > n_t ? n_g : n_t), sizeof *ranked, &ranked);
    if (!status) {
        add_losses(energy->learngene, n_matrices, n_g, ranked, out->learngene);
        for (size_t c = 0; c < (size_t)energy->n_classes; c++)
            add_losses(energy->tailor + c * n_squares, n_matrices, n_t, ranked, out->tailor + c * n_losses);
    }
    memory_free(&ranked);
    if (status) energy_losses_close(out);
    return status;
}

void energy_losses_close(EnergyLoss *losses) {
    memory_free(&losses->learngene);
    memory_free(&losses->tailor);
    *losses = (EnergyLoss){0};
}
