// The context: the one place where a failure leaves its message and long work finds its callbacks.
#ifndef BASE_CONTEXT_H
#define BASE_CONTEXT_H

#include "kindit/kindit.h"

struct KinditContext {
    KinditContextSettings settings;
    char message[1024];
};

// Returns `status` after keeping the printf-formatted message in `ctx` (which may be NULL: the message is then lost).
// Use: `return context_fail(ctx, KINDIT_ERROR_FORMAT, "%s: expected ..., found ...", path, ...);`
KinditStatus context_fail(KinditContext *ctx, KinditStatus status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

// Puts "prefix: " before the message of a failure that just happened and returns `status` unchanged.
KinditStatus context_prefix(KinditContext *ctx, KinditStatus status, const char *prefix);

// Sends a line to the log callback, if there is one.
void context_log(KinditContext *ctx, KinditLogLevel level, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

void context_progress(KinditContext *ctx, const KinditProgress *progress);
bool context_cancelled(KinditContext *ctx);

// Hands a failure to the caller at once; for functions that hold nothing to free.
#define TRY(expression)                                                                                                \
    do {                                                                                                               \
        KinditStatus try_status_ = (expression);                                                                       \
        if (try_status_ != KINDIT_OK) return try_status_;                                                              \
    } while (0)

#endif
