// Models on disk, in either of three shapes that all load alike (docs/formats.md):
//   1. a folder with config.json and model.safetensors
//   2. one .safetensors file with the config in __metadata__["kindit"]
//   3. a decomposed folder: config.json, learngene.safetensors and any of the tailors/<class id>.safetensors
// The config carries class ids and names; the order of classes in it is the order of tailor rows.
#ifndef MODEL_MODEL_FILE_H
#define MODEL_MODEL_FILE_H

#include <cjson/cJSON.h>

#include "formats/safetensors.h"
#include "model/dit.h"
#include "model/storage.h"

typedef struct ModelClass {
    char id[DIT_CLASS_NAME_SIZE];   // file-name safe: letters, digits, '-', '_', '.' (first not '.'); unique in a model
    char name[DIT_CLASS_NAME_SIZE]; // shown to people
} ModelClass;

typedef enum ModelForm { MODEL_WHOLE, MODEL_DECOMPOSED } ModelForm;

// An open model: structure, weights, names.
typedef struct Model {
    KinditContext *ctx;
    Engine *engine;
    Dit *dit;
    ModelClass *classes; // [dit->config.n_classes]
    ParamSet params;
    struct TailorStore *store; // NULL: params holds everything. Else the vectors are the store's, and those of tailors
    struct Tailor **tailors;   // [n_tailors] are in memory while they are held: model_tailors.h, tailor_hold.h
    int n_tailors;
    cJSON *config; // the whole document, so that what we don't know survives a rewrite
    ModelForm form;
    char learngene_sha256[65]; // of the learngene file when decomposed, "" otherwise
} Model;

// `classes`: comma-separated ids or names, "" for none, NULL for all the file holds; the model has them in that order.
// Only those tailors are read. A run folder opens its newest complete checkpoint; a learngene file alone has no class.
// A classifier is refused, as it cannot do what other models do.
KinditStatus model_open(Model **out, KinditContext *ctx, Engine *engine, const char *path, const char *classes);
// The same for a classifier, with all of its classes; other models are refused.
KinditStatus model_open_classifier(Model **out, KinditContext *ctx, Engine *engine, const char *path);
// A new model, all of its weights zero. `base`: a config document whose other keys (training settings, keys of others)
// it keeps, or NULL. `frozen`: roles whose shared rows are not to be trained (params_freeze), 0 for those that
// dit_create freezes.
KinditStatus model_create_blank(Model **out, KinditContext *ctx, Engine *engine, const DitConfig *config,
                                const ModelClass *classes, const cJSON *base, unsigned frozen);
// A new model with initial weights.
KinditStatus model_create(Model **out, KinditContext *ctx, Engine *engine, const DitConfig *config,
                          const ModelClass *classes, uint64_t seed);
void model_close(Model **model);

// Shape 1 (path is a folder to make) or 2 (path ends in .safetensors). What is there already is refused, an
// empty folder apart; with `overwrite` it is replaced: a file, or a folder with nothing but a model in it.
KinditStatus model_write(const Model *model, const char *path, StorageType type, bool overwrite);

// Index of a class by id, then by name; -1 when absent.
int model_classes_find(const ModelClass *classes, int n_classes, const char *id_or_name);
// The same for list[0..length-1], one part of a list of classes: blanks around it are ignored. `wanted` receives what
// was looked for, cut where it is longer than any name.
enum { MODEL_CLASS_WANTED_SIZE = 2 * DIT_CLASS_NAME_SIZE };
int model_classes_find_part(const ModelClass *classes, int n_classes, const char *list, size_t length,
                            char wanted[MODEL_CLASS_WANTED_SIZE]);

// The config document <-> structure. A newer "format" is refused, and so are bad class ids and one given twice, both
// ways. `name` stands for the file in messages. *classes [config->n_classes] is freed with memory_free, *out with
// cJSON_Delete.
KinditStatus model_config_parse(const cJSON *json, KinditContext *ctx, const char *name, DitConfig *config,
                                ModelClass **classes);
KinditStatus model_config_build(cJSON **out, KinditContext *ctx, const DitConfig *config, const ModelClass *classes);
// model_config_build with what else `base` holds (training settings, keys of others), but not what is true of its file
// alone: hashes of parts, storage type.
KinditStatus model_config_merge(cJSON **out, KinditContext *ctx, const cJSON *base, const DitConfig *config,
                                const ModelClass *classes);
// model_config_merge for a file of this storage type, which it says; "format" is 2 where readers of 1 would not know
// the tensors.
KinditStatus model_config_for_file(cJSON **out, KinditContext *ctx, const cJSON *base, const DitConfig *config,
                                   const ModelClass *classes, StorageType type);

// The key of the first field, classes apart, in which two structures differ, and the value of each; NULL: none.
const char *model_config_difference(const DitConfig *a, const DitConfig *b, int *of_a, int *of_b);
// The rules for ids and names; `where` stands for their place in messages.
KinditStatus model_class_check(KinditContext *ctx, const char *where, const char *id, const char *name);

// The tensors of a parameter vector set as a file holds them; used by every writer and reader of weights (models,
// learngene and tailor files, optimiser state). part: which rows; TRAINED: all but those that are frozen.
typedef enum ModelPart { MODEL_PART_WHOLE, MODEL_PART_SHARED, MODEL_PART_TAILOR, MODEL_PART_TRAINED } ModelPart;
KinditStatus model_params_write(KinditContext *ctx, const char *path, const ParamLayout *layout, const ParamSet *params,
                                ModelPart part, int class_index, StorageType type, const char *const (*metadata)[2],
                                int n_metadata);
KinditStatus model_params_read(KinditContext *ctx, const char *path, const ParamLayout *layout, ParamSet *params,
                               ModelPart part, int class_index);

#endif
