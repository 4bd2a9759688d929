// What a person sees of long work, and how they stop it.
#ifndef CLI_PROGRESS_H
#define CLI_PROGRESS_H

#include "base/context.h"

// Callbacks for a context. On a terminal: a bar with rate and time left, redrawn in place; elsewhere: a line every ten
// seconds. Both on stderr, so that stdout carries results alone.
void progress_install(KinditContextSettings *settings, bool quiet);
// Ends a bar that is being drawn; before anything else is printed.
void progress_finish(void);
// Work that will stop after so many seconds, done or not: the time left never says more.
void progress_limit(double seconds);

#endif
