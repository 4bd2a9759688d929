// How often a classifier names the class of an image, and what it takes it for otherwise.
#ifndef METRICS_ACCURACY_H
#define METRICS_ACCURACY_H

#include "data/dataset.h"
#include "model/classifier.h"

typedef struct Accuracy {
    int n_classes; // of the data set
    int64_t n, correct;
    int64_t *confusion; // [n_classes * n_classes] images of class row that were taken for class column
} Accuracy;

// n images (n, S, S, C) of 8 bits with labels of `dataset`; they and the classifier must have its size and channels,
// and the classifier its classes, which are matched by id.
KinditStatus accuracy_measure(Accuracy *out, KinditContext *ctx, Classifier *classifier, const Dataset *dataset,
                              int64_t n, const uint8_t *pixels, const int *labels);
// The same of a split of the data set's own images.
KinditStatus accuracy_of_split(Accuracy *out, KinditContext *ctx, Classifier *classifier, const Dataset *dataset,
                               DatasetSplit split);
void accuracy_close(Accuracy *accuracy);

// A pair of classes that are taken for each other.
typedef struct AccuracyPair {
    int a, b;     // a < b
    int64_t n;    // images of either taken for the other
    double share; // of the images of the two
} AccuracyPair;
// The `capacity` pairs with the largest n, most first; returns how many there are with n > 0.
int accuracy_worst_pairs(const Accuracy *accuracy, AccuracyPair *pairs, int capacity);

#endif
