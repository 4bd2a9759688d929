// A model's samples against the data set whose classes it draws: are they of their class?
#ifndef CLI_SAMPLE_CHECK_H
#define CLI_SAMPLE_CHECK_H

#include "data/dataset.h"

typedef struct SampleCheck {
    const Dataset *dataset; // borrowed: its training images say what class a sample looks like
    int n_classes, n_per_class, n;
    int *labels, *dataset_labels; // [n] class after class, in the model's and in the data set's numbering
    float *images;                // (n, C, S, S)
    uint8_t *pixels;              // (n, S, S, C) of the last model that was measured
} SampleCheck;

// Room for n_per_class samples of each class of models of this structure with these classes. Argument errors: images of
// another shape, latents, a class that the data set lacks. On failure nothing is held.
KinditStatus sample_check_open(SampleCheck *out, const Model *model, const Dataset *dataset, int n_per_class);
void sample_check_close(SampleCheck *check);

// Draws them (DDIM, 25 steps, seed 0). *accuracy = share whose nearest training image is of the sample's class
// (metrics/nearest.h).
KinditStatus sample_check_run(SampleCheck *check, const Model *model, double *accuracy);

#endif
