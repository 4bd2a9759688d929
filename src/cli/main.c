// kindit: the command line.
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "cli/help.h"
#include "cli/progress.h"

static int check_positional(const Command *command, int n, char **positional) {
    if (n < command->min_positional)
        return cli_usage(command->name, "expected: kindit %s %s", command->name, command->arguments);
    if (n > command->max_positional)
        return cli_usage(command->name, "'%s' is one argument too many; expected: kindit %s %s",
                         positional[command->max_positional], command->name, command->arguments);
    return EXIT_DONE;
}

static int run_command(const Command *command, int n, char **positional) {
    KinditContextSettings settings = kindit_context_settings_default();
    settings.threads = (int)global_options.threads;
    progress_install(&settings, global_options.quiet);
    KinditContext *ctx = NULL;
    KinditStatus status = kindit_context_create(&ctx, &settings);
    if (status) return cli_report(NULL, status);
    int code = command->run(ctx, n, positional);
    progress_finish();
    kindit_context_close(&ctx);
    if (fflush(stdout) != 0 || ferror(stdout)) {
        fprintf(stderr, "kindit: cannot write the results to standard output\n");
        if (code == EXIT_DONE) code = EXIT_FAILED;
    }
    return code;
}

static int run_line(int argc, char **argv) {
    OptionSet sets[2] = {options_global()};
    int first = 0, n = 0;
    int code = options_parse(NULL, sets, 1, argc, argv, true, &first);
    if (code) return code;
    if (global_options.version) {
        printf("kindit %s\n", KINDIT_VERSION);
        return EXIT_DONE;
    }
    if (first == argc) {
        help_overview();
        return global_options.help ? EXIT_DONE : EXIT_USAGE;
    }
    const Command *command = command_find(argv[first]);
    if (!command) return EXIT_USAGE;
    const Command *form = ++first < argc ? command_find_form(command, argv[first]) : NULL;
    if (form) {
        command = form;
        first++;
    }
    sets[1] = options_of(command);
    char **rest = argv + first;
    code = options_parse(command->name, sets, 2, argc - first, rest, false, &n);
    if (global_options.help) { // whatever else was wrong with the line
        help_command(command);
        return EXIT_DONE;
    }
    if (!code) code = check_positional(command, n, rest);
    return code ? code : run_command(command, n, rest);
}

// Threads that wait by spinning for long bring a shared machine to a halt: with two other programs running, a training
// step took 16 times as long. So they spin for microseconds only, then sleep; sleeping at once would cost 5 to 10 % of
// a small model's step. OpenMP reads how to wait once, before main, so the program starts itself anew; where that
// cannot be, it merely stays slow. Whoever sets one of the variables below knows better.
static void wait_politely(char **argv) {
    // The first three say how to wait; the others bind threads to processors, which has happened by now and
    // would leave the new program with one processor.
    static const char *const chosen[] = {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT",    "KMP_BLOCKTIME", "OMP_PROC_BIND",
                                         "OMP_PLACES",      "GOMP_CPU_AFFINITY", "KMP_AFFINITY"};
    for (size_t i = 0; i < sizeof chosen / sizeof *chosen; i++)
        if (getenv(chosen[i])) return;
    char self[4096]; // by its path rather than /proc/self/exe, which would become the program's name
    ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
    if (length <= 0 || setenv("GOMP_SPINCOUNT", "10000", 1) || setenv("KMP_BLOCKTIME", "1", 1)) return;
    self[length] = '\0';
    execv(self, argv);
}

int main(int argc, char **argv) {
    wait_politely(argv);
    return run_line(argc - 1, argv + 1);
}
