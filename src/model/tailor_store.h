// What the handles of one open model share: the learngene's weights, and tailors that come and go. A tailor is in
// memory while somebody holds it; after that it stays until the store needs its room. All calls are safe from several
// threads at once; messages go to the context of the caller.
#ifndef MODEL_TAILOR_STORE_H
#define MODEL_TAILOR_STORE_H

#include "model/model_source.h"

typedef struct TailorStore TailorStore;
typedef struct Tailor Tailor; // of one class: a file, or the rows of one class in a whole model's file

// Takes over the weights file of `source` (whose own is then empty) and reads the shared vector; of a dense model also
// the label rows of `chosen`. keep: tailors that nobody holds stay in memory; otherwise only as many as are reserved.
KinditStatus tailor_store_create(TailorStore **out, KinditContext *ctx, ModelSource *source, const int *chosen,
                                 int n_chosen, bool keep);
TailorStore *tailor_store_share(TailorStore *store);                 // one reference more; returns `store`
void tailor_store_leave(TailorStore **store);                        // one less; the last frees it
float *tailor_store_shared(const TailorStore *store);                // never written
const char *tailor_store_learngene_sha256(const TailorStore *store); // "" unless opened from parts
size_t tailor_store_bytes(const TailorStore *store);                 // of one tailor in memory
size_t tailor_store_loading_bytes(TailorStore *store);               // most that reading one takes meanwhile

// The tailor of class c of the source that the store was made from (its classes, its folder).
KinditStatus tailor_store_add_class(TailorStore *store, KinditContext *ctx, const ModelSource *source, int c,
                                    Tailor **out);
// The tailor of a file, refused where it does not fit (tailor_file.h). Both read it once, so that one that cannot be
// loaded is refused at once, and return the same Tailor for the same bytes.
KinditStatus tailor_store_add_file(TailorStore *store, KinditContext *ctx, const char *path, Tailor **out);
void tailor_store_drop(TailorStore *store, Tailor **tailor);    // frees it once nobody has it any more
Tailor *tailor_store_again(TailorStore *store, Tailor *tailor); // for one owner more; returns `tailor`
const ModelClass *tailor_class(const Tailor *tailor);
const char *tailor_path(const Tailor *tailor);

// Room for n tailors more (or fewer, when negative) that will be held at once.
void tailor_store_reserve(TailorStore *store, int n);
// *out = the tailor's vector, in memory until the release; loads it if need be.
KinditStatus tailor_store_hold(TailorStore *store, KinditContext *ctx, Tailor *tailor, float **out);
void tailor_store_release(TailorStore *store, Tailor *tailor);
int tailor_store_loaded(TailorStore *store); // tailors in memory now

#endif
