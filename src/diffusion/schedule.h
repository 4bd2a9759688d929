// The noise schedule: linear beta from 1e-4 to 0.02 in 1000 steps, in double (Ho et al. 2020; Improved DDPM's
// respacing).
#ifndef DIFFUSION_SCHEDULE_H
#define DIFFUSION_SCHEDULE_H

#include "base/json.h"

// All arrays have n entries. A respaced schedule keeps the original timestep of each in `timestep`.
typedef struct Schedule {
    int n;
    int *timestep;
    double *beta, *alpha_bar, *alpha_bar_prev;
    double *posterior_variance, *posterior_log_variance; // the latter clipped: entry 0 takes entry 1's
    double *mean_x0, *mean_xt;                           // posterior mean = mean_x0 x0 + mean_xt x_t
    void *block;
} Schedule;

// n_steps >= 1 betas, evenly from first to last; refused when they leave no signal to divide by (alpha_bar below
// 1e-30).
KinditStatus schedule_create(Schedule *out, KinditContext *ctx, int n_steps, double beta_first, double beta_last);
// What a model's config says it was trained with, in "training"; where it says nothing, 1000 steps from 1e-4 to 0.02.
KinditStatus schedule_read_config(KinditContext *ctx, const cJSON *config, int *n_steps, double *beta_first,
                                  double *beta_last);
// Keeps `n_steps` of the timesteps: evenly, as guided-diffusion's space_timesteps with one section ("ddim" false) or
// "ddimN" (true: the first integer stride giving exactly N, an argument error when there is none), betas recomputed
// from the kept alpha_bar.
KinditStatus schedule_respace(Schedule *out, KinditContext *ctx, const Schedule *full, int n_steps, bool ddim_stride);
void schedule_close(Schedule *schedule);

#endif
