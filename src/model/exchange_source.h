// What is to be imported, once its config is understood: for exchange_import.c and the reader of each kind of config.
#ifndef MODEL_EXCHANGE_SOURCE_H
#define MODEL_EXCHANGE_SOURCE_H

#include "model/exchange.h"

typedef struct ExchangeSource {
    KinditContext *ctx;
    ExchangeFormat format;
    Safetensors file;    // the weights
    DitConfig config;    // of the dense model to make
    ModelClass *classes; // [config.n_classes]
    int n_file_classes;  // rows of the label table but the null label's, which is the last
    cJSON *document;     // other keys for the new config, or NULL
} ExchangeSource;

// Classes named "0", "1", ...
KinditStatus exchange_number_classes(ExchangeSource *source, int n);

// Fill config, classes and document of a source whose weights are open (dit) or not yet (diffusers: opens them). On
// failure the caller closes.
KinditStatus exchange_read_dit(ExchangeSource *source, int heads);
KinditStatus exchange_read_diffusers(ExchangeSource *source, const char *folder);
void exchange_source_close(ExchangeSource *source);

#endif
