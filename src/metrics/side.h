// What is compared: a network that looks, and a side, which is images that exist, images that a model draws, or
// statistics.
#ifndef METRICS_SIDE_H
#define METRICS_SIDE_H

#include "metrics/evaluate.h"
#include "metrics/extract.h"

// ---- who looks -----------------------------------------------------------------------------------------------------

typedef struct Looker {
    KinditContext *ctx;
    Engine *engine;
    VisionNetwork *network;
    VisionProfile profile;
    const char *cache;         // folder for features, or NULL; borrowed
    int widths[FEATURE_KINDS]; // of what is kept: every kind of feature that the network has
} Looker;

// The network in the file `network` under the profile of that name (NULL: the network's own).
KinditStatus looker_open(Looker *out, KinditContext *ctx, const char *network, const char *profile, const char *cache);
void looker_close(Looker *looker);

// ---- at what -------------------------------------------------------------------------------------------------------

typedef struct Side {
    const char *path;          // borrowed; NULL: there is no such side
    char what[160];            // for people: "5000 images drawn, 62 classes, ddim 25 steps, ..."
    char hash[65];             // of the images, the model's files or the statistics file
    int64_t n;                 // images to be measured
    const ModelClass *classes; // [n_classes], of labels in the set; borrowed from one of the below
    int n_classes;
    Model *model;            // images are drawn
    SamplerSettings sampler; // of a drawing
    int *drawn_classes;      // [n_classes] of the model's
    ImageSource *source;     // images exist
    StatisticsFile statistics;
    bool has_statistics; // no images at all
    FeatureSet *set;     // of those images that were looked at so far; all of them after side_extract
} Side;

// A model (a file or folder of one), with the settings of its drawing, or images. n: images to measure, evenly spread
// over those that there are, or 0 for all (of a model: 5000). split: of a data set. An argument error when the network
// cannot read images of that size or colour.
KinditStatus side_open(Side *out, const Looker *looker, const char *path, const KinditSampleSettings *drawing,
                       SourceSplit split, int64_t n);
// Images, all of them, or statistics, which must be of as many features as the network has.
KinditStatus side_open_reference(Side *out, const Looker *looker, const char *path, SourceSplit split);
// Draws or reads what is not in the looker's cache yet; nothing to do for statistics. Progress under the name `task`.
// Cancelled, it says where to go on from.
KinditStatus side_extract(Side *side, const Looker *looker, const char *task);
void side_close(Side *side);

ExtractDrawing side_drawing(const Side *side); // of a model
EvaluatePart side_part(const Side *side);      // all of it
// samples and reference (whose path may be NULL), conventions and statistics of a request; its metrics: all that can
// be.
EvaluateRequest side_request(const Looker *looker, const Side *samples, const Side *reference);

#endif
