// This machine, for `kindit info --machine`: what the system says of its processor and what the engine makes of it.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "cli/info.h"

static const char cpu_folder[] = "/sys/devices/system/cpu";

// The first line of a file of the system's, without its end; false where there is none.
static bool read_line(const char *path, char *line, size_t size) {
    FILE *file = fopen(path, "r");
    if (!file) return false;
    const bool read = fgets(line, (int)size, file) != NULL;
    fclose(file);
    if (read) line[strcspn(line, "\n")] = '\0';
    return read;
}

// What /proc/cpuinfo calls it (x86), else the architecture.
static void add_processor(cJSON *json) {
    char line[256] = "", *name = NULL;
    FILE *file = fopen("/proc/cpuinfo", "r");
    while (file && !name && fgets(line, sizeof line, file)) {
        if (strncmp(line, "model name", strlen("model name")) == 0) name = strchr(line, ':');
    }
    if (file) fclose(file);
    if (name) {
        name[strcspn(name, "\n")] = '\0';
        name += 1 + strspn(name + 1, " ");
    }
    struct utsname system = {0};
    uname(&system);
    cJSON_AddStringToObject(json, "processor", name ? name : system.machine);
}

// Processors that are the first of their core's threads; all, where the system does not say.
static int count_cores(int processors) {
    int cores = 0;
    for (int i = 0; i < processors; i++) {
        char path[128], siblings[256];
        snprintf(path, sizeof path, "%s/cpu%d/topology/thread_siblings_list", cpu_folder, i);
        if (!read_line(path, siblings, sizeof siblings)) return processors;
        cores += atoi(siblings) == i;
    }
    return cores > 0 ? cores : processors;
}

// The first processor's largest cache: usually shared.
static void add_last_cache(cJSON *json) {
    int last = 0;
    double bytes = 0;
    for (int i = 0; i < 16; i++) {
        char path[128], line[64];
        snprintf(path, sizeof path, "%s/cpu0/cache/index%d/level", cpu_folder, i);
        if (!read_line(path, line, sizeof line)) break;
        const int level = atoi(line);
        snprintf(path, sizeof path, "%s/cpu0/cache/index%d/size", cpu_folder, i); // "32768K"
        if (level <= last || !read_line(path, line, sizeof line)) continue;
        last = level;
        bytes = strtod(line, NULL) * 1024;
    }
    char key[32];
    snprintf(key, sizeof key, "l%d_cache_bytes", last);
    if (last > 0) cJSON_AddNumberToObject(json, key, bytes);
}

KinditStatus info_add_machine(cJSON *json, KinditContext *ctx) {
    Engine *engine;
    TRY(engine_create(&engine, ctx));
    const int processors = (int)sysconf(_SC_NPROCESSORS_ONLN);
    cJSON_AddStringToObject(json, "type", "machine");
    add_processor(json);
    info_add_int(json, "cores", count_cores(processors));
    info_add_int(json, "processors", processors);
    info_add_int(json, "threads", engine_threads(engine));
    add_last_cache(json);
    cJSON_AddStringToObject(json, "vectors", engine_vectors());
    cJSON_AddStringToObject(json, "products", engine_describe(engine));
    cJSON_AddStringToObject(json, "bf16_products", engine_describe_bf16());
    cJSON_AddStringToObject(json, "int8_products", engine_describe_int8());
    cJSON_AddNumberToObject(json, "peak_flops_per_second", engine_measure_peak(engine, ENGINE_F32));
    cJSON_AddNumberToObject(json, "bf16_peak_flops_per_second", engine_measure_peak(engine, ENGINE_BF16));
    cJSON_AddNumberToObject(json, "bandwidth_bytes_per_second", engine_measure_bandwidth(engine));
    engine_close(&engine);
    return KINDIT_OK;
}
