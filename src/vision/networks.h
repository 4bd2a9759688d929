// The networks that vision_open knows: one file each.
#ifndef VISION_NETWORKS_H
#define VISION_NETWORKS_H

#include "vision/vision.h"

extern const VisionKind vision_inception; // Inception-v3 in the form that FID is computed with
extern const VisionKind vision_dinov2;    // DINOv2's ViTs
extern const VisionKind vision_native;    // a classifier of `kindit eval train-features`

#endif
