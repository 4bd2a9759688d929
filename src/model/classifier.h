// A classifier at work: images in, logits and features out, a batch at a time.
#ifndef MODEL_CLASSIFIER_H
#define MODEL_CLASSIFIER_H

#include "model/model_file.h"

typedef struct Classifier {
    Model *model;
    int batch; // images of a pass at most
    DitWorkspace *workspace;
    int *slot;      // [batch] all -1: there is no tailor to open
    float *x, *out; // (batch, C, S, S) and (batch, classes), engine memory
} Classifier;

// Opens the classifier at `path` (model_open_classifier) for passes of up to `batch` images; what follows allocates
// nothing. On failure nothing is held.
KinditStatus classifier_open(Classifier *out, KinditContext *ctx, Engine *engine, const char *path, int batch);
void classifier_close(Classifier *classifier);
// images (n, C, S, S) in [-1, 1], any n: features (n, D), the mean of the final norm over the tokens, and logits
// (n, classes), either NULL when not wanted. All in host memory. An image's numbers depend on it alone.
void classifier_run(Classifier *classifier, const float *images, int n, float *features, float *logits);

#endif
