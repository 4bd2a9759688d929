// Samplers: DDPM ancestral (respaced) and DDIM, with classifier-free guidance. Image i depends on the seed and i alone:
// not on the batch it is drawn in, nor on the thread count.
#ifndef DIFFUSION_SAMPLER_H
#define DIFFUSION_SAMPLER_H

#include "diffusion/schedule.h"
#include "kind/gate.h"
#include "model/tailor_hold.h"

typedef enum SamplerMethod { SAMPLER_DDPM, SAMPLER_DDIM } SamplerMethod;
typedef enum GuidanceChannels { GUIDANCE_FIRST_3, GUIDANCE_ALL } GuidanceChannels; // of epsilon; DiT's code guides 3

typedef struct SamplerSettings {
    SamplerMethod method;
    int steps;       // 1 to the steps of the schedule that the model was trained with
    double eta;      // DDIM: 0 deterministic
    double guidance; // w; 1 = no guidance, and no unconditional half is computed
    GuidanceChannels guided;
    bool clip;            // predicted x0 to [-1, 1]: pixels yes, latents no
    bool no_tailors;      // every tailor shut: the learngene alone, each label's row replaced by the null row
    bool keep_label_rows; // with no_tailors: tailors' components shut, but class label rows kept (Figure 7's second
                          // form)
    uint64_t seed;
    int batch;   // images at once; it changes no image
    bool frugal; // weights are packed for the kernels at each use, not once: slower, the learngene is in memory once
    bool bf16;   // activations in bf16
    bool int8;   // blocks' products of 8-bit integers, where the processor multiplies such
} SamplerSettings;
SamplerSettings sampler_settings_from(const KinditSampleSettings *settings); // what the public ones say of it
SamplerSettings sampler_settings_default(void); // DDPM 250, eta 0, guidance 1.5 on all, clip, batch 64

// The schedule that the model was trained with, as its config says; DiT's where it says nothing.
KinditStatus sampler_schedule(Schedule *out, const Model *model);

// Images first .. first + n - 1 of the run: labels[i] (n_classes = null), out (n, C, S, S) host. Progress and
// cancellation through the context.
KinditStatus sampler_run(const Model *model, const SamplerSettings *settings, int64_t first, int n, const int *labels,
                         float *out);
// The same from a given x_T (host, (n, C, S, S)), writing every intermediate x to `trajectory` (steps, n, C, S, S) when
// not NULL; DDPM noise comes from noise (steps, n, C, S, S) when not NULL. For checking against other implementations.
KinditStatus sampler_run_from(const Model *model, const SamplerSettings *settings, int n, const int *labels,
                              const float *start, const float *noise, float *trajectory, float *out);

// float [-1, 1] (n, C, S, S) to uint8 (n, S, S, C): round(127.5 x + 127.5) clamped, as ADM.
void sampler_to_pixels(const float *images, int n, int channels, int size, uint8_t *out);

#endif
