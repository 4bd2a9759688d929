// Dense DiTs of other programs: the original code's state dict, and the folders of diffusers.
//
//     EXCHANGE_DIT        one file, .safetensors or torch.save's: the names are ours (docs/formats.md), and pos_embed
//     EXCHANGE_DIFFUSERS  a folder that DiTPipeline.from_pretrained reads: transformer/, scheduler/, model_index.json
#ifndef MODEL_EXCHANGE_H
#define MODEL_EXCHANGE_H

#include "model/model_file.h"

typedef enum ExchangeFormat { EXCHANGE_DIT, EXCHANGE_DIFFUSERS } ExchangeFormat;

// ---- names: one table for both directions (exchange_names.c) -------------------------------------------------------

// Where a tensor of ours lies in the other program's files: in `n_parts` tensors, each an equal share of its rows, all
// of them in `n_copies` copies (diffusers repeats the embedders in every block).
typedef struct ExchangePlaces {
    int n_parts, n_copies;
} ExchangePlaces;
enum { EXCHANGE_NAME_SIZE = 128 };
ExchangePlaces exchange_places(ExchangeFormat format, const char *ours, int depth);
// The name of part `part` in copy `copy`.
void exchange_name(char out[EXCHANGE_NAME_SIZE], ExchangeFormat format, const char *ours, int part, int copy);

// ---- time (exchange_time.c) ----------------------------------------------------------------------------------------

// The two programs differ in the frequencies of their time features, which neither's files can say. Fits both layers of
// the time MLP (host memory, in `shared` of the model's layout) to the frequencies of `time_shift`, so that their
// output at the timesteps 0 .. 999 is as near to the old one as least squares bring it. *error: the largest distance at
// any of them over the norm of the old output there.
KinditStatus exchange_refit_time(KinditContext *ctx, const Dit *dit, int time_shift, float *shared, double *error);

// ---- the two directions --------------------------------------------------------------------------------------------

typedef struct ExchangeReport { // what the other program computes differently from the model
    double time_error;          // of exchange_refit_time, 0 when nothing had to be fitted
    bool norm_eps_lost;         // the original code's eps is fixed at 1e-6
} ExchangeReport;

// Writes a dense model. `path` must not exist.
KinditStatus exchange_export(const Model *model, ExchangeFormat format, const char *path, ExchangeReport *report);
// Reads a file or a folder of either kind. heads: of an original DiT whose size does not tell, or 0. Class ids and
// names come from id2label, or from our own export's metadata, or are numbers.
KinditStatus exchange_import(Model **out, KinditContext *ctx, Engine *engine, const char *path, int heads);

#endif
