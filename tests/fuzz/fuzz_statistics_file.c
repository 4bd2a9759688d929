#include "metrics/statistics_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    StatisticsFile file;
    if (statistics_file_parse(&file, NULL, "fuzz", data, size) == KINDIT_OK) statistics_file_close(&file);
    return 0;
}
