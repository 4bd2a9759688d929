#include "base/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    cJSON *value;
    if (json_parse(&value, NULL, "fuzz", data, size) != KINDIT_OK) return 0;
    int64_t integer;
    const char *string;
    json_get_int(value, NULL, "fuzz", "i", INT64_MIN, INT64_MAX, &integer);
    json_get_string(value, NULL, "fuzz", "s", &string);
    cJSON_Delete(value);
    return 0;
}
