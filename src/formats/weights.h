// The weights of another program's network: every tensor that is wanted must be there, and no other. Such a file bounds
// the memory that its network takes, and is certainly the network that it seems to be.
#ifndef FORMATS_WEIGHTS_H
#define FORMATS_WEIGHTS_H

#include "formats/safetensors.h"

// Opens a .safetensors file or one of torch.save, told apart by the first bytes; closed with safetensors_close.
KinditStatus weights_open(Safetensors *out, KinditContext *ctx, const char *path);

typedef struct Weights {
    KinditContext *ctx;
    const Safetensors *file;
    bool *used; // [file->n_tensors]
} Weights;

KinditStatus weights_begin(Weights *out, KinditContext *ctx, const Safetensors *file);
void weights_end(Weights *weights);
// Finds a tensor, requires its shape, and counts it as used; the message names file, tensor, expected and found.
KinditStatus weights_require(Weights *weights, const char *name, int n_dims, const int64_t *shape, const Tensor **out);
// The tensor counts as used if it is there, whatever it holds.
void weights_ignore(Weights *weights, const char *name);
// Elements first .. first + n - 1 as floats; a message about another type names the file.
KinditStatus weights_read(const Weights *weights, const Tensor *tensor, size_t first, size_t n, float *out);
// Names a tensor that was not used, as one that `what` ("a DiT of this size") does not have.
KinditStatus weights_refuse_others(const Weights *weights, const char *what);

#endif
