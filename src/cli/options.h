// Arguments against tables of options.
#ifndef CLI_OPTIONS_H
#define CLI_OPTIONS_H

#include "cli/cli.h"

typedef struct OptionSet {
    const Option *options;
    int n;
} OptionSet;

// --threads, --quiet, --help, --version: understood anywhere on the line.
typedef struct GlobalOptions {
    int64_t threads;
    bool quiet, help, version;
} GlobalOptions;
extern GlobalOptions global_options;
OptionSet options_global(void);

OptionSet options_of(const Command *command);
const Command *command_find(const char *name); // NULL after a message that suggests the nearest
// The form of the command that `word` names, NULL when it is none.
const Command *command_find_form(const Command *command, const char *word);

// Reads argv[0..argc-1] (no program name), stores option values, and moves what is not an option to the front of argv;
// *n_positional counts those. With `stop_at_positional` reading ends at the first such argument, and *n_positional is
// its index (argc if there is none). `--name value`, `--name=value`, `-o value`; `--` ends the options. Returns
// EXIT_DONE, or EXIT_USAGE after a message.
int options_parse(const char *command, const OptionSet *sets, int n_sets, int argc, char **argv,
                  bool stop_at_positional, int *n_positional);

// Which of the candidates offered is nearest to `word`: `best` stays NULL unless one is near enough to be a slip of the
// fingers.
typedef struct Nearest {
    const char *word, *best;
    int distance;
} Nearest;
void nearest_begin(Nearest *nearest, const char *word);
void nearest_offer(Nearest *nearest, const char *candidate);

#endif
