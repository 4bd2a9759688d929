// Models whose weights are shared by handles and whose tailors come and go: for drawing, on small machines and from
// several threads. A handle (a Model with a store) belongs to one thread at a time; different handles on the same
// weights are independent of each other, each with its own classes.
#ifndef MODEL_MODEL_TAILORS_H
#define MODEL_MODEL_TAILORS_H

#include "model/tailor_store.h"

// As model_open, but for drawing: params has the shared vector alone, tailors are held by passes (tailor_hold.h). With
// a limit on the context's memory a tailor is dropped when no pass needs it; each is read once, so that one which does
// not fit is refused here.
KinditStatus model_open_shared(Model **out, KinditContext *ctx, Engine *engine, const char *path, const char *classes);
// Another handle on the weights of `model`, with the classes that it has now.
KinditStatus model_share(Model **out, KinditContext *ctx, Engine *engine, const Model *model);

// Appends the class of a tailor file. One that the handle has already, and a file that does not fit (tailor_file.h),
// are refused; the handle is then as before.
KinditStatus model_add_tailor(Model *model, const char *path);
// Takes a class, by id or name, from the handle; the indices of those after it move down by one.
KinditStatus model_drop_tailor(Model *model, const char *class);

#endif
