// A user who stops the work after some polls.
#ifndef TESTS_CANCELLING_H
#define TESTS_CANCELLING_H

#include <stdbool.h>

static int polls_left;

static inline bool cancel_later(void *user) { // a context's `cancelled`
    (void)user;
    return polls_left-- <= 0;
}

#endif
