// The table of tasks: any bytes are a list or a format error.
#include "data/task_list.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    TaskList list;
    if (!task_list_parse(&list, NULL, "tasks.tsv", (const char *)data, size)) task_list_close(&list);
    return 0;
}
