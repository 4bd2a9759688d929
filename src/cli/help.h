// Help for people, written from the tables of commands and options.
#ifndef CLI_HELP_H
#define CLI_HELP_H

#include "cli/options.h"

void help_overview(void);
void help_command(const Command *command); // examples first, then arguments, options, notes
void help_man_page(void);                  // kindit.1, in man(7) macros

#endif
