#include "base/context.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

KinditContextSettings kindit_context_settings_default(void) {
    return (KinditContextSettings){0};
}

KinditStatus kindit_context_create(KinditContext **out, const KinditContextSettings *settings) {
    if (!out) return KINDIT_ERROR_ARGUMENT;
    *out = NULL;
    if (settings && settings->threads < 0) return KINDIT_ERROR_ARGUMENT;
    *out = calloc(1, sizeof **out);
    if (!*out) return KINDIT_ERROR_MEMORY;
    if (settings) (*out)->settings = *settings;
    return KINDIT_OK;
}

void kindit_context_close(KinditContext **ctx) {
    if (!ctx) return;
    free(*ctx);
    *ctx = NULL;
}

const char *kindit_context_message(const KinditContext *ctx) {
    return ctx ? ctx->message : "";
}

KinditStatus context_fail(KinditContext *ctx, KinditStatus status, const char *format, ...) {
    if (!ctx) return status;
    char message[sizeof ctx->message]; // apart, because an argument may point into ctx->message
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    memcpy(ctx->message, message, sizeof message);
    return status;
}

KinditStatus context_prefix(KinditContext *ctx, KinditStatus status, const char *prefix) {
    return ctx ? context_fail(ctx, status, "%s: %s", prefix, ctx->message) : status;
}

void context_log(KinditContext *ctx, KinditLogLevel level, const char *format, ...) {
    if (!ctx || !ctx->settings.log) return;
    char message[sizeof ctx->message];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    ctx->settings.log(ctx->settings.user, level, message);
}

void context_progress(KinditContext *ctx, const KinditProgress *progress) {
    if (ctx && ctx->settings.progress) ctx->settings.progress(ctx->settings.user, progress);
}

bool context_cancelled(KinditContext *ctx) {
    return ctx && ctx->settings.cancelled && ctx->settings.cancelled(ctx->settings.user);
}
