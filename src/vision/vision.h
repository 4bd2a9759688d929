// Frozen networks whose features the metrics compare: Inception-v3 (of FID), DINOv2, and whatever else fills the table
// of functions below, as kinds of linear do theirs. Weights are the user's files; nothing is downloaded.
//
// An image's results depend on the image alone: not on the batch it came in, nor on the number of threads.
#ifndef VISION_VISION_H
#define VISION_VISION_H

#include "engine/engine.h"
#include "formats/safetensors.h"
#include "vision/profile.h"

typedef struct VisionInfo {
    const char *name;      // "inception-v3", "dinov2-1024x24/14" (width, depth, patch), ...
    int channels;          // of its input
    int input_size;        // pixels of a side
    int n_features;        // for FID, FDD, precision and recall
    int n_spatial;         // for sFID; 0: it has none
    int n_logits;          // of classes; 0: it has none
    VisionProfile profile; // the one that it is used with unless the user says otherwise
    char sha256[65];       // of the weights' file
} VisionInfo;

// Host memory of the caller; NULL for what is not wanted or what the network has not.
typedef struct VisionOutput {
    float *features; // (n, n_features)
    float *spatial;  // (n, n_spatial)
    float *logits;   // (n, n_logits): softmax of them are the probabilities (of Inception-v3 those of its Score)
    // For whoever compares with another implementation: called with what each layer makes of the image, of which there
    // must be one, in the order of the layers and by the file's own names of them.
    void (*visit)(void *user, const char *layer, size_t n, const float *values);
    void *user;
} VisionOutput;

typedef struct VisionNetwork VisionNetwork;

// Opens the network whose weights `path` holds, a .safetensors file or one of torch.save, and tells by its tensors
// which it is. Every tensor must have the name, shape and type that the network wants, and there may be no other.
KinditStatus vision_open(VisionNetwork **out, KinditContext *ctx, Engine *engine, const char *path);
void vision_close(VisionNetwork **network);
const VisionInfo *vision_info(const VisionNetwork *network); // valid while the network is
// images (n, channels, input_size, input_size) in host memory, prepared by profile_apply. A result that is no finite
// number is a numeric error.
KinditStatus vision_run(VisionNetwork *network, const float *images, int n, const VisionOutput *out);

// ---- for the networks themselves -----------------------------------------------------------------------------------

typedef struct VisionKind {
    const char *name;
    bool (*recognise)(const Safetensors *file); // by the names of its tensors alone
    // Reads and checks all of `file`, which is closed afterwards; fills network->info but for sha256, and
    // network->state. What it made so far is closed on failure as well.
    KinditStatus (*open)(VisionNetwork *network, const Safetensors *file);
    KinditStatus (*run)(VisionNetwork *network, const float *images, int n, const VisionOutput *out);
    void (*close)(VisionNetwork *network); // frees network->state, which may be NULL or half made
} VisionKind;

struct VisionNetwork {
    KinditContext *ctx;
    Engine *engine;
    const VisionKind *kind;
    VisionInfo info;
    void *state; // the kind's own
};

#endif
