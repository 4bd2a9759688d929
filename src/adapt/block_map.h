// Which block of the base each block of a new model starts as.
#ifndef ADAPT_BLOCK_MAP_H
#define ADAPT_BLOCK_MAP_H

#include "adapt/adapt_methods.h"

enum { BLOCK_MAP_MOST = 256, BLOCK_FRESH = -1 };

typedef struct BlockMap {
    int n;                    // blocks of the new model
    int from[BLOCK_MAP_MOST]; // block of the base, or BLOCK_FRESH; ascending but for these
} BlockMap;

// Keeps the n_keep blocks, of n of the base, with the highest scores, of equal ones the first. The new model has those
// alone, in their order, or, not `alone`, as many blocks as the base, each in its place, the others fresh.
void block_map_keep(BlockMap *out, const double *score, int n, int n_keep, bool alone);

// Where a tensor of the base goes in the new model: its name there, the same one outside of blocks. False: nowhere.
bool block_map_place(const BlockMap *map, const char *name, char out[PARAM_NAME_SIZE]);

// "blocks" of a run's record: an array of block numbers, -1 for a fresh one. Reading: a format error unless there are
// `depth` of them, each of a base of `base_depth` blocks.
KinditStatus block_map_record(const BlockMap *map, KinditContext *ctx, cJSON *record);
KinditStatus block_map_read(BlockMap *out, KinditContext *ctx, const cJSON *record, int depth, int base_depth);

// What each class of a data set is for the base, by id: row[i] is the index of classes[i] there, or the null label's,
// as is row[n]. Freed with memory_free.
KinditStatus block_map_classes(int **row, KinditContext *ctx, const ModelClass *classes, int n, const Model *base);

#endif
