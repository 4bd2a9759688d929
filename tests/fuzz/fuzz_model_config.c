// Any bytes as config.json: parsed or refused; what parses builds and parses to the same again.
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/memory.h"
#include "model/model_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_rebuild(KinditContext *ctx, const DitConfig *config, const ModelClass *classes) {
    cJSON *document;
    DitConfig config_again;
    ModelClass *classes_again;
    if (model_config_build(&document, ctx, config, classes)) abort();
    if (model_config_parse(document, ctx, "again", &config_again, &classes_again)) abort();
    if (config_again.n_classes != config->n_classes || config_again.width != config->width) abort();
    if (config_again.classifier != config->classifier) abort();
    if (memcmp(classes_again, classes, (size_t)config->n_classes * sizeof *classes) != 0) abort();
    memory_free(&classes_again);
    cJSON_Delete(document);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    KinditContext *ctx;
    cJSON *json;
    if (kindit_context_create(&ctx, NULL)) return 0;
    if (!json_parse(&json, ctx, "config.json", data, size)) {
        DitConfig config;
        ModelClass *classes;
        if (!model_config_parse(json, ctx, "config.json", &config, &classes)) check_rebuild(ctx, &config, classes);
        memory_free(&classes);
        cJSON_Delete(json);
    }
    kindit_context_close(&ctx);
    return 0;
}
