// What a fine-tuning method adds to each of a block's six matrices (q, k, v, o, in, out), riding on the kind of linear
// that is there: dense, or the factors of a learngene. The numbers of the layer below are the base; which of all
// numbers train is not said here (params.h).
//     lora         linear_lora.c      y = base + ((x A^T) * s) B              s = alpha / rank, fixed (also PiSSA)
//     components   linear_lora.c      the same, and s trains: U diag(s) V that all classes share
//     dora         linear_dora.c      lora with the rows of its matrix brought to lengths that train
//     loha         linear_loha.c      W' = W + alpha / rank (A1^T B1) * (A2^T B2), element by element
//     oft          linear_oft.c       y = base(x R), R block-diagonal and orthogonal
//     svdiff       linear_svdiff.c    W' = U diag(relu(s + d)) V^T
#ifndef MODEL_ADAPTER_H
#define MODEL_ADAPTER_H

#include <stdbool.h>

#include <cjson/cJSON.h>

#include "base/context.h"

typedef enum AdapterKind {
    ADAPTER_NONE,
    ADAPTER_LORA,
    ADAPTER_COMPONENTS,
    ADAPTER_DORA,
    ADAPTER_LOHA,
    ADAPTER_OFT,
    ADAPTER_SVDIFF
} AdapterKind;
enum { ADAPTER_KINDS = ADAPTER_SVDIFF + 1 };

typedef struct AdapterConfig {
    AdapterKind kind;
    int rank;         // lora, components, dora, loha: of the matrices added
    double alpha;     // lora, dora, loha: the product is scaled by alpha / rank
    int blocks;       // oft: rotations side by side
    int cayley_terms; // oft: of Cayley's series (engine/cayley.h), 0: exact
} AdapterConfig;

struct LinearKind;
const char *adapter_name(AdapterKind kind);                     // "lora", ...; "none"
const struct LinearKind *adapter_linear_kind(AdapterKind kind); // NULL for none

// What it rides on: width: of the model, and the rank of its narrowest matrix.
typedef struct AdapterBase {
    bool factored;
    int width, n_tailor;
} AdapterBase;
// The rules: ranges, the base, and that blocks divide. Fields that are not the kind's are 0. The message says what
// would do.
KinditStatus adapter_check(const AdapterConfig *adapter, KinditContext *ctx, const AdapterBase *base);

// The object "adapter" of a config document: {"kind": "lora", "rank": 8, "alpha": 8}. Unknown kinds and keys of other
// kinds are errors. `where` stands for the file in messages.
KinditStatus adapter_parse(const cJSON *json, KinditContext *ctx, const char *where, AdapterConfig *out);
cJSON *adapter_build(const AdapterConfig *adapter); // NULL: out of memory

#endif
