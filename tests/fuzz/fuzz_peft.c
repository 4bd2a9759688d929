// Any bytes as adapter_config.json: refused, or an adapter that can be written, and is read as the same again.
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "model/peft.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    KinditContext *ctx;
    cJSON *json, *again = NULL;
    AdapterConfig adapter, same;
    if (kindit_context_create(&ctx, NULL)) return 0;
    if (!json_parse(&json, ctx, "adapter_config.json", data, size)) {
        if (!peft_config_parse(json, ctx, "adapter_config.json", &adapter)) {
            if (peft_config_build(&again, ctx, &adapter) || peft_config_parse(again, ctx, "again", &same)) abort();
            if (memcmp(&adapter, &same, sizeof same) != 0) abort();
        }
        cJSON_Delete(again);
        cJSON_Delete(json);
    }
    kindit_context_close(&ctx);
    return 0;
}
