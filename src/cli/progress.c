#include "cli/progress.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/clock.h"

static struct {
    bool terminal, quiet, drawn;
    double limit;      // seconds the work may take, 0: no limit
    double last_shown; // by clock_seconds()
    char task[64];     // whose first report is below
    int64_t first_done;
    double first_seconds;
} state;

static volatile sig_atomic_t interrupted;

static void on_signal(int number) {
    (void)number;
    if (interrupted) _exit(130); // the second time: at once
    interrupted = 1;
}

static bool is_cancelled(void *user) {
    (void)user;
    return interrupted != 0;
}

void progress_finish(void) {
    if (state.drawn) fputc('\n', stderr);
    state.drawn = false;
}

void progress_limit(double seconds) {
    state.limit = seconds;
}

static void show_log(void *user, KinditLogLevel level, const char *message) {
    (void)user;
    if (state.quiet && level == KINDIT_LOG_INFO) return;
    if (state.drawn) fputs("\r\033[K", stderr);
    state.drawn = false;
    fprintf(stderr, "%s%s\n", level == KINDIT_LOG_WARNING ? "warning: " : "", message);
}

static void format_time(char out[32], double seconds) {
    long s = (long)(seconds + 0.5);
    if (s >= 3600)
        snprintf(out, 32, "%ld:%02ld:%02ld", s / 3600, s / 60 % 60, s % 60);
    else
        snprintf(out, 32, "%ld:%02ld", s / 60, s % 60);
}

// Seconds left at the rate since the first report (a resumed run does not start from nothing); negative when unknown.
static double time_left(const KinditProgress *p) {
    double done = (double)(p->done - state.first_done), seconds = p->seconds - state.first_seconds;
    double left = done > 0 && seconds > 0 ? (double)(p->total - p->done) * seconds / done : -1;
    if (state.limit > 0 && (left < 0 || left > state.limit - p->seconds)) left = state.limit - p->seconds;
    return left < 0 && state.limit > 0 ? 0 : left;
}

static int terminal_width(void) {
    struct winsize size;
    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col < 40) return 80;
    return size.ws_col;
}

static void draw_bar(const KinditProgress *p, double share, const char *tail) {
    enum { BAR = 24 };
    char bar[BAR + 1], line[512];
    int filled = (int)(share * BAR);
    memset(bar, '.', BAR);
    memset(bar, '#', (size_t)filled);
    bar[BAR] = '\0';
    snprintf(line, sizeof line, "%s [%s] %3.0f%%  %s", p->task, bar, 100 * share, tail);
    fprintf(stderr, "\r%.*s\033[K", terminal_width() - 1, line);
    fflush(stderr);
    state.drawn = true;
}

static void show_progress(void *user, const KinditProgress *p) {
    (void)user;
    if (state.quiet) return;
    double time = clock_seconds();
    bool first = strncmp(state.task, p->task, sizeof state.task - 1) != 0 || p->done < state.first_done;
    if (first) {
        progress_finish();
        snprintf(state.task, sizeof state.task, "%s", p->task);
        state.first_done = p->done;
        state.first_seconds = p->seconds;
        state.last_shown = state.terminal ? 0 : time; // a log stays silent about work that is over in ten seconds
    }
    bool last = p->done >= p->total;
    if (time - state.last_shown < (state.terminal ? 0.1 : 10) && !(last && state.drawn)) return;
    state.last_shown = time;
    double share = p->total > 0 ? (double)p->done / (double)p->total : 0;
    double left = time_left(p);
    char tail[320], eta[32] = "?", spent[32];
    if (left >= 0) format_time(eta, left);
    format_time(spent, p->seconds);
    snprintf(tail, sizeof tail, "%lld/%lld  %s%s%s, %s left", (long long)p->done, (long long)p->total,
             p->text ? p->text : "", p->text && *p->text ? "  " : "", spent, eta);
    if (state.terminal)
        draw_bar(p, share < 0 ? 0 : share > 1 ? 1 : share, tail);
    else
        fprintf(stderr, "%s %.0f%%  %s\n", p->task, 100 * share, tail);
    if (last) progress_finish();
}

void progress_install(KinditContextSettings *settings, bool quiet) {
    state.quiet = quiet;
    state.terminal = isatty(STDERR_FILENO);
    settings->log = show_log;
    settings->progress = show_progress;
    settings->cancelled = is_cancelled;
    struct sigaction action = {.sa_handler = on_signal};
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}
