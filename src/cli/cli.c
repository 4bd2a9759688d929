// What the commands share: how they report, and how they print numbers.
#include "cli/cli.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "cli/progress.h"

int cli_report(KinditContext *ctx, KinditStatus status) {
    if (status == KINDIT_OK) return EXIT_DONE;
    progress_finish();
    const char *message = kindit_context_message(ctx);
    fprintf(stderr, "kindit: %s\n", *message ? message : status == KINDIT_CANCELLED ? "interrupted" : "failed");
    return status == KINDIT_ERROR_ARGUMENT ? EXIT_USAGE : status == KINDIT_CANCELLED ? EXIT_INTERRUPTED : EXIT_FAILED;
}

int cli_usage(const char *command, const char *format, ...) {
    progress_finish();
    fprintf(stderr, "kindit%s%s: ", command ? " " : "", command ? command : "");
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fprintf(stderr, "\nTry 'kindit help%s%s'.\n", command ? " " : "", command ? command : "");
    return EXIT_USAGE;
}

static const char *format_scaled(char buffer[32], double value, const char *const units[5], const char *space) {
    int unit = 0;
    while (unit < 4 && fabs(value) >= 999.5) {
        value /= 1000;
        unit++;
    }
    snprintf(buffer, 32, "%.*f%s%s",
             unit == 0 || fabs(value) >= 99.95 ? 0
             : fabs(value) >= 9.995            ? 1
                                               : 2,
             value, space, units[unit]);
    return buffer;
}

const char *cli_format_bytes(char buffer[32], double bytes) {
    static const char *const units[5] = {"bytes", "kB", "MB", "GB", "TB"};
    return format_scaled(buffer, bytes, units, " ");
}

const char *cli_format_count(char buffer[32], double count) {
    static const char *const units[5] = {"", "k", "M", "G", "T"};
    return format_scaled(buffer, count, units, "");
}

int cli_print_json(cJSON *value) {
    char *text = value ? cJSON_Print(value) : NULL;
    cJSON_Delete(value);
    if (!text) {
        fprintf(stderr, "kindit: out of memory\n");
        return EXIT_FAILED;
    }
    puts(text);
    cJSON_free(text);
    return EXIT_DONE;
}

int cli_join_options(Option *out, const Option *a, int na, const Option *b, int nb) {
    memcpy(out, a, (size_t)na * sizeof *a);
    memcpy(out + na, b, (size_t)nb * sizeof *b);
    return na + nb;
}
