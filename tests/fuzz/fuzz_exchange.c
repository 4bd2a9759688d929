#include <stdlib.h>
#include <unistd.h>

#include "model/exchange.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

// A file that claims to be an original DiT: what is inferred from shapes must not outgrow it.
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static KinditContext *ctx;
    static Engine *engine;
    static char path[] = "/tmp/kindit-fuzz-XXXXXX";
    KinditContextSettings settings = {.threads = 1};
    Model *model;
    if (!ctx) {
        int descriptor = mkstemp(path);
        if (descriptor < 0 || kindit_context_create(&ctx, &settings) || engine_create(&engine, ctx)) abort();
        close(descriptor);
    }
    if (file_write(ctx, path, data, size)) abort();
    if (exchange_import(&model, ctx, engine, path, 2) == KINDIT_OK) model_close(&model);
    return 0;
}
