#include "cli/help.h"

#include <stdio.h>
#include <string.h>

enum { HELP_WIDTH = 100, HELP_COLUMN = 30 };

static const char *const about = "decomposable diffusion transformers: one learngene, a tailor for each class";
static const char *const about_exit =
    "0 done, 1 failed, 2 wrong usage, 130 interrupted (what was promised to be kept is kept)";

void cli_print_wrapped(const char *text, int indent, int width) {
    int column = indent;
    while (*text) {
        int length = (int)strcspn(text, " \n");
        printf("%.*s", length, text);
        column += length;
        text += length;
        if (!*text) return;
        int next = (int)strcspn(text + 1, " \n");
        if (*text == '\n' || column + 1 + next > width) {
            printf("\n%*s", indent, "");
            column = indent;
        } else {
            putchar(' ');
            column++;
        }
        text++;
    }
}

static void print_option(const Option *option) {
    if (!option->help) return;
    char left[128];
    snprintf(left, sizeof left, "%s%s%s%s%s", option->name, option->alias ? ", " : "",
             option->alias ? option->alias : "", option->argument ? " " : "", option->argument ? option->argument : "");
    printf("  %-*s", HELP_COLUMN - 2, left);
    if (strlen(left) > HELP_COLUMN - 4) printf("\n%*s", HELP_COLUMN, "");
    cli_print_wrapped(option->help, HELP_COLUMN, HELP_WIDTH);
    putchar('\n');
}

static void print_options(const char *title, OptionSet set) {
    if (!set.n) return;
    printf("\n%s:\n", title);
    for (int i = 0; i < set.n; i++) print_option(&set.options[i]);
}

// Each line of `text` after `prefix`.
static void print_lines(const char *text, const char *prefix) {
    while (*text) {
        int length = (int)strcspn(text, "\n");
        printf("%s%.*s\n", prefix, length, text);
        text += length + (text[length] != '\0');
    }
}

void help_overview(void) {
    printf("kindit - %s\n\nExamples:\n", about);
    print_lines("kindit sample models/letters.safetensors --classes A,B,7 --n 8 --sampler ddim --steps 25 -o grid.png\n"
                "kindit decompose models/letters.safetensors -o parts\n"
                "kindit assemble parts --classes A,B -o small.safetensors\n"
                "kindit info small.safetensors\n"
                "kindit help sample",
                "  ");
    printf("\nUsage: kindit COMMAND [arguments]\n\nCommands:\n");
    for (const Command *const *command = cli_commands; *command; command++)
        printf("  %-11s %s\n", (*command)->name, (*command)->summary);
    print_options("Options of every command", options_global());
    printf("\nExit codes: %s.\n", about_exit);
}

void help_command(const Command *command) {
    printf("kindit %s - %s\n\nExamples:\n", command->name, command->summary);
    print_lines(command->examples, "  ");
    printf("\nUsage: kindit %s %s\n", command->name, command->arguments);
    print_options("Options", options_of(command));
    print_options("Options of every command", options_global());
    if (command->forms) printf("\nForms, with options of their own:\n");
    for (const Command *const *form = command->forms; form && *form; form++)
        printf("  kindit help %-22s %s\n", (*form)->name, (*form)->summary);
    if (command->notes) {
        printf("\nNotes:\n  ");
        cli_print_wrapped(command->notes, 2, HELP_WIDTH);
        putchar('\n');
    }
}

// Text for roff: '-' and '\' escaped, and no line that starts like a request.
static void print_roff(const char *text) {
    for (const char *c = text; *c; c++) {
        if (*c == '\\')
            printf("\\e");
        else if (*c == '-')
            printf("\\-");
        else if ((*c == '.' || *c == '\'') && (c == text || c[-1] == '\n'))
            printf("\\&%c", *c);
        else
            putchar(*c);
    }
    putchar('\n');
}

static void print_roff_options(OptionSet set) {
    for (int i = 0; i < set.n; i++) {
        const Option *option = &set.options[i];
        if (!option->help) continue;
        char left[160];
        snprintf(left, sizeof left, ".B %s%s%s", option->name, option->alias ? ", " : "",
                 option->alias ? option->alias : "");
        printf(".TP\n.B ");
        print_roff(left + 3);
        if (option->argument) {
            printf(".I ");
            print_roff(option->argument);
            printf(".br\n");
        }
        print_roff(option->help);
    }
}

static void print_roff_examples(const char *examples) {
    printf(".PP\n.nf\n.RS\n");
    print_roff(examples);
    printf(".RE\n.fi\n");
}

static void print_roff_command(const Command *command) {
    printf(".SS kindit %s %s\n", command->name, command->arguments);
    print_roff(command->summary);
    print_roff_examples(command->examples);
    print_roff_options(options_of(command));
    if (command->notes) {
        printf(".PP\n");
        print_roff(command->notes);
    }
}

void help_man_page(void) {
    printf(".TH KINDIT 1 \"\" \"kindit %s\" \"User Commands\"\n.SH NAME\nkindit \\- %s\n", KINDIT_VERSION, about);
    printf(".SH SYNOPSIS\n.B kindit\n.I COMMAND\n[arguments]\n.SH OPTIONS OF EVERY COMMAND\n");
    print_roff_options(options_global());
    printf(".SH COMMANDS\n");
    for (const Command *const *command = cli_commands; *command; command++) {
        print_roff_command(*command);
        for (const Command *const *form = (*command)->forms; form && *form; form++) print_roff_command(*form);
    }
    printf(".SH EXIT STATUS\n%s.\n", about_exit);
}
