// Images to be measured, wherever they are:
//   - a data set (a folder with dataset.json): the images of a split
//   - a batch of samples (.npz): arr_0 uint8 (N, H, W, C); of classes if there is arr_1 (docs/formats.md); without
//     class_ids a class's id is its number
//   - a folder of PNG, JPEG and WebP files at any depth, in the order of their names; of classes if every one of them
//     lies in a sub-folder
#ifndef DATA_IMAGE_SOURCE_H
#define DATA_IMAGE_SOURCE_H

#include "data/dataset.h"
#include "formats/image.h"

typedef enum SourceSplit { SOURCE_TRAIN, SOURCE_HELDOUT } SourceSplit; // which images of a data set

typedef struct ImageSource ImageSource;

// A data set of latents, a split without images, and a path that is none of the above are errors.
KinditStatus image_source_open(ImageSource **out, KinditContext *ctx, const char *path, SourceSplit split);
void image_source_close(ImageSource **source);

int64_t image_source_count(const ImageSource *source);
// n of its images, evenly spread, are all that count from now on: images often come class after class, and the first n
// would be of few. An argument error when it has fewer.
KinditStatus image_source_choose(ImageSource *source, KinditContext *ctx, int64_t n);
// What to call image i in a message: its file, or its place in the array.
enum { IMAGE_SOURCE_NAME_SIZE = 1064 };
void image_source_name(const ImageSource *source, int64_t i, char out[IMAGE_SOURCE_NAME_SIZE]);
// The classes that images can be of; *n 0: the images have none. Valid while the source is.
const ModelClass *image_source_classes(const ImageSource *source, int *n);
int image_source_label(const ImageSource *source, int64_t i); // index into the classes, -1 without any

// Image i, 1 or 3 channels; out->pixels is freed with image_close. Alpha is composed over black. Several threads may
// read at once, each with a context of its own for the message.
KinditStatus image_source_read(const ImageSource *source, KinditContext *ctx, int64_t i, Image *out);

// What names the images in records: SHA-256 of the pixels of an array, or of the names and contents of files. Of all,
// chosen or not; reads everything.
KinditStatus image_source_hash(const ImageSource *source, KinditContext *ctx, char out[65]);

#endif
