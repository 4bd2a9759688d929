// A data set is a folder (docs/formats.md):
//   images.npy   uint8 (N, H, W, C), or latents.npy float32 (N, C, H, W)
//   labels.npy   int32 (N), index into "classes"
//   dataset.json {"format": 1, "name", "classes": [{"id", "name"}],
//                 "splits": {"train": [first, count], "heldout": [first, count]}, "image_size", "channels",
//                 "preprocessing": {...}, "source_sha256", "counts": {...what was skipped, and why}}
// Samples are stored split after split, so a split is a range. All arrays are memory-mapped.
#ifndef DATA_DATASET_H
#define DATA_DATASET_H

#include "base/json.h"
#include "formats/npy.h"
#include "model/model_file.h" // ModelClass

typedef struct DatasetSplit {
    int64_t first, count;
} DatasetSplit;

typedef struct Dataset {
    char path[1024];
    Npy images, labels;
    bool latents;
    int size, channels, n_classes;
    int64_t n;
    ModelClass *classes;
    DatasetSplit train, heldout; // heldout.count 0 when there is none
    cJSON *json;
} Dataset;

// Everything is checked: shapes against dataset.json, splits against N, every label against the classes.
KinditStatus dataset_open(Dataset **out, KinditContext *ctx, const char *path);
void dataset_close(Dataset **dataset);
int dataset_label(const Dataset *dataset, int64_t i);

// A class id names files (tailors/<id>.safetensors): letters, digits, '-', '_', '.', not starting with '.', at most
// DIT_CLASS_NAME_SIZE - 1 bytes.
bool dataset_class_id_valid(const char *id);
int dataset_find_class(const Dataset *dataset, const char *id); // index, or -1

// Writing: images come in any order with their class and split; the writer spools them to disk, sorts them by split and
// class, stably, and makes the whole folder or nothing. `path` must not exist yet, or be an empty folder.
typedef struct DatasetWriter DatasetWriter;
KinditStatus dataset_writer_create(DatasetWriter **out, KinditContext *ctx, const char *path, const char *name,
                                   int size, int channels);
// Adds a class or finds the one with this id; *index is its number. Refused: an invalid id, one that differs from
// another in case only (files of the two would collide on some systems), and an id that already stands for another
// name.
KinditStatus dataset_writer_class(DatasetWriter *writer, const char *id, const char *name, int *index);
KinditStatus dataset_writer_add(DatasetWriter *writer, int class_index, bool heldout,
                                const uint8_t *pixels /* H,W,C */);
// `details` (owned by the caller) becomes "preprocessing", `counts` becomes "counts". Empty classes, those without a
// training sample: refused, or dropped (held-out samples too) and named in the log, as `drop_empty` says. Closes and
// nulls the writer, also on failure.
KinditStatus dataset_writer_finish(DatasetWriter **writer, const cJSON *details, const cJSON *counts, bool drop_empty);
void dataset_writer_abandon(DatasetWriter **writer);

// Which classes to keep and how to merge them, for every importer.
typedef struct ClassFilter ClassFilter;
typedef struct ClassTarget {
    const char *id, *name; // borrowed from the filter or from the arguments of the call
} ClassTarget;
// classes: comma-separated ids or names (of the merged classes), or NULL for all. merge_tsv: a file of lines superclass
// <tab> member (source class id), or NULL. A header line (maybe after '#') names the columns: `superclass`, `member`,
// in any order among others, and `name` for the superclass's name; other lines starting with '#' are comments. A member
// under two superclasses, and a superclass with two names, are errors.
KinditStatus class_filter_create(ClassFilter **out, KinditContext *ctx, const char *classes, const char *merge_tsv);
// The class that the source class (id, name) goes to, itself unless merged; false when it is not wanted.
bool class_filter_target(ClassFilter *filter, const char *id, const char *name, ClassTarget *out);
// Wanted classes that no source class went to, and names that stand for several ids: an error listing them.
KinditStatus class_filter_check_used(const ClassFilter *filter, KinditContext *ctx);
void class_filter_close(ClassFilter **filter);

#endif
