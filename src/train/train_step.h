// One optimiser step, piece by piece: gradients to zero, micro-batches accumulated, one update. The trainer drives it
// with samples of the loader; `kindit debug grad` and the comparisons with other implementations with numbers from a
// file.
//
//     train_step_begin(&step);
//     for (each micro-batch) train_step_accumulate(&step, x0, noise, t, labels, n, weight);
//     norm = train_step_gradient_norm(&step);         // is it finite?
//     train_step_update(&step, &optimizer, lr);
//
// Of a classifier train_step_classify takes the place of train_step_accumulate.
//
// Gradients lie in step.dshared (params_gradient's places, engine memory) and, for the class c whose slot is
// s = step.gate.class_slot[c] >= 0, in step.gate.dtailor[s] (layout->n_tailor floats).
#ifndef TRAIN_TRAIN_STEP_H
#define TRAIN_TRAIN_STEP_H

#include "diffusion/loss.h"
#include "kind/gate.h"
#include "model/model_file.h"
#include "train/optimizer.h"

// What a job may add to the loss: how far the model's stream is from where it should be (dit.h: DitTargets).
typedef struct TrainGuide {
    void *data;
    // [depth] where the stream should be for this batch after each block, NULL where anywhere; valid until the next
    // call.
    const float *const *(*aim)(void *data, const DitBatch *batch);
    float weight; // of the errors, summed over the blocks
    double flops; // of aim, for one image
} TrainGuide;

typedef struct TrainStep {
    Model *model;             // borrowed: its weights are what is trained
    const Schedule *schedule; // borrowed; NULL: a classifier, which also lacks `diffusion`, xt, t and t_host
    int batch;                // samples of a micro-batch at most
    bool with_vlb;            // the model has learned sigma: mse + vlb; otherwise mse alone
    DitWorkspace *workspace;
    ClassGate gate;           // all tailors opened in this step, and their gradients
    struct MicroGate {        // those among them that one micro-batch names, in slots of its own
        Gate gate;            // handed to the model
        int *slot, *of_step;  // [batch] slot of each sample; [gate.max_slots] slot here of each slot of the step, or -1
        const float **tailor; // [batch]
        float **dtailor;      // [batch]
    } micro;
    DiffusionBatch diffusion;
    float *xt, *output, *doutput; // (batch, C, S, S), and what the model puts out twice; engine memory
    float *t;                     // (batch) engine memory
    float *t_host;                // (batch)
    union {                       // (batch) host: two numbers of each sample of the last micro-batch
        float *terms[2];
        struct {
            float *mse, *vlb; // vlb is 0 without learned sigma
        };
        struct {
            float *cross_entropy, *correct; // correct: 1 where the label has the largest logit, else 0
        };
    };
    const TrainGuide *guide; // borrowed; NULL: none, as after train_step_create
    float *distance;         // (batch) host: of each sample of the last micro-batch, what the guide adds; 0 without one
    int *best;               // (batch) a classifier's classes
    float *dshared;          // (params_trained) gradient of the shared vector, engine memory
} TrainStep;

// Reserves all that steps of `accumulate` micro-batches of up to `batch` samples need; what follows allocates nothing.
// `mode` says how the model's pass computes; it is one of training whatever mode.training says. schedule: NULL for a
// classifier. On failure nothing is held.
KinditStatus train_step_create(TrainStep *out, Model *model, const Schedule *schedule, int batch, int accumulate,
                               DitMode mode);
void train_step_close(TrainStep *step);
// Bytes of engine memory that train_step_create takes apart from activations and scratch: gradients, then buffers.
void train_step_count(const Dit *dit, int batch, int accumulate, size_t *gradient_bytes, size_t *buffer_bytes);

// Forgets the gradients and the open tailors of the step before.
void train_step_begin(TrainStep *step);
// Forward alone of n <= batch samples: `batch` is what the model was given, in the step's memory, step->output what it
// gave. Arguments as below.
void train_step_forward(TrainStep *step, const float *x0, const float *noise, const int *t, const int *labels, int n,
                        DitBatch *batch);
// Forward, loss and backward of n <= batch samples: x0 and noise (n, C, S, S) in engine memory, t (indices into the
// schedule) and labels (class index, n_classes = null) host. Adds weight * d(mean over the n samples of mse + vlb +
// distance) to the gradients: weight n / (samples of the whole step) gives the gradient of the step's mean.
void train_step_accumulate(TrainStep *step, const float *x0, const float *noise, const int *t, const int *labels, int n,
                           float weight);
// The loss alone, of a step of its own: mse and vlb of n <= batch samples, given as above.
void train_step_measure(TrainStep *step, const float *x0, const float *noise, const int *t, const int *labels, int n);
// The same as train_step_accumulate for a classifier, by the mean cross-entropy of images x (n, C, S, S) in engine
// memory with these labels.
void train_step_classify(TrainStep *step, const float *x, const int *labels, int n, float weight);
// Euclidean norm of the whole gradient; not finite when any part of it is not.
double train_step_gradient_norm(const TrainStep *step);
// AdamW and EMA with this learning rate on what was accumulated.
void train_step_update(TrainStep *step, Optimizer *optimizer, double lr);

#endif
