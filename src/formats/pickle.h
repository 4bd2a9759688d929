// Python pickles of protocol 2, which is what torch.save writes: a stream of instructions for a stack machine. Here
// they build a tree of inert values and nothing else. A global is a name and stays one, a call is the name beside its
// arguments; no module is looked up, nothing runs. Opcodes beyond those that dictionaries of tensors need, and globals
// that the caller does not list, are refused by name.
#ifndef FORMATS_PICKLE_H
#define FORMATS_PICKLE_H

#include "base/context.h"
#include "base/memory.h"

typedef enum PickleKind {
    PICKLE_MARK, // an unfinished group: in no sound value
    PICKLE_NONE,
    PICKLE_BOOL,
    PICKLE_INT,
    PICKLE_FLOAT, // its value is dropped
    PICKLE_STRING,
    PICKLE_TUPLE,
    PICKLE_LIST,
    PICKLE_DICT,      // also collections.OrderedDict
    PICKLE_GLOBAL,    // text is "module name"
    PICKLE_CALL,      // items: the global, then the tuple of its arguments; state set afterwards (BUILD) is dropped
    PICKLE_PERSISTENT // items[0] stands for an object kept outside the stream
} PickleKind;

typedef struct PickleValue {
    PickleKind kind;
    int64_t integer;            // BOOL, INT
    const char *text;           // STRING, GLOBAL
    size_t n, capacity;         // of items
    struct PickleValue **items; // a DICT has key, value, key, value, ...; values may be shared, even be their own items
} PickleValue;

typedef struct Pickle {
    PickleValue *root;       // the value of the stream
    PickleValue *persistent; // a LIST of all PERSISTENT values in it, in their order
    size_t size;             // bytes of the stream: something else may follow
} Pickle;

// Fills *out with values in memory of `arena`, of a size in proportion to the stream's. `globals` ends in NULL.
KinditStatus pickle_parse(Pickle *out, Arena *arena, KinditContext *ctx, const char *name, const void *data,
                          size_t size, const char *const *globals);
// The value of a string key of a DICT, NULL when absent or `dict` is none.
const PickleValue *pickle_get(const PickleValue *dict, const char *key);

#endif
