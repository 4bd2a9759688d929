// kindit: decomposable diffusion transformers. The whole program:
//
//     KinditContext *ctx = NULL;
//     KinditModel *model = NULL;
//     KinditSampleSettings settings = kindit_sample_settings_default();
//     settings.classes = "A,B";                            // learngene + these two tailors, nothing else is read
//     settings.n_per_class = 8;
//     KinditStatus status = kindit_context_create(&ctx, NULL);
//     if (!status) status = kindit_model_open(&model, ctx, "letters/", settings.classes);
//     if (!status) status = kindit_sample_to_png(model, &settings, "grid.png");
//     if (status) fprintf(stderr, "%s\n", kindit_context_message(ctx));
//     kindit_model_close(&model);
//     kindit_context_close(&ctx);
//
// Conventions. Every function that can fail returns a KinditStatus; the context keeps a message that names the file,
// the tensor, what was expected and what was found. The library never exits, aborts or prints. `_create`/`_open` hand
// ownership to the caller; `_close(T **)` frees and nulls, and accepts NULL or a pointer to NULL. A context and what
// was opened with it belong to one thread at a time; different contexts are independent. Numbers are written and read
// in the C locale: a program that calls setlocale leaves LC_NUMERIC at "C".
#ifndef KINDIT_KINDIT_H
#define KINDIT_KINDIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define KINDIT_VERSION "0.1.0"

typedef enum KinditStatus {
    KINDIT_OK = 0,
    KINDIT_ERROR_ARGUMENT,    // the caller asked for something that cannot be
    KINDIT_ERROR_IO,          // the system refused to read or write
    KINDIT_ERROR_FORMAT,      // a file is not what it says it is
    KINDIT_ERROR_MEMORY,      // out of memory, or a size that overflows
    KINDIT_ERROR_UNSUPPORTED, // well-formed, but beyond this build
    KINDIT_ERROR_NUMERIC,     // NaN or infinity where a number must be
    KINDIT_CANCELLED          // the cancel callback said stop; what was promised to be kept is kept
} KinditStatus;

typedef enum KinditLogLevel { KINDIT_LOG_INFO = 0, KINDIT_LOG_WARNING = 1 } KinditLogLevel;

// What long work reports: `done` of `total` units, and a line of text such as "loss 0.123  812 images/s".
typedef struct KinditProgress {
    const char *task; // "pretrain", "sample", ...
    int64_t done, total;
    double seconds; // since the work began
    const char *text;
} KinditProgress;

typedef struct KinditContextSettings {
    int threads;    // 0: OMP_NUM_THREADS of the environment, or all processors
    int64_t memory; // bytes that opening and drawing may make resident, the whole process together: tailors then
                    // leave memory when no drawing needs them, and fewer images are drawn at once; 0: no limit
    void *user;     // handed to each callback
    void (*log)(void *user, KinditLogLevel level, const char *message);
    void (*progress)(void *user, const KinditProgress *progress);
    bool (*cancelled)(void *user); // polled between steps; true stops the work in an orderly way
} KinditContextSettings;

typedef struct KinditContext KinditContext;
typedef struct KinditModel KinditModel;

// All fields zero: every processor, no callbacks.
KinditContextSettings kindit_context_settings_default(void);

// Creates a context; `settings` may be NULL for the defaults and is copied. *out is owned by the caller.
KinditStatus kindit_context_create(KinditContext **out, const KinditContextSettings *settings);
void kindit_context_close(KinditContext **ctx);

// The message of the last failure, "" if none; valid until the next call with this context. Never NULL.
const char *kindit_context_message(const KinditContext *ctx);

// ---- models --------------------------------------------------------------------------------------------------------

// Opens a model: a folder, one .safetensors file, a checkpoint, or a decomposed folder with any subset of its tailors.
// `classes`: comma-separated ids or names, of which alone the tailors are read; NULL for all there are.
KinditStatus kindit_model_open(KinditModel **out, KinditContext *ctx, const char *path, const char *classes);
void kindit_model_close(KinditModel **model);

// Another handle on an open model, for another thread with a context of its own: the learngene, and each tailor in use,
// is in memory once. It starts with the classes that `model` has now; from then on each handle has its own. The handles
// may be closed in any order. `model` must not be in use by another thread meanwhile.
KinditStatus kindit_model_share(KinditModel **out, KinditContext *ctx, const KinditModel *model);

// Tailors come and go between two drawings; the learngene stays. Adding appends the class of a tailor file
// (docs/formats.md), whose learngene must be this model's; one that does not fit, or is of a class that is open, is
// refused with a message that names both sides, and the model is as before. Dropping takes a class, by id or name;
// the indices of those after it move down by one. Other handles neither gain nor lose a class.
KinditStatus kindit_model_add_tailor(KinditModel *model, const char *path);
KinditStatus kindit_model_drop_tailor(KinditModel *model, const char *class_id);

typedef struct KinditModelInfo {
    int image_size, channels; // of the images it draws
    int width, depth, heads, patch;
    bool factored;             // false: a plain DiT without learngene and tailors
    int n_learngene, n_tailor; // components, N_G and N_T
    int n_classes;             // open
    int64_t parameters;        // of the learngene and the open tailors
    int64_t tailor_parameters; // of one tailor
    double flops;              // of one forward pass of one image, 2 per multiply-add
} KinditModelInfo;
void kindit_model_info(const KinditModel *model, KinditModelInfo *out);

// The i-th open class, 0 <= i < n_classes: its id (as files name it) and its name (for people). Valid while the model
// is. Of class -1, which is none: "learngene".
const char *kindit_model_class_id(const KinditModel *model, int i);
const char *kindit_model_class_name(const KinditModel *model, int i);

// ---- drawing -------------------------------------------------------------------------------------------------------

typedef enum KinditSampler { KINDIT_DDPM = 0, KINDIT_DDIM = 1 } KinditSampler;

typedef struct KinditSampleSettings {
    const char *classes; // comma-separated ids or names; NULL: all open classes
    int n_per_class;
    KinditSampler sampler;
    int steps;            // 1..1000
    double eta;           // of DDIM; 0: no noise added
    double guidance;      // 1: none
    bool guide_first_3;   // guide the first 3 channels of epsilon alone, as DiT's own code does; otherwise all
    bool clip;            // hold predicted pixels to their range (latents are never clipped)
    bool no_tailors;      // every tailor shut: the learngene alone, unconditional
    bool keep_label_rows; // with no_tailors: the classes' label rows stay
    uint64_t seed;        // image i depends on the seed and i alone, whatever the batch or the number of threads
    int batch;            // images drawn at once, at most
    bool bf16;            // keep activations in bfloat16: half their memory
    bool int8;            // multiply 8-bit integers where the processor does such; elsewhere nothing changes
} KinditSampleSettings;

// DDPM, 250 steps, guidance 1.5 on all channels, clipped, 8 images of every class, 64 at a time, seed 0.
KinditSampleSettings kindit_sample_settings_default(void);

typedef struct KinditImage {
    int64_t index;   // 0, 1, ... in the order drawn: class after class
    int class_index; // into the model's open classes; -1 when it has none, being a learngene alone
    int size, channels;
    const float *values;   // (channels, size, size), pixels in [-1, 1]
    const uint8_t *pixels; // (size, size, channels), 0..255; NULL when the channels are latents (not 1 or 3)
} KinditImage;

// Receives each image in order; the pointers live until it returns. Anything but KINDIT_OK stops the drawing and is
// handed to the caller of kindit_sample.
typedef KinditStatus (*KinditImageCallback)(void *user, const KinditImage *image);

KinditStatus kindit_sample(KinditModel *model, const KinditSampleSettings *settings, KinditImageCallback callback,
                           void *user);

// What a drawing takes of memory. With a limit on the context's memory kindit_sample draws fewer than settings.batch
// images at once where it must (they are the same images), and fails before it draws where one alone is too much.
typedef struct KinditMemoryPlan {
    int batch, tailors;     // images drawn and tailors held at once
    bool packed;            // weights are packed for the kernels once, not at each use, which is slower
    int64_t limit_bytes;    // of the context; 0: none
    int64_t resident_bytes; // now: the program, the learngene, whatever else the process holds
    int64_t tailor_bytes;   // of those held, and while one is read
    int64_t drawing_bytes;  // activations, packed weights, images
    int64_t total_bytes;    // the peak of resident memory
} KinditMemoryPlan;
KinditStatus kindit_sample_plan(KinditModel *model, const KinditSampleSettings *settings, KinditMemoryPlan *out);
// The images as one picture, a captioned row for each class.
KinditStatus kindit_sample_to_png(KinditModel *model, const KinditSampleSettings *settings, const char *path);

// ---- taking apart, putting together --------------------------------------------------------------------------------

// In what a file keeps weights: 4, 2, about 1 or about 0.6 bytes each (docs/formats.md). In memory they are float32.
// BEST: float32, and within limits what draws best of the first three.
typedef enum KinditStorage { KINDIT_BEST = 0, KINDIT_F32, KINDIT_BF16, KINDIT_INT8, KINDIT_INT4 } KinditStorage;

// Writes folder/learngene.safetensors and folder/tailors/<class id>.safetensors; the folder must not exist.
KinditStatus kindit_decompose(KinditModel *model, const char *folder, KinditStorage storage);

typedef struct KinditAssembleSettings {
    const char *classes; // in order of preference; NULL: all there are
    // Limits, 0 for none. Within them the best model is composed: fewer classes, fewer components of the learngene and
    // of each tailor (the weakest go), a smaller type of weights; what is best, src/kind/budget.h defines.
    int64_t max_bytes; // of the weights written (the file's header comes on top)
    int64_t max_parameters;
    double max_flops;   // of one pass of one image with its tailor
    int64_t max_memory; // bytes, of drawing one image with guidance
    KinditStorage storage;
} KinditAssembleSettings;
KinditAssembleSettings kindit_assemble_settings_default(void); // all zero: every class, no limit, float32

typedef struct KinditAssemblePlan {
    int n_classes;                     // the first of those asked for
    int n_learngene, n_tailor;         // components
    KinditStorage storage;             // never KINDIT_BEST
    int64_t bytes, parameters, memory; // as the limits count them
    double flops;
    double loss; // share of the weights' energy lost, mean of the classes
} KinditAssemblePlan;

// Builds a model from the learngene and the tailors in `source` and writes it to `path` (a folder, or one file if it
// ends in .safetensors); NULL: plans only. `plan` may be NULL. Limits that cannot be met are an argument error whose
// message says what the smallest model takes.
KinditStatus kindit_assemble(KinditContext *ctx, const KinditAssembleSettings *settings, const char *source,
                             const char *path, KinditAssemblePlan *plan);

// ---- DiTs of other programs ----------------------------------------------------------------------------------------

typedef enum KinditExchange {
    KINDIT_DIT = 0,       // the original code's state dict, one .safetensors
    KINDIT_DIFFUSERS = 1, // a folder that diffusers' DiTPipeline loads
    KINDIT_PEFT = 2 // a folder that peft's PeftModel loads: a dense model's adapter, and in base/ what it rides on
} KinditExchange;

typedef struct KinditExportResult { // what the other program computes differently
    double time_error;              // largest relative error of a timestep's embedding, fitted to other frequencies
    bool norm_eps_lost;             // the model's eps before its MLPs, which the original code cannot have
} KinditExportResult;

// Writes one class of a decomposable model, merged into dense matrices, its learngene alone (class ""), or a dense
// model (class NULL), with its adapter folded in unless that is what peft asks for. `path` must not exist; `result` may
// be NULL.
KinditStatus kindit_export(KinditContext *ctx, const char *source, const char *class_id, KinditExchange to,
                           const char *path, KinditExportResult *result);
// Makes a dense model of an original DiT (.safetensors, or .pt of torch.save, of which no code runs) or of a folder of
// diffusers. heads: attention heads of an original DiT that is not S, B, L or XL, else 0. `path` as for
// kindit_assemble; it must not exist.
KinditStatus kindit_import(KinditContext *ctx, const char *source, int heads, const char *path);

// ---- measuring -----------------------------------------------------------------------------------------------------

typedef struct KinditEvaluateSettings {
    const char *samples;   // a model, whose images are drawn and not written; a batch (.npz), a folder of pictures, a
                           // data set
    const char *reference; // a data set, a folder, a batch, or statistics (.npz with mu, sigma); NULL: none
    bool heldout;          // of a data set as reference: the held-out images
    const char *network;   // weights of the network that looks at images
    const char *profile;   // "adm", "pytorch-fid", "dgm-eval", "native"; NULL: the network's own
    const char *cache;     // folder that keeps features, for going on and for other comparisons; NULL: none
    int64_t n;             // images of the samples, evenly spread; 0: all there are, 5000 of a model
    KinditSampleSettings drawing; // of a model; n_per_class is not used
} KinditEvaluateSettings;
KinditEvaluateSettings kindit_evaluate_settings_default(void); // drawing as kindit_sample_settings_default, else zero

// What could not be measured (no reference, or the network has no such features) is NaN. docs/evaluation.md has the
// definitions.
typedef struct KinditEvaluation {
    int64_t n_samples, n_reference;
    double frechet, spatial; // FID, or FDD, by the network; sFID
    double inception_score, precision, recall;
    double entropy, variance, kurtosis; // of the samples' class probabilities
    bool biased; // no more images than features on a side: the distances are too large, compare at equal numbers only
} KinditEvaluation;
KinditStatus kindit_evaluate(KinditContext *ctx, const KinditEvaluateSettings *settings, KinditEvaluation *out);

// ---- training ------------------------------------------------------------------------------------------------------

typedef struct KinditTrainSettings {
    int width, depth, heads, patch;
    bool plain;                // a DiT without learngene and tailors
    int n_learngene, n_tailor; // N_G and N_T
    bool fused_qkv, factor_adaln;
    int batch; // samples per step
    int64_t steps;
    double max_seconds; // stop in an orderly way after this long; 0: no limit
    double lr, weight_decay, ema_decay, label_dropout;
    uint64_t seed;                          // up to 2^53 - 1
    bool bf16;                              // keep activations in bfloat16; weights and optimiser stay float32
    bool recompute;                         // keep blocks' inputs alone: less memory, a third more time, same bits
    int64_t checkpoint_every, sample_every; // steps; 0: never (a checkpoint is always left at the end)
    bool resume; // go on from the last checkpoint of the run; steps and max_seconds may have changed
} KinditTrainSettings;
// DiT-S/2 with N_G 159, N_T 1; batch 256, lr 1e-4, EMA 0.9999, label dropout 0.1, 400000 steps.
KinditTrainSettings kindit_train_settings_default(void);

typedef struct KinditTrainResult {
    int64_t step;     // reached
    double loss;      // mean of the last log interval
    bool finished;    // all steps done
    char model[1024]; // the checkpoint left at the end: a path for kindit_model_open
} KinditTrainResult;

// Trains on the data set `data` (made by `kindit data`) in the run folder `run`. `result` may be NULL.
KinditStatus kindit_train(KinditContext *ctx, const KinditTrainSettings *settings, const char *data, const char *run,
                          KinditTrainResult *result);

// ---- fine-tuning ---------------------------------------------------------------------------------------------------

typedef struct KinditAdaptSettings {
    // "kind": new tailors beside a frozen learngene; a decomposed folder with that learngene takes them. "full":
    // everything trains. `kindit help adapt` lists all.
    const char *method;
    const char *tailors_from;  // classes of the model, comma-separated, of which new tailors are copies, in turn; NULL:
                               // fresh tailors
    int keep_blocks;           // heur-lg, auto-lg, laptop: blocks of the model that the new one starts with; 0: half
    int64_t budget;            // laptop, in place of keep_blocks: parameters of the new model at most; 0: none
    int64_t pseudo_steps;      // auto-lg: steps of the fresh model that blocks are held against; 0: 500
    int rank, blocks;          // of methods with an adapter (LoRA and its kin; OFT); 0: so that it trains as many
    double alpha;              // numbers as "kind" would; alpha 0: the rank
    int cayley_terms;          // of OFT's series; 0: exact rotations
    int n_learngene;           // of "svd-lora"; 0: the usual share of the width
    KinditTrainSettings train; // width to factor_adaln are the model's and are not read, but n_tailor, of the new
                               // tailors (0: the model's); lr and label_dropout below 0: the method's
} KinditAdaptSettings;
// "kind", fresh tailors, what the method asks for; else as kindit_train_settings_default.
KinditAdaptSettings kindit_adapt_settings_default(void);

// Adapts the model at `path` to the classes of the data set `data`, in the run folder `run`. Of a run resumed, what
// `settings` says is held against its record, and `path` may be NULL. `result` may be NULL.
KinditStatus kindit_adapt(KinditContext *ctx, const KinditAdaptSettings *settings, const char *path, const char *data,
                          const char *run, KinditTrainResult *result);

#ifdef __cplusplus
}
#endif
#endif
