// The options that say how images are drawn, for every command that draws.
#ifndef CLI_SAMPLE_OPTIONS_H
#define CLI_SAMPLE_OPTIONS_H

#include "cli/cli.h"

// --classes, --sampler, --steps, ... --keep-label-rows.
const Option *sample_options(int *n);
bool sample_options_given(void); // was any of them on the command line?
// EXIT_DONE, or EXIT_USAGE after a message about options that do not go together.
int sample_options_check(const char *command);

// What they say; n_per_class is the caller's to set.
KinditSampleSettings sample_options_settings(void);
// The same, without classes, batch and what does not change an image's meaning, as keys of `json`.
void sample_options_add_json(cJSON *json);

#endif
