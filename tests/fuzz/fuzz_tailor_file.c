// Any bytes as a tailor file: it fits or is refused, and the class of one that fits is fit to be shown and to name
// files.
#include <stdlib.h>
#include <string.h>

#include "model/tailor_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const char hash[] = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    KinditContext *ctx;
    Safetensors file;
    if (kindit_context_create(&ctx, NULL)) return 0;
    DitConfig config = dit_config_default();
    config.image_size = 4, config.channels = 3, config.width = 12, config.depth = 2, config.heads = 2;
    config.n_learngene = 5, config.n_tailor = 3;
    TailorFit fit = {&config, "config.json", "learngene.safetensors", hash};
    if (!safetensors_parse(&file, ctx, "tailor", data, size)) {
        ModelClass class;
        if (!tailor_file_check(&file, ctx, &fit, &class) && model_class_check(ctx, "tailor", class.id, class.name))
            abort();
        safetensors_close(&file);
    }
    kindit_context_close(&ctx);
    return 0;
}
