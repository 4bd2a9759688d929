// Merge tables (superclass <tab> member), read from a file in memory.
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "data/dataset.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char path[64];
    int file = memfd_create("merge.tsv", 0);
    if (file < 0 || write(file, data, size) != (ssize_t)size) __builtin_trap();
    snprintf(path, sizeof path, "/proc/self/fd/%d", file);

    ClassFilter *filter = NULL;
    KinditContext ctx = {0};
    if (!class_filter_create(&filter, &ctx, NULL, path)) {
        ClassTarget target;
        (void)class_filter_target(filter, "n01440764", "tench", &target);
        (void)class_filter_check_used(filter, &ctx);
    }
    class_filter_close(&filter);
    close(file);
    return 0;
}
