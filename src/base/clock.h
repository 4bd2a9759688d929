// Time for rates and limits.
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

// Seconds of a clock that never jumps; only differences mean anything.
double clock_seconds(void);

#endif
