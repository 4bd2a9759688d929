// What a network said of images, kept image after image: features, spatial features, logits, and each image's class. In
// memory, or in a folder of parts (.safetensors), each whole or absent, so that work cut short goes on where it was.
#ifndef METRICS_FEATURE_SET_H
#define METRICS_FEATURE_SET_H

#include "metrics/feature_rows.h"
#include "vision/vision.h"

typedef enum FeatureKind { FEATURE_POOLED, FEATURE_SPATIAL, FEATURE_LOGITS, FEATURE_KINDS } FeatureKind;

typedef struct FeatureSet FeatureSet;

// widths: of each kind, 0 where it is not kept. folder NULL: in memory. Otherwise a folder that is made, or whose parts
// are taken over: their recipe, a text that says what the images are and what looked at them, must be this one.
KinditStatus feature_set_open(FeatureSet **out, KinditContext *ctx, const int widths[FEATURE_KINDS], const char *folder,
                              const char *recipe);
// What is not saved yet is lost.
void feature_set_close(FeatureSet **set);

int64_t feature_set_count(const FeatureSet *set);
int feature_set_width(const FeatureSet *set, FeatureKind kind);
int feature_set_label(const FeatureSet *set, int64_t i);

// Adds n images; `values` has what the widths ask for. Parts of some hundred images are saved as they fill.
KinditStatus feature_set_add(FeatureSet *set, int n, const VisionOutput *values, const int *labels);
// Saves what has come since the last part. Nothing to do in memory.
KinditStatus feature_set_save(FeatureSet *set);

// The vectors of one kind of n images: those of `order`, or the first when it is NULL. Freed with feature_rows_close;
// valid until something is added.
KinditStatus feature_set_rows(FeatureRows *out, const FeatureSet *set, FeatureKind kind, const int64_t *order,
                              int64_t n);
void feature_rows_close(FeatureRows *rows);

#endif
