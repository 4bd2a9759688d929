#include "cli/share.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"

// The folder of the running program, "" where the system does not say.
static void program_folder(char out[1024]) {
    const ssize_t length = readlink("/proc/self/exe", out, 1023);
    out[length > 0 ? length : 0] = '\0';
    char *slash = strrchr(out, '/');
    if (slash) *slash = '\0';
}

KinditStatus share_find(char out[1024], KinditContext *ctx, const char *name) {
    const char *chosen = getenv("KINDIT_SHARE");
    char program[1024];
    if (chosen) {
        TRY(file_path(out, ctx, "%s/%s", chosen, name));
        if (file_exists(out)) return KINDIT_OK;
        return context_fail(ctx, KINDIT_ERROR_IO, "%s: no such file, and KINDIT_SHARE says that it is there", out);
    }
    program_folder(program);
    TRY(file_path(out, ctx, "%s/../share/kindit/%s", program, name));
    if (file_exists(out)) return KINDIT_OK;
    TRY(file_path(out, ctx, "%s/../models/%s", program, name));
    if (file_exists(out)) return KINDIT_OK;
    return context_fail(ctx, KINDIT_ERROR_IO,
                        "%s is neither in %.400s/../share/kindit nor in %.400s/../models; KINDIT_SHARE may name the "
                        "folder that it is in",
                        name, program, program);
}
