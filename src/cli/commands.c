#include <stdio.h>
#include <string.h>

#include "cli/help.h"

#ifdef KINDIT_RUNTIME_ONLY // what a small device needs; cmake/runtime.cmake builds no more
const Command *const cli_commands[] = {
    &command_sample, &command_decompose, &command_assemble, &command_info, &command_help, NULL,
};
#else
const Command *const cli_commands[] = {
    &command_data,
    &command_pretrain,
    &command_adapt,
    &command_sample,
    &command_decompose,
    &command_assemble,
    &command_factorize,
    &command_merge,
    &command_export,
    &command_import,
    &command_eval,
    &command_info,
    &command_bench,
    &command_debug,
    &command_report,
    &command_help,
    NULL,
};
#endif

static struct { bool man; } settings;

static const Option *help_options(int *n) {
    static const Option options[] = {
        {"--man", NULL, OPTION_FLAG, &settings.man, NULL, NULL, 0, 0, NULL},
    };
    *n = sizeof options / sizeof *options;
    return options;
}

static int help_run(KinditContext *ctx, int n_positional, char **positional) {
    (void)ctx;
    if (settings.man) {
        help_man_page();
        return EXIT_DONE;
    }
    if (n_positional == 0) {
        help_overview();
        return EXIT_DONE;
    }
    const Command *command = command_find(positional[0]);
    if (!command) return EXIT_USAGE;
    const Command *form = n_positional > 1 ? command_find_form(command, positional[1]) : NULL;
    help_command(form ? form : command);
    return EXIT_DONE;
}

const Command *command_find(const char *name) {
    Nearest nearest;
    nearest_begin(&nearest, name);
    for (const Command *const *command = cli_commands; *command; command++) {
        if (strcmp((*command)->name, name) == 0) return *command;
        nearest_offer(&nearest, (*command)->name);
    }
    if (nearest.best)
        cli_usage(NULL, "unknown command '%s'; did you mean '%s'?", name, nearest.best);
    else
        cli_usage(NULL, "unknown command '%s'", name);
    return NULL;
}

const Command *command_find_form(const Command *command, const char *word) {
    const size_t length = strlen(command->name) + 1;
    for (const Command *const *form = command->forms; form && *form; form++)
        if (strcmp((*form)->name + length, word) == 0) return *form;
    return NULL;
}

const Command command_help = {
    .name = "help",
    .summary = "show help, of a command if one is named",
    .arguments = "[COMMAND [FORM]]",
    .examples = "kindit help sample",
    .max_positional = 2, // `help data glyphs` shows the help of data
    .options = help_options,
    .run = help_run,
};
