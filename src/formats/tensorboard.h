// TensorBoard event files: TFRecord frames (length, masked CRC-32C, protobuf Event, masked CRC-32C), protobuf by
// protobuf-c.
#ifndef FORMATS_TENSORBOARD_H
#define FORMATS_TENSORBOARD_H

#include "base/context.h"
#include "formats/image.h"

typedef struct Tensorboard Tensorboard;

// Appends to a new file events.out.tfevents.<time>.kindit in `folder`; the first record is the file version.
KinditStatus tensorboard_open(Tensorboard **out, KinditContext *ctx, const char *folder);
KinditStatus tensorboard_add_scalar(Tensorboard *tb, KinditContext *ctx, const char *tag, int64_t step, double number);
KinditStatus tensorboard_add_image(Tensorboard *tb, KinditContext *ctx, const char *tag, int64_t step,
                                   const Image *image);
KinditStatus tensorboard_flush(Tensorboard *tb, KinditContext *ctx);
void tensorboard_close(Tensorboard **tb);

#endif
