// Images through a network into a set of features.
#ifndef METRICS_EXTRACT_H
#define METRICS_EXTRACT_H

#include "data/image_source.h"
#include "diffusion/sampler.h"
#include "metrics/feature_set.h"

// A network with how it is fed, and room for a batch of images.
typedef struct Extractor {
    KinditContext *ctx;
    Engine *engine;
    VisionNetwork *network;
    VisionProfile profile;
    float *images;       // (EXTRACT_BATCH, channels, size, size), prepared
    VisionOutput output; // room for a batch of what is wanted
} Extractor;

enum { EXTRACT_BATCH = 32 };

// wanted: widths of a feature set for this network, 0 where a kind is not wanted.
KinditStatus extractor_open(Extractor *out, KinditContext *ctx, Engine *engine, VisionNetwork *network,
                            VisionProfile profile, const int widths[FEATURE_KINDS]);
void extractor_close(Extractor *extractor);

// Adds the images of the source that the set does not have yet. Cancelled, it saves what it has and fails with
// KINDIT_CANCELLED. Progress under the name `task`.
KinditStatus extract_source(FeatureSet *set, Extractor *extractor, const ImageSource *source, const char *task);

// Images drawn and measured without being written. Image i of a run of n depends on the seed, i and n alone; classes
// take turns, 8 images each, and have n / K images or one more. `labels` of the set are indices into `classes`.
typedef struct ExtractDrawing {
    const Model *model;
    SamplerSettings sampler;
    const int *classes; // [n_classes] of the model's; n_classes 0: no class (a learngene alone)
    int n_classes;
    int64_t n;
} ExtractDrawing;
// The first `count` of the run's images, with their labels (-1 without classes).
KinditStatus extract_draw(const ExtractDrawing *drawing, KinditContext *ctx, int count, int *labels, uint8_t *pixels);
KinditStatus extract_drawing(FeatureSet *set, Extractor *extractor, const ExtractDrawing *drawing, const char *task);

#endif
