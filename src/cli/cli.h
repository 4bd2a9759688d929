// The command line: one table of commands, each one file cmd_<name>.c, and the small things they share.
//
// A command's help text is data: options are declared once, in a table that parses the arguments, prints
// `kindit help CMD` (a working example first) and writes the man page.
#ifndef CLI_CLI_H
#define CLI_CLI_H

#include <cjson/cJSON.h>

#include "base/context.h"

typedef enum OptionType {
    OPTION_FLAG,
    OPTION_STRING,
    OPTION_INT,
    OPTION_DOUBLE,
    OPTION_SIZE,
    OPTION_CHOICE // one of the words of `argument`, "ddpm|ddim"; the value is its index
} OptionType;

typedef struct Option {
    const char *name;  // "--n-tailor"; "-o" allowed as a second spelling in `alias`
    const char *alias; // or NULL
    OptionType type;
    void *value;          // bool *, const char **, int64_t *, double *, int64_t * (bytes), int64_t * (index); holds the
                          // default beforehand
    const char *argument; // "N", "FILE" in the help; NULL for flags
    const char *help;     // one line, default included; NULL: the option works but is not shown
    double low, high;     // inclusive range for numbers; both 0: unchecked
    bool *given;          // set when the option was on the command line; or NULL
} Option;

typedef struct Command {
    const char *name;      // of a form with its command's before it: "eval nn"
    const char *summary;   // one line
    const char *arguments; // "MODEL [options]"
    const char *examples;  // one or more full command lines, newline-separated, that work as they stand
    const char *notes;     // what the options do not say, or NULL
    int min_positional, max_positional;
    // Returns a table of options (n in *n) whose values live in static or heap memory of the command; NULL: no options.
    const Option *(*options)(int *n);
    // Exit code: 0 done, 1 failed, 2 usage, 130 interrupted.
    int (*run)(KinditContext *ctx, int n_positional, char **positional);
    const struct Command *const *forms; // NULL-terminated: what its first word makes of it, with options of their own;
                                        // or NULL
} Command;

enum { EXIT_DONE = 0, EXIT_FAILED = 1, EXIT_USAGE = 2, EXIT_INTERRUPTED = 130 };

// Each is defined in its file cmd_<name>.c (help: commands.c).
extern const Command command_data, command_pretrain, command_adapt, command_sample, command_decompose, command_assemble,
    command_factorize, command_merge, command_export, command_import, command_eval, command_info, command_bench,
    command_debug, command_report, command_help;
extern const Command *const cli_commands[]; // NULL-terminated, commands.c
// Forms of eval and bench, each in its file eval_<name>.c, bench_<name>.c.
extern const Command command_eval_nn, command_eval_stats, command_eval_activations, command_eval_train_features;
extern const Command command_bench_adapt;

// Prints the context's message to stderr and returns the exit code for `status` (ARGUMENT: 2, CANCELLED: 130, OK: 0,
// else 1).
int cli_report(KinditContext *ctx, KinditStatus status);
// Prints "kindit CMD: ..." with a hint to `kindit help CMD`; returns EXIT_USAGE.
int cli_usage(const char *command, const char *format, ...) __attribute__((format(printf, 2, 3)));
// Numbers for people; each returns `buffer`.
const char *cli_format_bytes(char buffer[32], double bytes); // "3.9 MB"
const char *cli_format_count(char buffer[32], double count); // "70.2M"
// What `--json` prints: the value, indented, on stdout. Deletes `value`; returns an exit code (NULL: out of memory).
int cli_print_json(cJSON *value);
// `text` with `\n` after at most `width` columns, each line after the first indented by `indent`, on stdout.
void cli_print_wrapped(const char *text, int indent, int width);
// out[0..na+nb-1] = a then b: commands that share options join tables. Returns na + nb.
int cli_join_options(Option *out, const Option *a, int na, const Option *b, int nb);

#endif
