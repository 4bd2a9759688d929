// What a path holds, known before any weight is read: its shape, its config, its classes and where their parts lie.
#ifndef MODEL_MODEL_SOURCE_H
#define MODEL_MODEL_SOURCE_H

#include "model/model_file.h"

typedef struct ModelSource {
    ModelForm form;
    char folder[1024];   // of config.json and tailors/; "" for a single file, which has no tailors apart
    Safetensors weights; // the whole model, or the learngene; mapped
    cJSON *config;
    DitConfig dit_config; // with every class below
    ModelClass *classes;  // [dit_config.n_classes] those of the config, then tailors of the folder that it doesn't list
    int n_listed;         // of the config
    char learngene_sha256[65]; // when decomposed: what config.json says, or the hash of a learngene file opened alone
} ModelSource;

// Any shape model_open takes. A tailor file alone is an argument error.
KinditStatus model_source_open(ModelSource *out, KinditContext *ctx, const char *path);
void model_source_close(ModelSource *source);
// An argument error unless it is a classifier, or unless it is a model that draws, as `classifier` says.
KinditStatus model_source_require(const ModelSource *source, KinditContext *ctx, bool classifier);

// Indices of the classes asked for, as model_open's `classes`; NULL: every class whose tailor is there. One that is not
// is an argument error naming those that are. *chosen is freed with memory_free.
KinditStatus model_source_choose(const ModelSource *source, KinditContext *ctx, const char *classes, int **chosen,
                                 int *n_chosen);

// The tailor file of class c, its header held against the source (tailor_file.h); one in the place of another class is
// a format error that names both.
KinditStatus model_source_open_tailor(const ModelSource *source, KinditContext *ctx, int c, Safetensors *out);

// Checks the headers of the weights and of the chosen tailors against `dit`, whose config has n_classes = n_chosen.
KinditStatus model_source_check(const ModelSource *source, KinditContext *ctx, const Dit *dit, const int *chosen,
                                int n_chosen);

// The learngene's file has the hash that config.json lists; nothing to verify in other forms.
KinditStatus model_source_verify(const ModelSource *source, KinditContext *ctx);
// sha256 = that of the open file of class c's tailor, which must be the one that config.json lists, where it does.
KinditStatus model_source_verify_tailor(const ModelSource *source, KinditContext *ctx, int c, const Safetensors *file,
                                        char sha256[65]);
// Reads the shared vector and, from a whole model's file, the tailors of the chosen classes into `params`.
KinditStatus model_source_load_weights(const ModelSource *source, KinditContext *ctx, const Dit *dit, const int *chosen,
                                       int n_chosen, ParamSet *params);

// Opens exactly these classes of the source, with the hash of every part verified.
KinditStatus model_source_load(Model **out, KinditContext *ctx, Engine *engine, const ModelSource *source,
                               const int *chosen, int n_chosen);

#endif
