#include "model/model_run.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"

KinditStatus model_run_path(char out[1024], KinditContext *ctx, const char *run, int64_t step) {
    return file_path(out, ctx, "%s/checkpoints/step-%" PRId64, run, step);
}

int64_t model_run_step(const char *name) {
    if (strncmp(name, "step-", 5) != 0 || name[5] < '0' || name[5] > '9') return -1;
    if (name[5] == '0' && name[6] != '\0') return -1; // not a name that we write
    char *end;
    errno = 0;
    long long step = strtoll(name + 5, &end, 10);
    return *end == '\0' && errno == 0 ? step : -1;
}

KinditStatus model_run_visit(KinditContext *ctx, const char *run, ModelRunVisit *visit, void *data) {
    char folder[1024], path[1024];
    TRY(file_path(folder, ctx, "%s/checkpoints", run));
    DIR *names = opendir(folder);
    if (!names && errno == ENOENT) return KINDIT_OK;
    if (!names) return context_fail(ctx, KINDIT_ERROR_IO, "%s: cannot list: %s", folder, strerror(errno));
    KinditStatus status = KINDIT_OK;
    for (struct dirent *entry; !status && (entry = readdir(names));) {
        status = file_path(path, ctx, "%s/%s", folder, entry->d_name);
        if (!status && file_is_folder(path)) status = visit(ctx, entry->d_name, path, data);
    }
    closedir(names);
    return status;
}

static KinditStatus keep_newest(KinditContext *ctx, const char *name, const char *path, void *newest) {
    (void)ctx, (void)path;
    int64_t step = model_run_step(name);
    if (step > *(int64_t *)newest) *(int64_t *)newest = step;
    return KINDIT_OK;
}

KinditStatus model_run_newest(KinditContext *ctx, const char *run, int64_t *step) {
    *step = -1;
    return model_run_visit(ctx, run, keep_newest, step);
}
