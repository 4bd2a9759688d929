// The options of a training run, for every command that trains; and what it prints in the end.
#ifndef CLI_TRAIN_OPTIONS_H
#define CLI_TRAIN_OPTIONS_H

#include "cli/cli.h"
#include "train/trainer.h"

// --data, -o, --resume, --batch ... --json.
const Option *train_options(int *n);

typedef struct TrainPlace {
    const char *data, *run; // NULL: not given
    bool resume, json;
} TrainPlace;
TrainPlace train_options_place(void);
// EXIT_DONE, or EXIT_USAGE after a message, when a new run has no --data or any has no -o.
int train_options_check(const char *command);

// The options that were given, over what `train` holds.
void train_options_apply(TrainSettings *train);
// data[] = where a resumed run's data set lies: --data, or what its record says, if it is still there.
KinditStatus train_options_data(KinditContext *ctx, char data[1024]);
// The result, as JSON with --json. Returns the exit code.
int train_options_report(const TrainResult *result);

#endif
