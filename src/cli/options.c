#include "cli/options.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kind/budget.h"

GlobalOptions global_options;

OptionSet options_global(void) {
    static const Option options[] = {
        {"--threads", NULL, OPTION_INT, &global_options.threads, "N",
         "threads to use (default: OMP_NUM_THREADS, or all processors)", 1, 1024, NULL},
        {"--quiet", "-q", OPTION_FLAG, &global_options.quiet, NULL,
         "no progress and no log, only results, warnings and errors", 0, 0, NULL},
        {"--help", "-h", OPTION_FLAG, &global_options.help, NULL, "show help, of the command if one is named", 0, 0,
         NULL},
        {"--version", NULL, OPTION_FLAG, &global_options.version, NULL, "show the version", 0, 0, NULL},
    };
    return (OptionSet){options, sizeof options / sizeof *options};
}

OptionSet options_of(const Command *command) {
    OptionSet set = {0};
    if (command->options) set.options = command->options(&set.n);
    return set;
}

static int minimum(int a, int b) {
    return a < b ? a : b;
}

// Edit distance in which a swap of neighbours counts once; words beyond 63 letters are as far as can be.
static int edit_distance(const char *a, const char *b) {
    int n = (int)strlen(a), m = (int)strlen(b);
    int rows[3][64];
    if (n > 63 || m > 63) return 64;
    for (int j = 0; j <= m; j++) rows[0][j] = j;
    for (int i = 1; i <= n; i++) {
        int *now = rows[i % 3], *before = rows[(i + 2) % 3], *two_before = rows[(i + 1) % 3];
        now[0] = i;
        for (int j = 1; j <= m; j++) {
            int replace = before[j - 1] + (a[i - 1] != b[j - 1]);
            now[j] = minimum(replace, minimum(before[j], now[j - 1]) + 1);
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                now[j] = minimum(now[j], two_before[j - 2] + 1);
        }
    }
    return rows[n % 3][m];
}

void nearest_begin(Nearest *nearest, const char *word) {
    *nearest = (Nearest){.word = word, .distance = 1 + minimum(2, (int)strlen(word) / 2)};
}

void nearest_offer(Nearest *nearest, const char *candidate) {
    bool begun = strncmp(candidate, nearest->word, strlen(nearest->word)) == 0; // `--pre` for `--preset`
    int distance = begun ? 1 : edit_distance(nearest->word, candidate);
    if (distance >= nearest->distance) return;
    nearest->distance = distance;
    nearest->best = candidate;
}

static bool spelled(const char *spelling, const char *word, size_t length) {
    return spelling && strlen(spelling) == length && strncmp(spelling, word, length) == 0;
}

static const Option *find_option(const OptionSet *sets, int n_sets, const char *word, size_t length) {
    for (int s = 0; s < n_sets; s++)
        for (int i = 0; i < sets[s].n; i++) {
            const Option *option = &sets[s].options[i];
            if (spelled(option->name, word, length) || spelled(option->alias, word, length)) return option;
        }
    return NULL;
}

static int fail_unknown(const char *command, const OptionSet *sets, int n_sets, const char *word, size_t length) {
    char name[64];
    snprintf(name, sizeof name, "%.*s", (int)minimum((int)length, 63), word);
    Nearest nearest;
    nearest_begin(&nearest, name);
    for (int s = 0; s < n_sets; s++)
        for (int i = 0; i < sets[s].n; i++)
            if (sets[s].options[i].help) nearest_offer(&nearest, sets[s].options[i].name);
    if (nearest.best) return cli_usage(command, "unknown option '%s'; did you mean '%s'?", name, nearest.best);
    return cli_usage(command, "unknown option '%s'", name);
}

static bool out_of_range(const Option *option, double value) {
    return (option->low != 0 || option->high != 0) && !(value >= option->low && value <= option->high);
}

static int fail_range(const char *command, const Option *option, const char *kind, const char *text) {
    if (option->low == 0 && option->high == 0)
        return cli_usage(command, "%s expects %s, found '%s'", option->name, kind, text);
    return cli_usage(command, "%s expects %s from %.10g to %.10g, found '%s'", option->name, kind, option->low,
                     option->high, text);
}

static int store_int(const char *command, const Option *option, const char *text) {
    char *end;
    errno = 0;
    long long value = strtoll(text, &end, 10);
    if (errno || end == text || *end || out_of_range(option, (double)value))
        return fail_range(command, option, "a whole number", text);
    *(int64_t *)option->value = value;
    return EXIT_DONE;
}

static int store_double(const char *command, const Option *option, const char *text) {
    char *end;
    double value = strtod(text, &end);
    if (end == text || *end || !isfinite(value) || out_of_range(option, value))
        return fail_range(command, option, "a number", text);
    *(double *)option->value = value;
    return EXIT_DONE;
}

static int store_choice(const char *command, const Option *option, const char *text) {
    const char *word = option->argument;
    for (int64_t i = 0;; i++) {
        size_t length = strcspn(word, "|");
        if (spelled(text, word, length)) {
            *(int64_t *)option->value = i;
            return EXIT_DONE;
        }
        if (!word[length]) break;
        word += length + 1;
    }
    return cli_usage(command, "%s expects one of %s, found '%s'", option->name, option->argument, text);
}

static int store_value(const char *command, const Option *option, const char *text) {
    if (option->type == OPTION_STRING && !*text) // an unset variable of a script, rather than a wish
        return cli_usage(command, "%s expects a value (%s), found ''", option->name, option->argument);
    switch (option->type) {
    case OPTION_FLAG: *(bool *)option->value = true; return EXIT_DONE;
    case OPTION_STRING: *(const char **)option->value = text; return EXIT_DONE;
    case OPTION_INT: return store_int(command, option, text);
    case OPTION_DOUBLE: return store_double(command, option, text);
    case OPTION_SIZE:
        if (budget_parse_size(NULL, text, option->value) == KINDIT_OK) return EXIT_DONE;
        return cli_usage(command, "%s expects a size such as 4MB, 3.5MiB or 123456, found '%s'", option->name, text);
    case OPTION_CHOICE: return store_choice(command, option, text);
    }
    return EXIT_USAGE;
}

// Takes the option at argv[*i] and its value, moving *i to the last argument used.
static int take_option(const char *command, const OptionSet *sets, int n_sets, int argc, char **argv, int *i) {
    const char *word = argv[*i];
    size_t length = word[1] == '-' ? strcspn(word, "=") : strlen(word);
    const Option *option = find_option(sets, n_sets, word, length);
    if (!option) return fail_unknown(command, sets, n_sets, word, length);
    const char *text = word[length] ? word + length + 1 : NULL;
    if (option->type == OPTION_FLAG) {
        if (text) return cli_usage(command, "%s takes no value, found '%s'", option->name, text);
    } else if (!text) {
        if (*i + 1 >= argc) return cli_usage(command, "%s expects a value (%s)", option->name, option->argument);
        text = argv[++*i];
    }
    if (option->given) *option->given = true;
    return store_value(command, option, text);
}

int options_parse(const char *command, const OptionSet *sets, int n_sets, int argc, char **argv,
                  bool stop_at_positional, int *n_positional) {
    int n = 0;
    bool only_positional = false;
    for (int i = 0; i < argc; i++) {
        if (only_positional || argv[i][0] != '-' || !argv[i][1]) {
            if (stop_at_positional) {
                *n_positional = i;
                return EXIT_DONE;
            }
            argv[n++] = argv[i];
        } else if (strcmp(argv[i], "--") == 0) {
            only_positional = true;
        } else {
            int code = take_option(command, sets, n_sets, argc, argv, &i);
            if (code) return code;
        }
    }
    *n_positional = stop_at_positional ? argc : n;
    return EXIT_DONE;
}
