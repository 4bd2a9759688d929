// A batch of generated samples as `kindit sample` writes it (docs/formats.md): an npz file with arr_0 = images, uint8
// (N, H, W, C); arr_1 = labels, int64 (N); class_ids, uint8 (K, 64), the NUL-padded id that each label stands for.
#ifndef DATA_SAMPLE_BATCH_H
#define DATA_SAMPLE_BATCH_H

#include "data/dataset.h"

typedef struct SampleBatch {
    Npy images;
    int64_t n;
    int *labels; // [n], in the data set's numbering
} SampleBatch;

// Reads a batch against a data set of the same image size and channels. A label whose class the data set does not know
// is an error; classes without samples don't matter.
KinditStatus sample_batch_open(SampleBatch *out, KinditContext *ctx, const char *path, const Dataset *dataset);
void sample_batch_close(SampleBatch *batch);
const uint8_t *sample_batch_pixels(const SampleBatch *batch); // (n, H, W, C)

#endif
