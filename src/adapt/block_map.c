#include "adapt/block_map.h"

#include <stdio.h>
#include <string.h>

#include "base/json.h"

static int best_unkept(const double *score, int n, const bool *kept) {
    int best = -1;
    for (int i = 0; i < n; i++)
        if (!kept[i] && (best < 0 || score[i] > score[best])) best = i;
    return best;
}

void block_map_keep(BlockMap *out, const double *score, int n, int n_keep, bool alone) {
    bool kept[BLOCK_MAP_MOST] = {false};
    for (int k = 0; k < n_keep; k++) kept[best_unkept(score, n, kept)] = true;
    out->n = 0;
    for (int i = 0; i < n; i++)
        if (kept[i] || !alone) out->from[out->n++] = kept[i] ? i : BLOCK_FRESH;
}

bool block_map_place(const BlockMap *map, const char *name, char out[PARAM_NAME_SIZE]) {
    int block, length = 0;
    if (sscanf(name, "blocks.%d.%n", &block, &length) != 1 || length == 0) {
        snprintf(out, PARAM_NAME_SIZE, "%s", name);
        return true;
    }
    for (int i = 0; i < map->n; i++) {
        if (map->from[i] != block) continue;
        return snprintf(out, PARAM_NAME_SIZE, "blocks.%d.%s", i, name + length) < PARAM_NAME_SIZE;
    }
    return false;
}

KinditStatus block_map_record(const BlockMap *map, KinditContext *ctx, cJSON *record) {
    cJSON *array = cJSON_CreateIntArray(map->from, map->n);
    if (cJSON_AddItemToObject(record, "blocks", array)) return KINDIT_OK;
    cJSON_Delete(array);
    return context_fail(ctx, KINDIT_ERROR_MEMORY, "out of memory for the record of a run");
}

KinditStatus block_map_read(BlockMap *out, KinditContext *ctx, const cJSON *record, int depth, int base_depth) {
    const cJSON *array, *item;
    *out = (BlockMap){0};
    TRY(json_get_array(record, ctx, "the record of the run", "blocks", &array));
    cJSON_ArrayForEach(item, array) {
        const double from = cJSON_IsNumber(item) ? item->valuedouble : base_depth;
        if (out->n == depth || !(from >= BLOCK_FRESH && from < base_depth))
            return context_fail(ctx, KINDIT_ERROR_FORMAT,
                                "the record of the run: blocks: expected %d numbers of a base's %d blocks, or -1",
                                depth, base_depth);
        out->from[out->n++] = (int)from;
    }
    if (out->n == depth) return KINDIT_OK;
    return context_fail(ctx, KINDIT_ERROR_FORMAT, "the record of the run: blocks: expected %d numbers, found %d", depth,
                        out->n);
}

KinditStatus block_map_classes(int **row, KinditContext *ctx, const ModelClass *classes, int n, const Model *base) {
    const int n_base = base->dit->config.n_classes;
    TRY(memory_alloc(ctx, (size_t)n + 1, sizeof **row, row));
    for (int i = 0; i <= n; i++) (*row)[i] = n_base;
    for (int i = 0; i < n; i++)
        for (int k = 0; k < n_base; k++)
            if (strcmp(classes[i].id, base->classes[k].id) == 0) (*row)[i] = k;
    return KINDIT_OK;
}
